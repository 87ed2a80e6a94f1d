"""Capacities at equal numbers of points and units: samples of one distribution agree, and what is left is marked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import capacity, capacity_difference, matched_capacities
from geomfeat.types import Representation
from tests.geometry.clouds import normal

P, N = 3, 24


def trials(m: int, seed: int, classes: int = P) -> torch.Tensor:
    return normal(classes, 1, N, seed=0) + normal(classes, m, N, seed=100 + seed)


def test_what_depends_on_the_number_of_trials_does_not_once_they_are_matched():
    sets = {str(m): trials(m, m) for m in (3, 10, 40)}
    plain = [capacity(x, resample=None).capacity for x in sets.values()]
    assert plain[0] > 1.5 * plain[1] > 1.2 * 1.5 * plain[2]
    found = matched_capacities(sets, repeats=4, n_draws=60)
    assert (found.n_points, found.n_features) == (3, N)
    for a, b in (("3", "10"), ("3", "40"), ("10", "40")):
        for quantity in ("capacity", "radius", "dimension"):
            gap, error = found.difference(a, b, quantity)
            assert abs(gap) < 3 * error
    # Choices of 3 points from 3, 10 and 40: the variance over data falls as the share that is chosen, 1, .3, .075.
    few, some, many = found.over_data["capacity"].tolist()
    assert many < 0.6 * some < 0.6**2 * few


def test_errors_are_those_of_new_samples():
    """Two samples of 4 and of 8 trials, again and again: differences over their errors spread by about 1."""
    z = []
    for i in range(6):
        found = matched_capacities([trials(4, 2 * i), trials(8, 2 * i + 1)], repeats=2, n_draws=32, seed=i)
        gap, error = found.difference("0", "1")
        z.append(gap / error)
    assert 0.4 < float(np.std(z)) < 1.7
    assert abs(float(np.mean(z))) < 1


def test_a_real_difference_is_found_across_units():
    """A set with the centres further apart, in twice as many units as the other."""
    far = 2.5 * normal(P, 1, 2 * N, seed=0) + normal(P, 8, 2 * N, seed=3)
    found = matched_capacities({"near": trials(5, 1), "far": far}, repeats=3, n_draws=60)
    gap, error = found.difference("near", "far")
    assert gap > 4 * error
    assert found.n_features == N
    assert found.difference("far", "near") == pytest.approx((-gap, error))
    ratio, log_error = found.difference("near", "far", log=True)
    near, far_mean = found.mean["capacity"].tolist()
    assert math.exp(ratio) == pytest.approx(far_mean / near, rel=0.02)
    assert log_error == pytest.approx(error / math.sqrt(near * far_mean), rel=0.5)
    assert "near 5 points a class and 24 units, far 8 points a class and 48 units" in found.notes[0]


def test_choices_are_of_the_points_and_named_by_their_set():
    x = trials(4, 1)
    whole = matched_capacities({"a": x, "b": x.clone()}, repeats=2, n_draws=20)
    one = capacity(x, n_draws=20, resample="trials")
    assert whole.n_points == 4
    # All points and units: the choice is the set itself, under draws that both have.
    torch.testing.assert_close(whole.values["capacity"][0], whole.values["capacity"][1])
    assert abs(float(whole.mean["capacity"][0]) - one.capacity) < 4 * one.capacity_se
    alone = matched_capacities({"a": x, "c": trials(5, 2)}, n_points=2, n_features=10, repeats=2, n_draws=20)
    again = matched_capacities({"d": trials(6, 4), "a": x}, n_points=2, n_features=10, repeats=2, n_draws=20)
    torch.testing.assert_close(alone.values["capacity"][0], again.values["capacity"][1])
    fewer = matched_capacities({"a": x, "b": x}, n_points=2, n_features=10, repeats=2, n_draws=20)
    assert fewer.values["capacity"][0].tolist() != fewer.values["capacity"][1].tolist()


def test_sets_at_the_floor_are_marked_and_have_no_differences():
    noise = normal(P, 40, 6, seed=1)
    found = matched_capacities({"noise": noise, "signal": trials(40, 2)}, n_features=6, repeats=2, n_draws=20)
    assert found.at_floor[0]
    assert all(math.isnan(v) for v in found.difference("noise", "signal"))
    assert "noise: at the floor" in " ".join(found.notes)
    assert "(floor)" in str(found)


def test_errors_are_over_runs_where_there_are_some():
    x, labels = trials(12, 5, classes=5).flatten(0, 1), torch.arange(5).repeat_interleave(12)
    runs = torch.arange(12).repeat(5) // 3
    by_run = Representation(x + 2 * normal(4, N, seed=9)[runs], labels=labels, groups=runs)
    plain = Representation(by_run.x, labels=labels)
    found = matched_capacities({"runs": by_run, "trials": plain}, repeats=3, n_draws=40)
    assert float(found.over_data["center_alignment"][0]) > float(found.over_data["center_alignment"][1])


def test_what_cannot_be_matched_is_refused():
    x = trials(6, 1)
    with pytest.raises(BadInput, match="at least two"):
        matched_capacities([x])
    with pytest.raises(BadInput, match=r"'0' has classes .* over the same classes"):
        matched_capacities([x, x[1:]])
    with pytest.raises(BadInput, match="n_points=9: '1' has 6 points of a class; give 1 to 6"):
        matched_capacities([trials(9, 2), x], n_points=9)
    with pytest.raises(BadInput, match="repeats=1"):
        matched_capacities([x, x], repeats=1)
    with pytest.raises(BadInput, match="no set 'z'"):
        matched_capacities([x, x], repeats=2, n_draws=5).difference("0", "z")


def test_a_plain_difference_says_that_the_numbers_are_not_matched():
    a, b = (capacity(trials(m, m), n_draws=20) for m in (4, 8))
    assert "4 and 8 points a class" in " ".join(capacity_difference(a, b).notes)
    assert "matched_capacities" in " ".join(capacity_difference(a, b).notes)
    assert not [note for note in capacity_difference(a, a).notes if "matched" in note]
