"""The verdict over time on the page: in words, with its numbers and limits, where it was measured; else not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from geomfeat.report.content import time_sentences as over_time
from geomfeat.report.content.study_view import views
from geomfeat.report.pages import write_page
from geomfeat.study import Study
from geomfeat.study.table import failed_rows, row
from geomfeat.types import Estimate
from tests.report.html_reader import read
from tests.report.synthetic import HOSTILE, make_study

NOTE = "lazy-then-rich, grokked; 13 snapshots to step 2000; outputs less those of the start, over gamma = 2"
NUMBERS = {"fit_time": 95.25, "test_time": 824.5, "late_share": 0.771}


def timed(study: Study, at: str = "init->trained", note: str = NOTE, **failed: str) -> Study:
    """The study with a verdict over time."""
    rows: list[dict[str, Any]] = [
        row(name, Estimate(value, note=note), at=at, measure="time_regime") for name, value in NUMBERS.items()
    ]
    for name, why in failed.items():
        rows += failed_rows([name], why, at=at, measure="time_regime")
    return replace(study, table=pd.concat([study.table, pd.DataFrame(rows)], ignore_index=True))


def test_the_verdict_is_reported_with_its_numbers_and_what_it_rests_on(tmp_path: Path) -> None:
    several = [timed(make_study("one"), silent_log_ratio="lazy-then-rich: the loss is not known"), make_study("two")]
    seen = read(write_page(several, tmp_path / "page.html"))
    assert "one: lazy-then-rich, grokked." in seen.text
    assert "came after the training samples were fitted. From: 13 snapshots to step 2000; outputs less" in seen.text
    assert "set on 34 runs" in seen.text
    assert "tested on 56 others" in seen.text
    assert "Training samples fitted at" in seen.text
    assert set(NUMBERS.values()) <= {value for value, _ in seen.numbers}
    sections = [a["id"] for tag, a in seen.elements if tag == "section"]
    assert sections[sections.index("strip") + 1] == "time"
    assert "#time" in [a["href"] for tag, a in seen.elements if tag == "a"]
    assert "over time lazy-then-rich, grokked" in seen.text, "the card of the answer says it too"
    assert not seen.unclosed


def test_a_verdict_whose_last_step_is_a_checkpoint_is_found() -> None:
    (view,) = views(timed(make_study(), at="0->500"))
    assert over_time.verdict(view) == "lazy-then-rich, grokked"


def test_a_course_that_could_not_be_judged_says_why(tmp_path: Path) -> None:
    why = "it needs three or more snapshots whose steps are known"
    rows = pd.DataFrame(failed_rows(["fit_time"], why, at="trained", measure="time_regime"))
    study = make_study("model " + HOSTILE)
    study = replace(study, table=pd.concat([study.table, rows], ignore_index=True))
    assert over_time.verdict(views(study)[0]) == ""
    seen = read(write_page(study, tmp_path / "page.html"))
    assert f"not judged over time. {why[0].upper()}{why[1:]}." in seen.text
    assert not seen.unclosed


def test_without_a_course_there_is_no_section(tmp_path: Path) -> None:
    seen = read(write_page(make_study(), tmp_path / "page.html"))
    assert "time" not in [a.get("id") for tag, a in seen.elements if tag == "section"]
    assert "34 runs" not in seen.text
