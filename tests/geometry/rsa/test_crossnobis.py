"""Crossnobis of unequal trials and missing cells: definitions, bias, error beside equal weights, notes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.geometry.rsa import noise_precision_by_run, rdm
from geomfeat.geometry.rsa.crossnobis import cell_means, crossnobis_distances, pair_weights, sum_of_products
from geomfeat.geometry.rsa.given_precision import whitened
from geomfeat.numerics import stream
from tests.reference.rsa import crossnobis_by_products

N_CONDITIONS, N_RUNS, D = 5, 6, 10


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "crossnobis", *shape), dtype=torch.float64)


def cells_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(conditions, runs) of the trials: counts (runs, conditions) of each."""
    run, condition = np.indices(counts.shape)
    return np.repeat(condition.ravel(), counts.ravel()), np.repeat(run.ravel(), counts.ravel())


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 4))
def test_unequal_and_missing_cells_equal_the_definition(seed: int, most: int) -> None:
    counts = np.random.default_rng(seed).integers(0, most + 1, (4, 5))
    counts[:2] = np.maximum(counts[:2], 1)  # every pair has two runs
    conditions, runs = cells_of(counts)
    x = draw(len(runs), 6, seed=seed) + 100 * draw(4, 1, 6)[runs, 0]  # large effects of runs drop out
    root = draw(6, 6)
    precision = (root @ root.T).numpy()
    full = rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=precision)
    np.testing.assert_allclose(
        full.vectors[0], crossnobis_by_products(x.numpy(), conditions, runs, precision), rtol=1e-8, atol=1e-8
    )
    diagonal = np.diag(precision)
    found = rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=diagonal).vectors[0]
    expected = crossnobis_by_products(x.numpy(), conditions, runs, np.diag(diagonal))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_trials_of_1_or_8_cost_less_error_than_with_equal_weights() -> None:
    """White noise of variance 1 / n: products of runs have the variance 1 / (w_r w_s), so that weights by counts leave
    2 / T and equal ones 2 sum 1 / (w_r w_s) / (R (R - 1))^2; rms .218 and .290 over all draws of trials."""
    generator = np.random.default_rng(0)
    by_counts, equal, expected = [], [], []
    for seed in range(400):
        counts = torch.from_numpy(generator.choice([1.0, 8.0], (N_RUNS, N_CONDITIONS)))
        means = draw(N_RUNS, N_CONDITIONS, D, seed=seed) / counts.sqrt()[..., None]
        by_counts.append(crossnobis_distances(means, counts) * D**0.5)
        equal.append(crossnobis_distances(means, torch.ones_like(counts)) * D**0.5)
        expected.append(2 / sum_of_products(pair_weights(counts)))
    by_counts, equal = torch.stack(by_counts), torch.stack(equal)
    assert abs(float(by_counts.mean())) < 4 * float(by_counts.mean(1).std()) / 20
    error = float(by_counts.square().mean().sqrt())
    assert error == pytest.approx(float(torch.stack(expected).mean().sqrt()), rel=0.05)
    assert error == pytest.approx(0.218, rel=0.1)
    assert float(equal.square().mean().sqrt()) == pytest.approx(0.290, rel=0.1)


def test_true_distances_are_found_without_bias_with_missing_cells() -> None:
    patterns = draw(N_CONDITIONS, D)
    truth = rdm(patterns).vectors[0]
    counts = np.random.default_rng(1).integers(0, 4, (N_RUNS, N_CONDITIONS))
    conditions, runs = cells_of(counts)
    found = torch.stack([
        rdm(
            patterns[conditions] + draw(len(runs), D, seed=s) + draw(N_RUNS, D, seed=s)[runs], conditions,
            dissimilarity="crossnobis", runs=runs,
        ).vectors[0]
        for s in range(200)
    ])  # fmt: skip
    assert bool(((found.mean(0) - truth).abs() < 4.5 * found.std(0) / 200**0.5).all())


def test_pairs_without_two_runs_are_nan_and_counted() -> None:
    conditions, runs = list("abcdabcabd"), [0] * 4 + [1] * 3 + [2] * 3
    found = rdm(draw(10, 4), conditions, dissimilarity="crossnobis", runs=runs)
    # c is in runs 0 and 1, d in runs 0 and 2: they share run 0 alone.
    assert found.matrices[0].isnan().nonzero().tolist() == [[2, 3], [3, 2]]
    assert "2 of 12 conditions in runs have no trial (the first: 'd' in run 1)" in found.notes[0]
    assert "1 of 6 pairs have no distance (NaN)" in found.notes[1]
    assert "'c' and 'd'" in found.notes[1]
    whole = rdm(draw(8, 4), list("abcd" * 2), dissimilarity="crossnobis", runs=[0] * 4 + [1] * 4)
    assert whole.notes == ()


def test_batches_of_patterns_are_taken_at_once(device: str) -> None:
    for counts in (torch.ones(3, 4), torch.tensor([[1.0, 2, 3, 4], [2, 2, 2, 0], [1, 1, 5, 1]])):
        counts = counts.double().to(device)
        means = draw(2, 3, 4, 5).to(device) * (counts > 0)[..., None]
        together = crossnobis_distances(means, counts)
        for one, expected in zip(means, together, strict=True):
            torch.testing.assert_close(crossnobis_distances(one, counts), expected)


def test_each_run_is_whitened_by_its_own_precision() -> None:
    conditions, runs = np.tile(np.repeat(range(4), 3), 3), np.repeat(range(3), 12)
    x = draw(36, 5) * torch.tensor([1.0, 10.0, 100.0])[runs, None]  # gains of the runs
    own = noise_precision_by_run(x, conditions, runs)
    found = rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=own)
    moved = torch.stack([whitened(row, own[run]) for row, run in zip(x, runs.tolist(), strict=True)])
    expected = rdm(moved, conditions, dissimilarity="crossnobis", runs=runs)
    torch.testing.assert_close(found.vectors, expected.vectors)
    same = rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=dict.fromkeys(range(3), own[1]))
    torch.testing.assert_close(
        same.vectors, rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=own[1]).vectors
    )


def test_cells_hold_means_and_counts() -> None:
    means, counts = cell_means(
        torch.tensor([[1.0], [3.0], [5.0]]).double(), torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), 2, 2
    )
    assert means[..., 0].tolist() == [[0, 5], [2, 0]]
    assert counts.tolist() == [[0, 1], [2, 0]]
