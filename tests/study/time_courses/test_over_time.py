"""Measures in every time bin: a signal is seen from the bin on in which it begins; the draws are the same in all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.numerics import stream
from geomfeat.study import over_time

N, BINS, ONSET = 60, 8, 5
CONDITION = ["a", "b", "c"] * 20
RUN = np.repeat(range(6), 10)


def spikes(onset: int = ONSET, areas: bool = False) -> gf.Recording:
    """12 units, whose conditions differ from bin `onset` on (of area V4, if there are areas, two bins later)."""
    x = torch.randn(N, 12, BINS, generator=stream(0, "over time"), dtype=torch.float64)
    signal = 3 * torch.eye(3).double()[torch.tensor(["abc".index(c) for c in CONDITION])].repeat(1, 4)
    x[:, :6, onset:] += signal[:, :6, None]
    x[:, 6:, onset + 2 * areas :] += signal[:, 6:, None]
    area = ["V1"] * 6 + ["V4"] * 6 if areas else None
    return gf.Recording(x, CONDITION, run=RUN, area=area, time=0.1 * np.arange(BINS), name="probe")


def test_a_signal_is_seen_in_the_bin_it_begins_in_and_not_before() -> None:
    found = over_time(spikes(), ["linear_probe_accuracy", "capacity"], progress=False)
    accuracy = found.select("linear_probe_accuracy").table
    assert accuracy["time"].tolist() == (0.1 * np.arange(BINS)).tolist()
    assert (accuracy["value"][:ONSET] < 1 / 3 + 4 * (2 / 9 / N) ** 0.5).all()  # chance, four binomial errors
    assert (accuracy["value"][ONSET:] > 0.9).all()
    capacity = found.select("capacity", "capacity").table["value"]
    assert capacity[ONSET:].min() > 1.5 * capacity[:ONSET].max()


def test_areas_have_courses_of_their_own() -> None:
    found = over_time(spikes(areas=True), "nc1", progress=False)
    for area, onset in (("V1", ONSET), ("V4", ONSET + 2)):
        values = found.select("nc1", area=area).table["value"]
        assert values[onset:].max() < values[:onset].min() / 2


def test_bins_of_the_same_responses_have_the_same_numbers() -> None:
    one = spikes()
    still = gf.Recording(one.x[:, :, 6:7].expand(N, 12, 3), CONDITION, run=RUN, time=[0.0, 0.1, 0.2])
    found = over_time(still, ["capacity", "participation_ratio"], progress=False)
    assert (found.table.groupby(["measure", "quantity"])["value"].nunique(dropna=False) == 1).all()
    direct = gf.get("capacity").run(one.select(time=(0.6, 0.7)).to_representation().with_(layer="all units"), seed=0)
    assert found.select("capacity", "capacity").table["value"][0] == direct["capacity"].value


def test_errors_are_over_runs_and_said() -> None:
    found = over_time(spikes(), "participation_ratio", progress=False)
    assert set(found.table["note"]) == {"error over 6 runs"}
    assert str(found) == "participation_ratio of all units in 8 bins from 0 to 0.7 s"


def test_a_failure_is_a_row_with_its_reason() -> None:
    few = spikes()._take([0, 1, 2, 3])
    found = over_time(few, ["two_nn", "stable_rank"], progress=False)
    assert found.table.groupby("measure")["ok"].all().to_dict() == {"stable_rank": True, "two_nn": False}
    with pytest.raises(gf.BadInput, match="nothing to draw: measure 'two_nn' needs at least"):
        found.select("two_nn").plot()


def test_bad_input_is_refused() -> None:
    with pytest.raises(gf.BadInput, match="has no time axis"):
        over_time(gf.Recording(torch.rand(6, 3), list("ababab")), "nc1")
    with pytest.raises(gf.BadInput, match="is of two layers"):
        over_time(spikes(), "cka_linear_unbiased")
    with pytest.raises(gf.BadInput, match="it is a measure of networks"):
        over_time(spikes(), ["nc1", "weight_movement"])
    with pytest.raises(gf.BadInput, match="measure='nc2' is not there; near: nc1"):
        over_time(spikes(), "nc1", progress=False).select("nc2")
