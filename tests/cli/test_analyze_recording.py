"""`geomfeat analyze --recording` and recordings in `geomfeat compare`: without any model, from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from geomfeat.study import Study

Run = Callable[..., Result]
CHEAP = ("--measures", "stable_rank", "--measures", "nc1")


@pytest.fixture
def file(files: Path) -> Path:
    """30 trials of 5 stimuli in 3 runs, 8 units of two areas, one value missing."""
    noise = np.random.default_rng(0)
    rates = noise.standard_normal((30, 8)) + 3 * np.eye(5, 8)[np.arange(30) % 5]
    rates[4, 7] = np.nan
    np.savez(files / "cells.npz", rates=rates, stim=np.array(list("abcde"))[np.arange(30) % 5],
             run=np.repeat([1, 2, 3], 10), region=["V4"] * 5 + ["IT"] * 3)  # fmt: skip
    return files / "cells.npz"


def test_a_recording_is_measured_and_the_same_command_finds_its_results(run: Run, file: Path) -> None:
    words = ("analyze", "--recording", "cells.npz:missing=drop units", *CHEAP, "--out", "out", "--quiet")
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert "recording of 30 trials, units by area: IT (2), V4 (5)" in first.output
    assert "1 of 8 units were dropped: values are missing (NaN)" in first.output
    study = Study.load(file.parent / "out")
    assert study.is_recording
    assert set(study.table["note"]) == {"error over 3 runs"}
    assert (file.parent / "out" / "report.html").stat().st_size > 1e6
    again = run(*words)
    assert "results exist, nothing was computed" in again.output
    other = run("analyze", "--recording", "cells.npz:missing=drop trials", *CHEAP, "--out", "out", "--quiet")
    assert other.exit_code != 0
    assert "holds results with other settings" in other.output


def test_a_recording_over_time_says_when_conditions_are_apart(run: Run, files: Path) -> None:
    noise = np.random.default_rng(0)
    rates = noise.standard_normal((60, 8, 10))
    rates[:, :, 6:] += 2 * np.eye(3, 8)[np.arange(60) % 3][:, :, None]
    labels = {"stim": np.arange(60) % 3, "run": np.repeat(range(10), 6), "time": 0.05 * np.arange(10)}
    np.savez(files / "timed.npz", rates=rates, **labels)
    words = ("analyze", "--recording", "timed.npz", "--measures", "stable_rank", "--out", "timed", "--quiet")
    found = run(*words)
    assert found.exit_code == 0, found.output
    assert "over time: linear_probe_accuracy, participation_ratio, trajectories in 10 bins" in found.output
    assert "all units: conditions are apart from 0.3 to 0.45 s (p = 0.002, corrected for all bins)" in found.output
    assert 'id="time"' in (files / "timed" / "report.html").read_text(encoding="utf-8")
    none = run(*words, "--over-time", "none", "--force")
    assert none.exit_code == 0, none.output
    assert "over time" not in none.output
    wrong = run("analyze", "--data", "digits", "--over-time", "nc1", "--out", "net")
    assert "--over-time is of recordings" in wrong.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recording", "cells.npz"], "1 missing of 240 values (NaN)"),
        (["--recording", "cells.npz:conditon=stim"], "there is no option 'conditon'; near: condition"),
        (["--recording", "cells.npz:missing=drop units", "--data", "digits"], "--data is given with --recording"),
        (["--recording", "cells.npz:missing=drop units", "net.py:make"], "a model is given with --recording"),
        (["--recording", "cells.npz:missing=drop units", "--groups", "day"], "groups='day': the recording has run"),
        (
            ["--recording", "cells.npz:missing=drop units", "--measures", "weight_movement"],
            "it is a measure of networks",
        ),
        (["--recording", "cells.npz:sessions=apart"], "sessions=apart gives several recordings"),
        (["--recording", "none.npz"], "not there"),
        ([], "--data is missing"),
        (["--data", "digits", "--groups", "run"], "--groups is of recordings"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    run: Run, file: Path, words: list[str], message: str
) -> None:
    found = run("analyze", *words, "--out", "out", "--quiet")
    assert found.exit_code != 0
    assert message in found.output
    assert not (file.parent / "out" / "settings.json").exists()


def test_recordings_are_compared_by_condition(run: Run, file: Path) -> None:
    one, two = "all=recording:cells.npz:missing=drop units", "few=recording:cells.npz:missing=drop trials"
    found = run("compare", one, two, "--trials", "matched", "--measures", "nc1", "--out", "out", "--quiet")
    assert found.exit_code == 0, found.output
    page = (file.parent / "out" / "comparison.html").read_text()
    assert "Rows are 5 matched trials of each of 5 conditions" in page
    assert "all: 1 of 8 units were dropped: values are missing (NaN)" in page
