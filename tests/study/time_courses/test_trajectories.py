"""Trajectories of a recording: distances that begin with a signal, a peer's crossnobis, speed on a circle, failures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import rsatoolbox
import torch

import geomfeat as gf
from geomfeat.geometry.trajectories import smoothed, tangling
from geomfeat.numerics import stream

BINS, ONSET = 10, 6
CONDITION = np.array(list("abc"))[np.arange(60) % 3]
RUN = np.repeat(np.arange(10), 6)
TIME = 0.05 * np.arange(BINS)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "trajectory study"), dtype=torch.float64)


def spikes(signal: float = 2.0) -> gf.Recording:
    """12 units; condition c leaves the others from bin ONSET on, by `signal` in each unit."""
    x = noise(60, 12, BINS)
    x[2::3, :, ONSET:] += signal
    return gf.Recording(x, CONDITION, run=RUN, time=TIME, name="cells")


def test_conditions_part_with_the_signal_and_not_before() -> None:
    found = gf.trajectories(spikes())
    apart = found.select("trajectory_distance", "squared_distance", condition="a", condition_b="c")
    values, errors = apart.table["value"], apart.table["stderr"]
    assert (values[:ONSET].abs() < 4 * errors[:ONSET]).all()
    assert ((values[ONSET:] - 12 * 4).abs() < 4 * errors[ONSET:]).all()
    assert apart.test().significant.tolist() == [k >= ONSET for k in range(BINS)]
    same = found.select("trajectory_distance", "squared_distance", condition="a", condition_b="b")
    assert not same.test().found
    mean = found.select("trajectory_distance", "squared_distance", condition="all pairs").table["value"]
    assert mean[ONSET:].mean() == pytest.approx(2 / 3 * 48, rel=0.1)
    assert set(found.table["note"]) >= {"error over 10 runs"}


def test_distances_are_those_of_a_peer() -> None:
    one = spikes()
    found = gf.trajectories(one).select("trajectory_distance", "squared_distance").table
    labels = {"condition": np.arange(60) % 3.0, "run": RUN.astype(float)}
    data = rsatoolbox.data.Dataset(one.x[:, :, 7].numpy(), obs_descriptors=labels)
    peer = rsatoolbox.rdm.calc_rdm(data, method="crossnobis", descriptor="condition", cv_descriptor="run")
    wanted = 12 * peer.dissimilarities[0]  # it divides by the number of units
    pairs = found[found["condition_b"] != ""].groupby(["condition", "condition_b"])
    ours = [rows["value"].iloc[7] for _, rows in pairs]
    np.testing.assert_allclose(ours, wanted)


def test_the_speed_of_a_circle_is_its_radius_times_its_rate() -> None:
    angle = 2 * math.pi * torch.arange(40, dtype=torch.float64) / 40
    circle = 3 * torch.stack([angle.cos(), angle.sin()])
    x = circle + 0.3 * noise(60, 2, 40)
    found = gf.trajectories(gf.Recording(x, np.array(list("ab"))[np.arange(60) % 2], run=RUN, time=angle))
    speed = found.select("trajectory_speed", "squared_speed", condition="a").table
    truth = (3 * math.sin(angle[1]) / float(angle[1])) ** 2  # of central differences
    inside = speed[1:-1]
    assert abs(inside["value"].mean() - truth) < 4 * inside["stderr"].mean() / 38**0.5
    raw = np.gradient(x[::2].mean(0).numpy(), angle.numpy(), axis=1)[:, 1:-1]
    bias = 2 * 0.3**2 / 30 / (2 * float(angle[1]) ** 2)  # of the noise of two means in two units
    assert np.square(raw).sum(0).mean() - inside["value"].mean() == pytest.approx(bias, rel=0.4)


def test_tangling_and_smoothing_are_of_the_means_over_trials() -> None:
    one = spikes()
    means = torch.stack([one.x[torch.as_tensor(c == CONDITION)].mean(0).T for c in "abc"])
    wanted = tangling(smoothed(means, TIME, 0.04), TIME)
    found = gf.trajectories(one, smoothing=0.04).select("trajectory_tangling")
    np.testing.assert_allclose(found.table["value"].to_numpy().reshape(3, BINS), wanted)
    kept = [[torch.as_tensor((c == CONDITION) & (j != RUN)) for c in "abc"] for j in range(10)]
    left = [torch.stack([one.x[rows].mean(0).T for rows in of_run]) for of_run in kept]
    without = torch.stack([tangling(smoothed(m, TIME, 0.04), TIME)[1, 3] for m in left])
    slow = (0.9 * (without - without.mean()).square().sum()).sqrt()
    assert found.select(condition="b").table["stderr"][3] == pytest.approx(float(slow))


def test_areas_have_their_own_and_their_difference_is_paired() -> None:
    x = noise(60, 12, BINS)
    x[2::3, :6, ONSET:] += 2.0
    one = gf.Recording(x, CONDITION, run=RUN, area=["V4"] * 6 + ["IT"] * 6, time=TIME)
    found = gf.trajectories(one).select("trajectory_distance", "squared_distance", condition="a", condition_b="c")
    assert found.difference(areas=("V4", "IT")).test().significant.tolist() == [k >= ONSET for k in range(BINS)]


def test_trials_without_runs_are_parts_of_their_own_and_missing_cells_are_counted() -> None:
    one = spikes()
    free = gf.Recording(one.x, CONDITION, time=TIME)
    assert "error over 20 parts of the trials" in set(gf.trajectories(free).table["note"])
    lone = one._take(np.flatnonzero((CONDITION != "b") | (RUN == 3)))
    found = gf.trajectories(lone).table
    failed = found[~found["ok"]]
    assert set(failed["note"]) == {
        "1 groups have trials of both conditions", "1 groups have trials of all conditions",
        "1 groups have trials of this condition",
    }  # fmt: skip
    assert found[(found["condition"] == "a") & (found["condition_b"] == "c")]["ok"].all()


def test_many_conditions_have_their_mean_over_pairs_alone() -> None:
    x = noise(132, 4, 3)
    found = gf.trajectories(gf.Recording(x, np.arange(132) % 11, run=np.repeat([0, 1, 2, 3], 33), time=[0.0, 0.1, 0.2]))
    assert set(found.select("trajectory_distance").table["condition"]) == {"all pairs"}


def test_bad_input_is_refused() -> None:
    with pytest.raises(gf.BadInput, match="time axis of two bins"):
        gf.trajectories(gf.Recording(torch.rand(6, 3), list("ababab")))
    with pytest.raises(gf.BadInput, match="the recording has one"):
        gf.trajectories(gf.Recording(torch.rand(6, 3, 4), ["a"] * 6, time=TIME[:4]))
    with pytest.raises(gf.BadInput, match="needs two groups"):
        gf.trajectories(gf.Recording(torch.rand(2, 3, 4), ["a", "b"], time=TIME[:4]))
