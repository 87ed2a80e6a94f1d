"""Areas beside layers: matrices run by run, rankings with their ceiling, and likeness over time, of known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.comparison.models import CompareOptions, ModelComparison, compare
from geomfeat.comparison.models.area_geometry import group_rdms
from geomfeat.numerics import stream
from tests.report.html_reader import assert_whole, read

NAMES = [f"stimulus {i}" for i in range(8)]
FIRST, SECOND = (torch.randn(8, 5, generator=stream(i, "geometry"), dtype=torch.float64) for i in (1, 2))
RUNS, EACH, UNITS = 6, 3, 20
TIME = 0.1 * np.arange(8)


def timed() -> gf.Recording:
    """Two areas: "one" has the first geometry from 0.2 s on, "two" the second from 0.5 s on."""
    draws = stream(3, "recorded")
    shown = torch.arange(8).repeat_interleave(EACH).repeat(RUNS)
    parts = []
    for means, onset in ((FIRST, 0.2), (SECOND, 0.5)):
        mixed = means @ torch.randn(5, UNITS, generator=draws, dtype=torch.float64) / 5**0.5
        x = mixed[shown][:, :, None] * torch.from_numpy(onset - 0.01 < TIME)
        parts.append(x + 0.7 * torch.randn(x.shape, generator=draws, dtype=torch.float64))
    run = np.repeat(np.arange(RUNS), 8 * EACH)
    area = np.repeat(["one", "two"], UNITS)
    labels = np.array(NAMES)[shown.numpy()]
    return gf.Recording(torch.cat(parts, 1), labels, run=run, area=area, time=torch.from_numpy(TIME))


def layers() -> dict[str, gf.Representation]:
    made = {}
    for i, (name, x) in enumerate((("first", FIRST), ("second", SECOND))):
        wide = x @ torch.randn(5, 40, generator=stream(i, "wide"), dtype=torch.float64)
        made[name] = gf.Representation(wide, torch.arange(8), name, {}, classes=tuple(NAMES))
    return made


@pytest.fixture(scope="module")
def found() -> ModelComparison:
    options = CompareOptions(n_bootstrap=30)
    return compare({"net": layers(), "m1": timed()}, measures=["stable_rank"], progress=False, options=options)


def test_each_area_is_ranked_by_the_geometry_that_it_has(found: ModelComparison) -> None:
    best = found.ranking[found.ranking["rank"] == 1].set_index("brain")
    assert best["layer"].to_dict() == {"one of m1": "first", "two of m1": "second"}
    assert (best["ceiling_lower"] > 0.5).all()
    assert set(found.ranking["model"]) == {"net"}  # areas of one recording share the noise of its trials


def test_likeness_begins_with_the_signal_of_an_area_and_not_before(found: ModelComparison) -> None:
    begun = {(one["area"], one["layer"]): one["start"] for one in found.settings["clusters"]}
    assert abs(begun["one", "first"] - 0.2) < 0.11
    assert abs(begun["two", "second"] - 0.5) < 0.11
    rows = found.courses.set_index(["area", "layer", "time"])["similarity"]
    last = found.courses["time"].max()
    assert rows["one", "first", last] > rows["one", "second", last]


def test_a_course_is_the_mean_over_runs_by_hand(found: ModelComparison) -> None:
    recording, k = timed(), 6
    values = []
    for run in range(RUNS):
        part = recording.select(run=run, area="two")
        means = torch.stack([part.x[torch.from_numpy(part.condition == one), :, k].mean(0) for one in NAMES])
        own = gf.rdm(means, dissimilarity="correlation")
        layer = gf.rdm(layers()["second"].x, dissimilarity="correlation")
        values.append(float(gf.compare_rdms(layer, own, "rho_a")))
    rows = found.courses[(found.courses["area"] == "two") & (found.courses["layer"] == "second")]
    row = rows[np.isclose(rows["time"], TIME[k])].iloc[0]
    assert abs(row["similarity"] - np.mean(values)) < 1e-12
    assert abs(row["stderr"] - np.std(values, ddof=1) / RUNS**0.5) < 1e-12


def test_matrices_of_all_areas_and_layers_are_kept(found: ModelComparison, tmp_path: Path) -> None:
    assert found.rdms.shape == (4, 28)
    assert found.settings["conditions"] == NAMES
    place = found.layers.index[found.layers["layer"] == "first"][0]
    expected = gf.rdm(layers()["first"].x, dissimilarity="correlation").vectors[0]
    assert np.allclose(found.rdms[place], expected)
    again = ModelComparison.load(found.save(tmp_path / "saved"))
    assert np.array_equal(again.rdms, found.rdms)
    assert again.courses.equals(found.courses)


def test_runs_that_lack_a_condition_are_left_out_and_one_run_has_no_ceiling() -> None:
    layer = timed().to_representations()["one"]
    assert layer.labels is not None
    assert layer.groups is not None
    lacking = ~((layer.groups == 0) & (layer.labels == 3))
    made, note = group_rdms(layer.take(lacking.nonzero()[:, 0]), NAMES, "run")
    assert made is not None
    assert (made.n_rdms, note) == (RUNS - 1, "1 runs lack a condition and are left out of the ranking")
    alone, note = group_rdms(layer.take((layer.groups == 0).nonzero()[:, 0]), NAMES, "run")
    assert alone is not None
    assert alone.n_rdms == 1
    assert note.startswith("no noise ceiling")


def test_the_page_shows_areas_layers_matrices_ceilings_and_time(found: ModelComparison, tmp_path: Path) -> None:
    page = read(found.to_html(tmp_path / "page.html"))
    ids = [a["id"] for tag, a in page.elements if tag == "section"]
    assert ids[:4] == ["answer", "brain", "rdms", "time"]
    for words in (
        "Likeness to areas", "Each square holds the correlation distances", "The grey band is the noise ceiling",
        "mean over runs", "20 units, 144 trials in 6 runs, SNR", "means of 8 conditions",
        "Likeness to a layer begins in one of m1 at",
    ):  # fmt: skip
        assert words in page.text, words
    before_settings = page.text.partition("Settings and versions")[0]
    assert "from initial to trained" not in before_settings
    assert_whole(page)


def test_rows_of_a_matrix_are_in_the_order_of_the_conditions_asked_for() -> None:
    layer = timed().select(area="two").to_representation()
    order = NAMES[::-1]
    (straight, _), (turned, _) = (group_rdms(layer, names, "run") for names in (NAMES, order))
    assert straight is not None
    assert turned is not None
    assert turned.conditions == tuple(order)
    assert torch.allclose(turned.matrices, straight.matrices.flip(1, 2))
