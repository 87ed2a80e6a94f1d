"""Paired differences, cluster tests, pairs of areas and layers; a signal that begins at a bin is seen there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.numerics import stream
from geomfeat.study import over_time
from geomfeat.study.time_courses.course import charts_of

RUNS, PER, BINS, ONSET, C = 8, 16, 8, 5, 8
N = RUNS * PER
NAMES = tuple("abcdefgh")
CONDITION = np.array(NAMES)[np.arange(N) % C]
RUN = np.repeat(np.arange(RUNS), PER)
CODES = torch.arange(N) % C
LAYER = 2 * torch.randn(C, 9, generator=stream(1, "layer"), dtype=torch.float64)


def spikes(seed: int = 0, it: float = 0.5, shared: float = 0.0) -> gf.Recording:
    """Two areas of 9 units; from ONSET on both hold the layer's features (V4 turned), IT `it` times as strongly."""
    draws = stream(seed, "time course")
    x = torch.randn(N, 18, BINS, generator=draws, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(9, 9, generator=stream(2, "turn"), dtype=torch.float64))[0]
    x[:, :9, ONSET:] += (LAYER @ turn)[CODES][:, :, None]
    x[:, 9:, ONSET:] += it * LAYER[CODES][:, :, None]
    gain = 1 + shared * torch.rand(RUNS, generator=draws, dtype=torch.float64)[torch.as_tensor(RUN)]
    area, time = ["V4"] * 9 + ["IT"] * 9, 0.1 * np.arange(BINS)
    return gf.Recording(x * gain[:, None, None], CONDITION, run=RUN, area=area, time=time, name="cells")


def by_hand(measure: str, recording: gf.Recording, k: int, area: str, without: int | None = None) -> float:
    """A measure of one area in one bin, without one of the runs, from nothing but the measure."""
    rows = np.ones(N, bool) if without is None else without != RUN
    units = recording.area == area
    rep = gf.Representation(recording.x[rows][:, units, k], labels=CODES[torch.as_tensor(rows)])
    return gf.get(measure).function(rep).value


def slow_error(whole: float, without: list[float]) -> float:
    """Jackknife over groups of one size."""
    return float(((RUNS - 1) / RUNS * np.square(np.array(without) - np.mean(without)).sum()) ** 0.5)


@pytest.mark.parametrize("measure", ["participation_ratio", "nc1"])
def test_paired_errors_are_those_of_the_difference_without_each_run(measure: str) -> None:
    one = spikes(shared=1.0)
    course = over_time(one, measure, progress=False)

    def differences(first: tuple[int, str], second: tuple[int, str]) -> tuple[float, float]:
        def less(run: int | None) -> float:
            return by_hand(measure, one, *first, run) - by_hand(measure, one, *second, run)

        return less(None), slow_error(less(None), [less(j) for j in range(RUNS)])

    areas = course.difference(areas=("IT", "V4"))
    assert areas.table["area"].unique().tolist() == ["IT minus V4"]
    value, error = differences((6, "IT"), (6, "V4"))
    np.testing.assert_allclose(areas.table.loc[6, ["value", "stderr"]].astype(float), [value, error], rtol=1e-9)
    bins = course.select(area="IT").difference(baseline=0.1)
    value, error = differences((6, "IT"), (1, "IT"))
    np.testing.assert_allclose(bins.table.loc[6, ["value", "stderr"]].astype(float), [value, error], rtol=1e-9)
    assert bins.table.loc[1, ["value", "stderr"]].tolist() == [0.0, 0.0]
    other = over_time(spikes(seed=3), measure, progress=False)
    assert course.difference(other).table["value"][3] == course.table["value"][3] - other.table["value"][3]


def test_a_baseline_of_several_bins_is_their_mean() -> None:
    course = over_time(spikes(), "participation_ratio", progress=False).select(area="V4")
    found = course.difference(baseline=(0.0, 0.3)).table
    values = course.table["value"]
    assert found["value"][6] == pytest.approx(values[6] - values[:3].mean())
    assert found["stderr"][6] < np.hypot(course.table["stderr"][6], course.table["stderr"][:3].max())


