"""Noise ceilings: definitions, known answers, what they bound."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, compare_rdms, noise_ceiling, rdm, stack_rdms
from geomfeat.geometry.rsa._noise_ceiling import ceilings_per_subject
from geomfeat.geometry.rsa.compare import COMPARATORS
from geomfeat.numerics import stream
from tests.reference.rsa import best_rdm, ceiling_by_loop, resampled, similarity


def subjects(k: int, n: int, noise: float, seed: int = 0) -> RDMs:
    g = stream(seed, "ceiling", k, n)
    pairs = n * (n - 1) // 2
    truth = torch.rand(pairs, generator=g, dtype=torch.float64) + 1
    return RDMs(truth + noise * torch.randn(k, pairs, generator=g, dtype=torch.float64))


@pytest.mark.parametrize("comparator", COMPARATORS[:-1])
def test_ceilings_equal_their_definitions(comparator: str, device: str) -> None:
    data = subjects(4, 7, 0.3)
    found = noise_ceiling(RDMs(data.vectors.to(device)), comparator)
    lower, upper = ceiling_by_loop(data.vectors.numpy(), comparator)
    assert found.lower == pytest.approx(lower, rel=1e-10)
    assert found.upper == pytest.approx(upper, rel=1e-10)
    # In a sample of the stimuli too: pooled and ranked again on the pairs that there are.
    stimuli = [0, 0, 2, 3, 3, 4, 6]
    counts = torch.bincount(torch.tensor(stimuli), minlength=7)[None].double()
    low, high = ceilings_per_subject(data.vectors, comparator, counts)
    sampled = np.stack([resampled(m.numpy(), stimuli) for m in data.matrices])
    everyone = range(4)
    for k in everyone:
        rest = best_rdm(sampled[[j for j in everyone if j != k]], comparator)
        assert float(low[0, k]) == pytest.approx(similarity(rest, sampled[k], comparator), rel=1e-10)
        assert float(high[0, k]) == pytest.approx(
            similarity(best_rdm(sampled, comparator), sampled[k], comparator), rel=1e-10
        )


@pytest.mark.parametrize("comparator", [c for c in COMPARATORS if c != "kendall_tau_a"])
def test_no_rdm_exceeds_the_upper_ceiling(comparator: str) -> None:
    data = subjects(3, 5, 0.4)
    ceiling = noise_ceiling(data, comparator)
    assert ceiling.lower < ceiling.upper < 1
    g = stream(1, "others")
    near = data.vectors.mean(0) + 0.2 * torch.randn(3000, 10, generator=g, dtype=torch.float64)
    others = torch.cat([near, data.vectors])
    best = float(compare_rdms(RDMs(others), data, comparator).mean(1).max())
    assert best <= ceiling.upper + 1e-12
    assert best > ceiling.upper - 0.05


def test_the_whitened_upper_ceiling_is_the_mean_of_whitened_units() -> None:
    data = subjects(4, 6, 0.4)
    gram = compare_rdms(data, data, "whitened_cosine")
    assert noise_ceiling(data, "whitened_cosine").upper == pytest.approx(float(gram.sum().sqrt()) / 4, rel=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_subjects_that_agree_have_a_ceiling_of_one(comparator: str) -> None:
    data = RDMs(subjects(1, 6, 0.0).vectors.repeat(3, 1) * torch.tensor([[1.0], [2], [5]]))
    found = noise_ceiling(data, comparator)
    assert (found.lower, found.upper) == (pytest.approx(1), pytest.approx(1))


def test_the_true_model_lies_between_on_average() -> None:
    inside = []
    for seed in range(40):
        data = subjects(6, 10, 0.5, seed)
        g = stream(seed, "ceiling", 6, 10)
        truth = RDMs(torch.rand(45, generator=g, dtype=torch.float64) + 1)
        ceiling = noise_ceiling(data, "correlation", n_permutations=0)
        value = float(compare_rdms(truth, data, "correlation").mean())
        inside.append((value - ceiling.lower, ceiling.upper - value))
    below, above = np.array(inside).T
    assert below.mean() > 4 * below.std() / 40**0.5
    assert above.min() > 0


def test_one_subject_has_no_lower_ceiling() -> None:
    for comparator in COMPARATORS:
        found = noise_ceiling(subjects(1, 6, 0.3), comparator)
        assert math.isnan(found.lower)
        assert found.upper == pytest.approx(1)
        assert "one subject" in found.notes[0]
    assert "mean ranks" in noise_ceiling(subjects(3, 6, 0.3), "kendall_tau_a").notes[0]
    with pytest.raises(BadInput, match="comparator='tau'"):
        noise_ceiling(subjects(3, 6, 0.3), "tau")


@pytest.mark.parametrize("comparator", ["spearman", "correlation"])
def test_a_constant_subject_is_named(comparator: str) -> None:
    vectors = subjects(4, 10, 0.3).vectors.clone()
    vectors[1] = 1.0
    data = RDMs(vectors, names=("ann", "ben", "cid", "dora"))
    with pytest.raises(BadInput, match=r"undefined for 1 of 4 subjects \(ben\).*constant"):
        noise_ceiling(data, comparator)
    # Ties broken at random: no correlation of its own, so others lose a quarter of theirs.
    assert math.isfinite(noise_ceiling(data, "rho_a").upper)


@pytest.mark.parametrize("comparator", ["spearman", "kendall_tau_a", "rho_a", "correlation", "cosine"])
def test_samples_in_which_a_subject_is_constant_are_undefined_or_defined_alike_each_time(comparator: str) -> None:
    """Only pairs of stimulus 0 differ in one subject's RDM: samples without stimulus 0 see a constant one."""
    vectors = subjects(4, 8, 0.3).vectors.clone()
    vectors[1] = 1.0
    vectors[1, :7] = torch.linspace(1, 2, 7, dtype=torch.float64)
    counts = torch.ones(6, 8, dtype=torch.float64)
    counts[1, 0], counts[1, 1] = 0, 2
    counts[4, 0], counts[4, 5] = 0, 2
    first = ceilings_per_subject(vectors, comparator, counts)
    for _ in range(5):
        again = ceilings_per_subject(vectors, comparator, counts)
        for one, other in zip(first, again, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    undefined = torch.zeros(6, dtype=torch.bool)
    undefined[[1, 4]] = comparator in ("spearman", "correlation")
    assert first[1].isnan().any(1).tolist() == undefined.tolist()


def test_pairs_missing_in_one_subject_are_counted_in_a_note() -> None:
    vectors = subjects(3, 12, 0.3).vectors.clone()
    vectors[2, :59] = torch.nan
    found = noise_ceiling(RDMs(vectors, names=tuple("abc")), "spearman")
    assert any("7 of 66 pairs" in note and "'c' lacks most (59)" in note for note in found.notes)


def test_chance_is_the_ceiling_of_conditions_in_an_order_of_their_own() -> None:
    """By a loop over the same number of other permutations, and by all of them."""
    data = subjects(2, 4, 0.3)
    pairs = list(itertools.combinations(range(4), 2))
    lower = []
    for order in itertools.permutations(range(4)):
        moved = data.matrices[1].numpy()[np.ix_(order, order)]
        two = np.stack([data.vectors[0].numpy(), [moved[i, j] for i, j in pairs]])
        lower.append(ceiling_by_loop(two, "correlation")[0])
    found = noise_ceiling(data, "correlation", n_permutations=2000)
    assert found.chance == pytest.approx(np.mean(lower), abs=4 * np.std(lower) / 2000**0.5)
    exact = np.mean(np.array(lower) >= found.lower - 1e-9)
    assert found.p_chance == pytest.approx(exact, abs=4 * (exact / 2000) ** 0.5)


@pytest.mark.parametrize("comparator", ["cosine", "rho_a", "whitened_cosine"])
def test_subjects_without_common_geometry_are_at_chance(comparator: str) -> None:
    """p values are uniform: at most 5 % below .05 but for the spread of 40 data sets."""
    p = []
    for seed in range(40):
        g = stream(seed, "strangers")
        patterns = torch.randn(3, 6, 4, generator=g, dtype=torch.float64)
        data = stack_rdms([rdm(x) for x in patterns], "abc")
        found = noise_ceiling(data, comparator, n_permutations=39, seed=seed)
        p.append(found.p_chance)
        assert any("no higher than by chance" in note for note in found.notes) == (found.p_chance > 0.05)
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * (0.05 * 0.95 / 40) ** 0.5
    assert abs(np.mean(p) - 0.5) < 4 * (1 / 12 / 40) ** 0.5
    same = noise_ceiling(subjects(4, 8, 0.05), comparator)
    assert same.p_chance == pytest.approx(1 / 101)
    assert same.lower > same.chance
    assert not any("by chance" in note for note in same.notes)


def test_chance_needs_two_subjects_and_permutations() -> None:
    for data, n_permutations in ((subjects(1, 5, 0.1), 10), (subjects(3, 5, 0.1), 0)):
        found = noise_ceiling(data, n_permutations=n_permutations)
        assert math.isnan(found.chance)
        assert math.isnan(found.p_chance)


def test_chance_with_missing_pairs_uses_what_is_left_in_each_order() -> None:
    data = subjects(3, 7, 0.05)
    data.vectors[0, :3] = torch.nan
    found = noise_ceiling(data)
    assert found.p_chance < 0.05
    assert found.chance < found.lower
