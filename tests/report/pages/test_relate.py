"""The page of relate holds answer, slopes beside theory, maps with marks, what follows what, and every failure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from geomfeat.charts import Heat, Plot
from geomfeat.comparison.relations._relate import Related, relate
from geomfeat.comparison.relations.runs import trainings_of
from geomfeat.errors import BadInput
from geomfeat.report.content.explorer_data import explorer_data, json_text
from geomfeat.report.content.relate_content import answer, comparisons, follow_table
from geomfeat.report.pages.relate import relate_pictures, save_relate_figures, write_relate_page
from geomfeat.report.pages.sweep_common import rows_by_group
from geomfeat.report.plotly.charts import lab_figure
from tests.comparison.swept import noise, sweep
from tests.report import swept_pages
from tests.report.html_reader import Read, assert_whole, read


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return swept_pages.grid()


@pytest.fixture(scope="module")
def related(table: pd.DataFrame) -> Related:
    return relate(table)


@pytest.fixture(scope="module")
def path(table: pd.DataFrame, related: Related, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("relate") / "deep" / "relate.html"
    return write_relate_page(
        related, table, out, settings={"seeds": 3, "hostile": swept_pages.HOSTILE}, table_file="results.parquet",
        notes=("A note of the sweep.",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(path: Path) -> Read:
    return read(path)


def test_the_page_is_whole_and_its_links_lead_somewhere(page: Read) -> None:
    assert_whole(page)
    links = page.links
    assert set(links) <= {f"#{name}" for name in page.ids}
    assert len(links) == 9


def test_slopes_stand_beside_theory_and_the_answer_says_so(page: Read, related: Related) -> None:
    lines = answer(related)
    own = related.slopes
    own = own[(own["architecture"] == "mlp") & (own["measure"] == "location") & (own["quantity"] == "richness")]
    slope = float(own[(own["term"] == "sigma") & (own["cells"] == "all")]["slope"].iloc[0])
    assert slope == pytest.approx(-3, abs=0.05)
    first = next(line for line in lines if "mlp" in line and "init scale" in line)
    assert f"−{abs(slope):.1f}" in first
    assert "theory predicts −3: this agrees" in first
    assert all(line in page.text for line in lines)
    assert float(f"{slope:.6f}") in {round(value, 6) for value, _ in page.numbers}
    assert f"Follow richness, the other held fixed: dim, {swept_pages.HOSTILE}." in lines


def test_the_maps_of_a_group_stand_in_one_row_under_its_name(table: pd.DataFrame, related: Related) -> None:
    found = trainings_of(table)
    maps = {n: p for n, p in relate_pictures(related, table, found).items() if not n.startswith("residual")}
    rows = rows_by_group(found, maps, 6)
    assert [row.title for row in rows] == ["architecture mlp", "architecture cnn"]
    for number, row in enumerate(rows, 1):
        assert [picture.title for picture in row.pictures] == ["richness R", "movement M", "excess E"]
        own = [maps[f"{quantity}_{number}"] for quantity in ("richness", "movement", "excess")]
        assert [p.values for p in row.pictures] == [p.values for p in own]  # type: ignore[union-attr]
    assert [len(row.pictures) for row in rows_by_group(found, maps, 1)] == [3]


def test_what_limits_numbers_is_said_once_with_their_count(related: Related) -> None:
    _, limits = follow_table(related)
    assert limits == ["Train loss and accuracy do not vary or are not known: nothing is held fixed."]
    some = related.follow.copy()
    some.loc[some.index[0], "note"] = "too few"
    shown = some[~((some["measure"] == "location") & some["quantity"].isin(["low", "high"]))]
    assert "Too few (1 of " + f"{len(shown)} numbers)." in follow_table(replace(related, follow=some))[1]


def test_a_wrong_slope_is_said_to_differ(tmp_path: Path) -> None:
    wrong = sweep({"sigma": [0.5, 1.0, 2.0]}, 3, lambda c, s: {
        ("location", "richness", ""): -2 * math.log10(c["sigma"]) + 0.01 * s})  # fmt: skip
    found = relate(wrong)
    assert "this differs" in answer(found)[0]
    text = write_relate_page(found, wrong, tmp_path / "wrong.html").read_text(encoding="utf-8")
    assert '<td class="failed">differs</td>' in text
    assert "One condition varies" in text


def test_failures_are_counted_and_tell_why(page: Read) -> None:
    assert "6 of 72 trainings diverged or failed" in page.text
    assert "A note of the sweep." in page.text
    assert page.text.count(f"did not end: diverged at step 7: {swept_pages.HOSTILE}") >= 6


def test_maps_hold_every_cell_with_marks_and_upright_theory(table: pd.DataFrame, related: Related) -> None:
    found = trainings_of(table)
    pictures = relate_pictures(related, table, found)
    assert [k for k in pictures if k.endswith("_1")] == ["richness_1", "residual_1", "movement_1", "excess_1"]
    heat = pictures["richness_1"]
    assert isinstance(heat, Heat)
    rows = found.frame.assign(value=found.values[found.key("location", "richness")])
    rows = rows[(rows["architecture"] == "mlp") & (rows["sigma"] == 0.5) & (rows["eta"] == 0.1)]
    assert heat.values[1][1] == pytest.approx(rows["value"].mean())
    assert math.isnan(heat.values[2][3])
    (mark,) = heat.marks
    assert (mark.label, list(mark.x), list(mark.y)) == ("diverged", [math.log10(2)], [0.0])
    assert "diverged at step 7: &lt;/script&gt;" in heat.hints[2][3]
    theory = [line for line in heat.lines if line.kind == "theory"]
    assert theory
    assert all(np.ptp(line.x) < 1e-9 for line in theory)
    assert len(heat.lines) > len(theory)
    left = pictures["residual_1"]
    assert isinstance(left, Heat)
    assert left.centered
    assert np.nanmax(np.abs(np.array(left.values))) < 0.1


def test_a_condition_that_varies_alone_gives_curves_with_theory() -> None:
    table = sweep({"sigma": [0.5, 1.0, 2.0]}, 2, lambda c, s: {
        ("location", "richness", ""): -3 * math.log10(c["sigma"])})  # fmt: skip
    (plot,) = relate_pictures(relate(table), table, trainings_of(table)).values()
    assert isinstance(plot, Plot)
    assert [c.label for c in plot.curves] == ["mean over seeds", "slope -3"]
    assert np.allclose(plot.curves[0].y, plot.curves[1].y)


def test_the_explorer_has_every_training_number_and_failure(table: pd.DataFrame, page: Read) -> None:
    data = explorer_data(trainings_of(table), table)
    assert json.loads(page.scripts["sweep-data"]) == json.loads(json_text(data))
    assert len(data["trainings"]) == 72
    assert [a["name"] for a in data["axes"]] == ["sigma", "eta"]
    assert [f["name"] for f in data["filters"]] == ["architecture", "seed"]
    names = [n["name"] for n in data["numbers"]]
    assert names[:3] == ["richness R", "movement M", "excess E"]
    assert f"dim, {swept_pages.HOSTILE}" in names
    assert sum("diverged" in why for why in data["why"]) == 6


def test_comparisons_at_equal_fit_have_their_statement(table: pd.DataFrame, page: Read) -> None:
    made = comparisons(trainings_of(table), table, 0.9, 0)
    assert [c.title for c in made] == ["init scale σ 0.25 and 2", "learning rate η 0.01 and 1",
                                       "architecture mlp and cnn"]  # fmt: skip
    for c in made:
        assert c.found is not None
        assert " ".join(c.found.statement.split()) in page.text


def test_plotly_takes_every_map(table: pd.DataFrame, related: Related) -> None:
    for picture in relate_pictures(related, table, trainings_of(table)).values():
        (panel,) = lab_figure(picture).panels
        layout = {k: v for k, v in panel.layout.items() if k != "dragmode"}
        assert len(go.Figure(panel.data, layout).data) == len(panel.data)


def test_figures_are_saved_with_their_words(table: pd.DataFrame, related: Related, tmp_path: Path) -> None:
    paths = save_relate_figures(related, table, tmp_path / "figures")
    assert len(paths) == 8
    text = paths[0].read_text(encoding="utf-8")
    assert "diverged" in text
    assert "init scale" in text


def test_the_same_sweep_gives_the_same_page(path: Path, table: pd.DataFrame, related: Related, tmp_path: Path) -> None:
    again = write_relate_page(
        related, table, tmp_path / "again.html", settings={"seeds": 3, "hostile": swept_pages.HOSTILE},
        table_file="results.parquet", notes=("A note of the sweep.",),
    )  # fmt: skip
    assert again.read_bytes() == path.read_bytes()


def test_a_folder_is_refused(table: pd.DataFrame, related: Related, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        write_relate_page(related, table, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="name a folder"):
        save_relate_figures(related, table, tmp_path / "file")


def test_groups_by_what_is_given_and_slopes_on_an_exponent_are_in_words(tmp_path: Path) -> None:
    def numbers(c: dict, s: int) -> dict:
        return {("location", "richness", ""): 2.1 * c["r"] + 0.01 * noise(s, c["r"])}

    table = sweep({"r": [0.0, 0.25, 0.5], "batch_size": [16, None]}, 3, numbers)
    found = relate(table)
    lines = answer(found)
    assert lines[0].startswith("batch_size given: Richness R changes by 2.1")
    assert "decades per 1 of r; theory predicts 2.107: this agrees" in lines[0]
    assert any(line.startswith("batch_size not given: ") for line in lines)
    text = read(write_relate_page(found, table, tmp_path / "r.html")).text
    assert "has_batch_size" not in text
    assert "r (no log)" in text