def test_capacity_pairs_runs_and_draws_as_capacity_difference_does() -> None:
    one = spikes().select(area="V4", time=(0.6, 0.8))
    course = over_time(one, "capacity", progress=False).difference(baseline=0.6)
    reps = [one.select(time=(t, t + 0.1)).to_representation() for t in (0.6, 0.7)]
    wanted = gf.capacity_difference(*(gf.capacity(rep, seed=0) for rep in reps), same_samples=True)
    row = course.select("capacity", "capacity").table.iloc[1]
    assert row["value"] == pytest.approx(wanted.difference)
    assert row["stderr"] == pytest.approx(wanted.difference_se)
    radius = course.select("capacity", "radius").table.iloc[1]
    assert radius["stderr"] == pytest.approx(wanted.radius_se)


@pytest.mark.parametrize("trials", ["same", "means"])
def test_cka_of_areas_and_layers_rises_with_the_signal_and_not_before(trials: str) -> None:
    layers = {"conv": gf.Representation(LAYER, labels=range(C), layer="conv", classes=NAMES)}
    course = over_time(spikes(), "cka_linear_unbiased", layers=layers, trials=trials, progress=False)
    pairs = course.table[["area", "area_b"]].drop_duplicates().values.tolist()
    assert pairs == [["IT", "V4"], ["IT", "conv"], ["V4", "conv"]]
    for area, other in pairs:
        values = course.select(area=area, area_b=other).table["value"]
        by_trials = other == "V4" and trials == "same"
        assert values[:ONSET].max() < (0.15 if by_trials else 0.6)
        assert values[ONSET:].min() > (0.4 if by_trials else 0.8)
    assert set(course.table["note"]) == {"error over 8 runs"}


def test_errors_of_pairs_with_a_layer_leave_runs_out_of_the_condition_means() -> None:
    one = spikes().select(time=(0.6, 0.7))
    course = over_time(one, "rsa_squared_euclidean", layers={"conv": LAYER}, progress=False)
    row = course.select(area="IT", area_b="conv", quantity="correlation").table.iloc[0]
    x = one.x[:, 9:].reshape(N, 9).numpy()

    def similarity(kept: np.ndarray) -> float:
        means = np.stack([x[kept & (CODES.numpy() == c)].mean(0) for c in range(C)])
        upper = np.triu_indices(C, 1)
        rdms = [((m[:, None] - m) ** 2).sum(2)[upper] for m in (means, LAYER.numpy())]
        return float(np.corrcoef(*rdms)[0, 1])

    assert row["value"] == pytest.approx(similarity(np.ones(N, bool)))
    without = [similarity(j != RUN) for j in range(RUNS)]
    assert row["stderr"] == pytest.approx(slow_error(row["value"], without))


def test_layers_of_trials_and_of_conditions_are_told_apart() -> None:
    one = spikes().select(time=(0.5, 0.7))
    of_trials = over_time(one, "cka_linear_unbiased", layers={"conv": LAYER[CODES]}, progress=False)
    row = of_trials.select(area="IT", area_b="conv").table.iloc[1]
    rep = one.select(area="IT", time=(0.6, 0.7)).to_representation()
    assert row["value"] == pytest.approx(gf.cka(rep.x, LAYER[CODES]).value)
    by_name = gf.Representation(LAYER.flip(0), labels=range(C), classes=NAMES[::-1])
    found = [
        over_time(one, "cka_linear_unbiased", layers={"conv": layer}, progress=False).select(area_b="conv").table
        for layer in (LAYER, by_name)
    ]
    assert found[0]["value"].tolist() == pytest.approx(found[1]["value"].tolist())
    with pytest.raises(gf.BadInput, match="'conv' has 5 rows; give a row for each of 128 trials"):
        over_time(one, "cka_linear_unbiased", layers={"conv": torch.rand(5, 3)})
    with pytest.raises(gf.BadInput, match="the recording has one area: give layers="):
        over_time(one.select(area="IT"), "cka_linear_unbiased")
    with pytest.raises(gf.BadInput, match="none was named"):
        over_time(one, "nc1", layers={"conv": LAYER})
    with pytest.raises(gf.BadInput, match="trials='matched'"):
        over_time(one, "cka_linear_unbiased", trials="matched")


