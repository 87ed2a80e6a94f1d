"""Time courses in the study of a recording: rows of their own, saved and read back, few bins, when conditions part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import geomfeat as gf
from geomfeat.report.content.study_view import views
from geomfeat.report.plotly.time_courses import time_figures
from tests.study.time_courses.test_trajectories import CONDITION, ONSET, RUN, TIME, noise, spikes


def test_bins_have_rows_beside_the_whole_and_survive_saving(tmp_path: Path) -> None:
    one = spikes()
    study = gf.analyze_recording(one, measures="stable_rank", progress=False, resume=tmp_path / "parts")
    whole = gf.analyze_recording(one, measures="stable_rank", over_time=None, progress=False)
    assert "time" not in whole.table
    assert study.table["time"].isna().sum() == len(whole.table)
    assert study.settings["over_time"]["measures"] == ["linear_probe_accuracy", "participation_ratio", "trajectories"]
    study.save(tmp_path / "study")
    course = gf.Study.load(tmp_path / "study").course
    assert course is not None
    direct = gf.over_time(one, "participation_ratio", progress=False).table["value"]
    assert course.select("participation_ratio").table["value"].tolist() == direct.tolist()
    moved = gf.trajectories(one).table
    read = course.table[course.table["measure"].str.startswith("trajectory")]["value"]
    pd.testing.assert_series_equal(read.reset_index(drop=True), moved["value"])
    again = gf.analyze_recording(one, measures="stable_rank", progress=False, resume=tmp_path / "parts")
    pd.testing.assert_frame_equal(again.table.drop(columns="seconds"), study.table.drop(columns="seconds"))


def test_it_says_when_conditions_part_and_the_page_marks_it() -> None:
    study = gf.analyze_recording(spikes(), measures="stable_rank", over_time="trajectories", progress=False)
    [cluster] = study.settings["over_time"]["clusters"]
    assert (cluster["condition"], cluster["quantity"]) == ("all pairs", "squared_distance")
    assert cluster["start"] == pytest.approx(TIME[ONSET])
    [figure] = time_figures(views([study]))
    assert [panel.title for panel in figure.panels] == [
        "Squared distance between conditions", "Squared speed by condition", "Tangling by condition",
    ]  # fmt: skip
    [bar] = figure.panels[0].layout["shapes"]
    half = (TIME[1] - TIME[0]) / 2
    assert (bar["x0"], bar["x1"]) == pytest.approx((TIME[ONSET] - half, TIME[-1] + half))
    band, line = figure.panels[0].data
    assert line["y"] == study.course.select(quantity="squared_distance", condition="all pairs").table["value"].tolist()
    assert np.array(band["y"]).max() > max(line["y"])


def test_many_time_points_are_averaged_to_fifty_bins() -> None:
    x = noise(60, 5, 1, seed=2) + noise(60, 5, 230)
    long = gf.Recording(x, CONDITION, run=RUN, time=0.001 * np.arange(230))
    study = gf.analyze_recording(long, measures="stable_rank", over_time="stable_rank", progress=False)
    facts = study.settings["over_time"]
    assert facts["bins"] == 46
    assert facts["notes"] == ["230 time points were averaged to 46 bins of 0.005 s"]
    assert len(study.course.table) == 46


def test_what_cannot_be_measured_over_time_is_said() -> None:
    one_each = gf.Recording(noise(2, 5, 4), ["a", "b"], time=TIME[:4])
    study = gf.analyze_recording(one_each, measures="stable_rank", over_time="trajectories", progress=False)
    assert study.settings["over_time"]["notes"] == [
        "trajectories: 1 parts of the trials: cross-validation needs two groups of trials at least, and errors 3"
    ]
    assert study.course is None
    with pytest.raises(gf.BadInput, match="it is a measure of networks"):
        gf.analyze_recording(spikes(), over_time="weight_movement", progress=False)
    still = gf.Recording(torch.rand(6, 3), list("ababab"))
    assert "over_time" not in gf.analyze_recording(still, measures="stable_rank", progress=False).settings
