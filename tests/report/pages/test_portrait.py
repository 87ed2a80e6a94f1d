"""The page of portrait: diagrams over two conditions, courses, strategies with counts, stages, and bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from geomfeat.charts import Heat, Plot
from geomfeat.comparison.relations.runs import trainings_of
from geomfeat.errors import BadInput
from geomfeat.report.content.portrait_content import stories
from geomfeat.report.pages.portrait import portrait_axes, portrait_pictures, save_portrait_figures, write_portrait_page
from geomfeat.report.pages.sweep_common import explorer_of
from geomfeat.types import Estimate
from tests.comparison.swept import sweep
from tests.report import swept_pages
from tests.report.html_reader import Read, assert_whole, read


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return swept_pages.courses()


@pytest.fixture(scope="module")
def page(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(
        write_portrait_page(table, tmp_path_factory.mktemp("portrait") / "portrait.html", table_file="table.parquet")
    )


def test_the_page_is_whole_and_its_links_lead_somewhere(page: Read) -> None:
    assert_whole(page)
    assert {a["href"] for tag, a in page.elements if tag == "a"} <= {f"#{name}" for name in page.ids}
    assert "Portrait over init scale σ and learning rate η" in page.text


def test_strategies_and_courses_are_counted(table: pd.DataFrame, page: Read) -> None:
    (story,) = stories(trainings_of(table), table)
    # 33 trainings ended; the dimension does most, and with the radius falls in all of them.
    assert story.sentences[0] == "Capacity rose in 33 of 33 trainings; most of the gain came from dimension (33)."
    assert story.sentences[1] == "Dimension and radius together: compress (33)."
    assert story.sentences[-1] == "3 of 36 trainings have no capacity here: see the failures."
    assert all(line in page.text for line in story.sentences)
    start, end = swept_pages.story(0.25, 0.0), swept_pages.story(0.25, 1.0)
    change = math.log(end["capacity"] / start["capacity"])
    assert any(value == pytest.approx(change, abs=1e-6) for value, _ in page.numbers)


def test_the_courses_of_the_explorer_are_those_of_the_table(page: Read) -> None:
    data = json.loads(page.scripts["sweep-data"])
    place = next(i for i, v in enumerate(data["axes"][0]["values"]) if v == 0.25)
    course = data["courses"][place]
    assert course["steps"] == [0, 1, 3, 10, 20, 40, 70, 100]
    expected = [swept_pages.story(0.25, k / 7)["dimension"] for k in range(8)]
    assert course["values"]["capacity: dimension, fc1"] == pytest.approx(expected, rel=1e-4)
    assert "richness R" not in course["values"]


def test_pictures_are_maps_and_courses(table: pd.DataFrame, tmp_path: Path) -> None:
    pictures = portrait_pictures(table, trainings_of(table), ("eta", "sigma"))
    maps = [name for name, p in pictures.items() if isinstance(p, Heat)]
    assert maps == ["richness_1", "excess_1", "capacity_fc1_1", "radius_fc1_1", "dimension_fc1_1"]
    heat = pictures["dimension_fc1_1"]
    assert isinstance(heat, Heat)
    assert (heat.x_label, heat.y_label) == ("learning rate η", "init scale σ")
    assert heat.values[0][0] == pytest.approx(swept_pages.story(0.25, 1.0)["dimension"])
    course = pictures["course_fc1"]
    assert isinstance(course, Plot)
    assert len(course.curves) == 7
    paths = save_portrait_figures(table, tmp_path, x="eta")
    assert [p.stem for p in paths] == list(pictures)


def test_a_random_design_has_no_still_map_but_all_trainings() -> None:
    points = [(0.31, 0.02), (0.7, 0.9), (1.1, 0.3), (1.9, 0.05), (0.45, 0.11), (1.5, 0.6)]
    axes = {"point": points}

    def numbers(c: dict, s: int) -> dict:
        return {("location", "richness", ""): c["point"][0]}

    table = sweep(axes, 1, numbers)
    table["sigma"], table["eta"] = (table["point"].map(lambda p, i=i: p[i]) for i in (0, 1))
    table = table.drop(columns="point")
    assert portrait_pictures(table, trainings_of(table), ("sigma", "eta")) == {}


def test_one_axis_unknown_axes_and_the_same_twice_are_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    single = table[table["eta"] == 0.1]
    with pytest.raises(BadInput, match="needs two conditions that vary, and only sigma varies"):
        write_portrait_page(single, tmp_path / "p.html")
    none = single[single["sigma"] == 0.5]
    with pytest.raises(BadInput, match="none varies"):
        write_portrait_page(none, tmp_path / "p.html")
    found = trainings_of(table)
    with pytest.raises(BadInput, match="near: sigma"):
        portrait_axes(found, "sigm")
    with pytest.raises(BadInput, match="both 'eta'"):
        portrait_axes(found, "eta", "eta")
    assert portrait_axes(found, y="sigma") == ("eta", "sigma")


def test_depth_splits_the_diagrams_and_is_reported_so() -> None:
    deep = sweep({"sigma": [0.5, 1.0], "depth": [1, 2]}, 1, lambda c, s: {("location", "richness", ""): c["sigma"]})
    found = trainings_of(deep)
    with pytest.raises(BadInput, match=r"only sigma varies \(depth would split the diagrams\)"):
        portrait_axes(found)
    with pytest.raises(BadInput, match=r"depth cannot be an axis here.*geomfeat\.portrait"):
        portrait_axes(found, x="depth")


def test_a_further_condition_is_shown_at_its_middle_value_and_those_of_the_axes_are_not_filtered() -> None:
    table = sweep({"sigma": [0.5, 1.0], "eta": [0.1, 1.0], "width": [32, 64, 128]}, 1, lambda c, s: {
        ("location", "richness", ""): -c["sigma"]})  # fmt: skip
    found = trainings_of(table)
    for lead, fixed in (((), {"width": "64"}), (("eta", "width"), {"sigma": "1"})):
        made = explorer_of(found, table, lead=lead)
        assert made is not None
        assert {f["name"]: f["first"] for f in made["filters"] if f["first"]} == fixed
        assert made["axes"][:2] == list(lead or ("sigma", "eta"))


def test_maps_of_richness_have_theorys_lines_and_those_of_other_numbers_none(table: pd.DataFrame) -> None:
    found = trainings_of(table)
    pictures = portrait_pictures(table, found, ("sigma", "eta"))
    heat = pictures["richness_1"]
    assert isinstance(heat, Heat)
    upright = [line for line in heat.lines if line.kind == "theory"]
    assert upright
    assert all(max(line.x) - min(line.x) < 1e-9 for line in upright)
    assert "dashed lines are predicted by theory" in heat.caption
    for name, other in pictures.items():
        if isinstance(other, Heat) and not name.startswith("richness"):
            assert not [line for line in other.lines if line.kind == "theory"]
            assert "theory" not in other.caption


def test_a_sweep_that_all_diverged_does_not_blame_the_grid(tmp_path: Path) -> None:
    failed = {"outcome": "diverged", "note": "diverged at step 3"}
    wrong = sweep({"sigma": [0.5, 1.0], "eta": [1.0, 2.0]}, 2, lambda c, s: (
        {("location", "richness", ""): Estimate.failed("diverged")}, failed))  # fmt: skip
    text = read(write_portrait_page(wrong, tmp_path / "p.html")).text
    assert "no training that can be compared has such a number" in text
    assert "see the comparison at equal fit" not in text