@pytest.mark.parametrize(("measure", "against"), [("linear_probe_accuracy", 1 / C), ("cka_linear_unbiased", 0.0)])
def test_clusters_begin_with_the_signal_and_not_before(measure: str, against: float) -> None:
    course = over_time(spikes(), measure, progress=False).select(area="IT")
    found = course.test(against)
    assert found.significant.tolist() == [k >= ONSET for k in range(BINS)]
    assert found.value.tolist() == course.table["value"].tolist()
    assert course.difference(baseline=(0.0, 0.3)).test().significant.tolist() == [k >= ONSET for k in range(BINS)]


def test_areas_that_differ_from_a_bin_on_are_found_there() -> None:
    found = over_time(spikes(it=0.0), "linear_probe_accuracy", progress=False).difference(areas=("IT", "V4")).test()
    assert found.significant.tolist() == [k >= ONSET for k in range(BINS)]


def test_a_test_says_what_it_lacks() -> None:
    course = over_time(spikes(), ["nc1", "stable_rank"], progress=False)
    with pytest.raises(gf.BadInput, match=r"holds 4: select\(\) one, such as select\(area='IT', measure='nc1'"):
        course.test()
    alone = over_time(spikes(), "nc1", groups=None, progress=False).select(area="IT")
    with pytest.raises(gf.BadInput, match="has no error over groups to test by"):
        alone.test()
    assert "no error" in alone.difference(baseline=0.0).table["note"][0]
    few = over_time(spikes().select(run=[0, 1, 2, 3]), "nc1", progress=False).select(area="IT")
    with pytest.raises(gf.BadInput, match=r"smallest p that can be reached is 2\^-3"):
        few.difference(baseline=0.0).test()
    with pytest.raises(gf.BadInput, match="8 bins have no number to test"):
        over_time(spikes()._take([0, 1, 2, 3]), "two_nn", progress=False).select(area="IT").test()


def test_differences_say_what_they_lack() -> None:
    course = over_time(spikes(), "stable_rank", progress=False)
    with pytest.raises(gf.BadInput, match="give one of other=, areas= and baseline="):
        course.difference()
    with pytest.raises(gf.BadInput, match="there are IT, V4"):
        course.difference(areas=("IT", "V1"))
    with pytest.raises(gf.BadInput, match=r"no bin is there; they are from 0 to 0\.7 s"):
        course.difference(baseline=3.0)
    with pytest.raises(gf.BadInput, match="no number of the other course"):
        course.difference(over_time(spikes(), "nc1", progress=False))


def test_numbers_at_the_floor_have_no_difference() -> None:
    x = torch.randn(N, 3, 2, generator=stream(0, "floor"), dtype=torch.float64)
    floor = gf.Recording(x, CONDITION, run=RUN, time=[0.0, 0.1])
    found = over_time(floor, "capacity", progress=False).select("capacity", "capacity").difference(baseline=0.0)
    assert not found.table["ok"].any()
    assert "at the floor" in found.table["note"][1]


def test_every_quantity_has_a_chart_with_bands() -> None:
    plots = charts_of(over_time(spikes(), ["stable_rank", "cka_linear_unbiased"], progress=False))
    assert [plot.title for plot in plots] == ["stable rank", "cka linear unbiased"]
    assert [[curve.label for curve in plot.curves] for plot in plots] == [["IT", "V4"], ["IT and V4"]]
    assert {curve.kind for plot in plots for curve in plot.curves} == {"band"}
