"""Cross-validated lengths: unbiased on noise and on a shift; equal to sums over pairs of groups; paired conditions."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.trajectories import cross_validated_length, pattern_distances
from geomfeat.numerics import stream


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "trajectories"), dtype=torch.float64)


def by_pairs(d: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The definition, pair by pair."""
    above = below = 0.0
    for j in range(len(d)):
        for k in range(len(d)):
            if j != k:
                above = above + w[j] * w[k] * (d[j] * d[k]).sum(-1)
                below = below + w[j] * w[k]
    return above / below


def test_it_is_the_weighted_mean_over_pairs_of_groups(device: str) -> None:
    d, w = noise(6, 4, 3), torch.tensor([1.0, 2.0, 1.5, 3.0, 1.0, 0.5], dtype=torch.float64)
    found = cross_validated_length(d.to(device), w.to(device))
    torch.testing.assert_close(found.squared.cpu(), by_pairs(d, w))
    for j in range(6):
        rest = [k for k in range(6) if k != j]
        torch.testing.assert_close(found.without[j].cpu(), by_pairs(d[rest], w[rest]))


def test_noise_has_no_length_and_a_shift_has_its_own() -> None:
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    d = noise(8, 4000, 3)
    for moved, truth in ((0.0, 0.0), (1.0, float(shift.square().sum()))):
        found = cross_validated_length(d + moved * shift)
        biased = (d + moved * shift).mean(0).square().sum(1)
        error = float(found.squared.std()) / 4000**0.5
        assert abs(float(found.squared.mean()) - truth) < 4 * error
        assert float(biased.mean()) - truth > 10 * error  # by the variance of the mean, 3 / 8
        if moved:
            # Without signal the number is degenerate, and its jackknife error errs on the large side.
            assert float(found.stderr.square().mean()) == pytest.approx(float(found.squared.var()), rel=0.15)


def test_conditions_of_equal_counts_are_apart_by_the_mean_over_pairs() -> None:
    means, counts = noise(5, 4, 6, 3), torch.full((5, 4), 3.0, dtype=torch.float64)
    pairs = [(a, b) for a in range(4) for b in range(a)]
    each = [cross_validated_length(means[:, a] - means[:, b]).squared for a, b in pairs]
    found = pattern_distances(means, counts)
    torch.testing.assert_close(found.squared, torch.stack(each).mean(0))
    counts[2, 1] = 0
    rest = [0, 1, 3, 4]
    without = pattern_distances(means[rest], counts[rest])
    torch.testing.assert_close(pattern_distances(means, counts).squared, without.squared)


def test_what_a_run_adds_to_all_conditions_drops_out() -> None:
    means, counts = noise(5, 4, 6, 3), torch.tensor([[1.0, 2, 3, 4]] * 5, dtype=torch.float64)
    moved = means + 100 * noise(5, 1, 6, 3, seed=1)
    torch.testing.assert_close(pattern_distances(moved, counts).squared, pattern_distances(means, counts).squared)


def test_two_groups_have_a_value_without_an_error() -> None:
    found = cross_validated_length(noise(2, 3, 4))
    assert bool(torch.isfinite(found.squared).all())
    assert bool(torch.isnan(found.stderr).all())


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="at least two groups"):
        cross_validated_length(noise(1, 3, 4))
    with pytest.raises(BadInput, match="3 positive numbers"):
        cross_validated_length(noise(3, 3, 4), [1.0, 0.0, 1.0])
