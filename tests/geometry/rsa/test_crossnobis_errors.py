"""Standard errors of crossnobis distances: definition, known variance, calibration on unequal trials."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.geometry.rsa import rdm
from geomfeat.geometry.rsa.crossnobis import crossnobis_distances
from geomfeat.geometry.rsa.crossnobis_errors import distance_errors
from geomfeat.numerics import stream
from tests.reference.rsa import crossnobis_errors_by_pairs


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "crossnobis errors", *shape), dtype=torch.float64)


@pytest.mark.parametrize("d", [3, 40])
def test_errors_equal_their_definition(d: int, device: str) -> None:
    counts = np.random.default_rng(0).integers(0, 4, (5, 4))
    counts[:2] += 1
    run, condition = (np.repeat(i.ravel(), counts.ravel()) for i in np.indices(counts.shape))
    x = draw(len(run), d) @ draw(d, d, seed=1) + draw(4, d)[condition]
    found = rdm(x.to(device), condition, dissimilarity="crossnobis", runs=run, errors=True)
    expected = crossnobis_errors_by_pairs(x.numpy(), condition, run)
    np.testing.assert_allclose(found.stderr[0].cpu(), expected, rtol=1e-8)


def test_errors_follow_a_precision_as_if_the_patterns_were_whitened() -> None:
    condition, run = np.tile(range(4), 5), np.repeat(range(5), 4)
    x, root = draw(20, 3), draw(3, 3, seed=1)
    values, vectors = torch.linalg.eigh(root @ root.T)
    half = (vectors * values.sqrt()) @ vectors.T
    given = {"dissimilarity": "crossnobis", "runs": run, "errors": True}
    found = rdm(x, condition, precision=root @ root.T, **given)
    torch.testing.assert_close(found.stderr, rdm(x @ half, condition, **given).stderr)


@pytest.mark.parametrize("distance", [0.0, 1.0])
@pytest.mark.parametrize("equal", [True, False])
def test_errors_are_the_spread_of_repeated_experiments(distance: float, equal: bool) -> None:
    """Correlated units, effects of runs, trials of 1 or 8: the mean squared error said is the variance found.

    Near 0 it is larger by less than a quarter, since no squared length of a signal is below 0.
    """
    n_runs, n, d, repeats = 6, 5, 12, 600
    counts = torch.ones(n_runs, n, dtype=torch.float64)
    if not equal:
        counts = torch.from_numpy(np.random.default_rng(0).choice([0.0, 1.0, 8.0], (n_runs, n), p=[0.1, 0.5, 0.4]))
    mixing = torch.linalg.qr(draw(d, d)).Q * torch.linspace(0.3, 2, d)
    means = draw(repeats, n_runs, n, d) @ mixing.T / counts.clamp_min(1).sqrt()[..., None]
    means = (means + distance * draw(n, d) + 3 * draw(repeats, n_runs, 1, d)) * (counts > 0)[..., None]
    found = crossnobis_distances(means, counts)
    said = torch.stack([distance_errors(one, counts) for one in means])
    ratio = (said.square().mean(0) / found.var(0)).sqrt()
    # The spread of 600 repeats is known to 3 percent.
    low, high = (0.97, 1.25) if distance == 0 else (0.96, 1.04)
    assert low < float(ratio.mean()) < high
    assert low - 0.1 < float(ratio.min()) < float(ratio.max()) < high + 0.1


def test_two_runs_of_two_conditions_leave_no_error() -> None:
    found = rdm(draw(4, 3), [0, 1, 0, 1], dissimilarity="crossnobis", runs=[0, 0, 1, 1], errors=True)
    assert bool(found.stderr.isnan().all())
    assert "fewer than 2 degrees of freedom" in found.notes[0]
    assert bool(found.vectors.isfinite().all())
