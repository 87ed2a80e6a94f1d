"""The page of a comparison holds what was found, survives hostile names, and is drawn without complaint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.comparison.models.result import ModelComparison
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import rdm, stack_rdms
from geomfeat.report.content.number_format import number
from geomfeat.report.pages import comparison as module
from geomfeat.report.pages.comparison import answers, sections, write_comparison
from geomfeat.types import Representation
from tests.comparison.planted import LABELS, layer, model, normal
from tests.report.browser import Browser, needs_chromium, visit
from tests.report.html_reader import Read, assert_whole, read

SECTIONS = ["answer", "models", "layers", "map", "matches", "profiles", "brain", "rdms", "troubles", "settings"]
HOSTILE = '</script><b>"%{x}" $y$ & co'


@pytest.fixture(scope="module")
def found() -> ModelComparison:
    """Four models, one of a hostile name and with a dead layer, and a brain of three subjects."""
    seen = [layer(2) + 0.7 * normal(len(LABELS), 12, seed=s, name="subject") for s in (1, 2, 3)]
    hostile = {**model([0, 2], seed=1, labels=True), "dead": Representation(torch.ones(len(LABELS), 3))}
    models = {"a": model([0, 1, 2], labels=True), HOSTILE: hostile, "one": model([3], labels=True)}
    subjects = stack_rdms([rdm(x, dissimilarity="correlation") for x in seen], "123")
    monkey = rdm(layer(2), dissimilarity="correlation")
    return compare(
        models,
        brain={"it": subjects, "monkey": monkey},
        progress=False,
        options=CompareOptions(n_draws=16, n_bootstrap=30),
    )


@pytest.fixture(scope="module")
def path(found: ModelComparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(found, tmp_path_factory.mktemp("page") / "deep" / "comparison.html")


@pytest.fixture(scope="module")
def page(path: Path) -> Read:
    return read(path)


def test_every_section_is_there_in_order_and_linked(page: Read) -> None:
    assert [a["id"] for tag, a in page.elements if tag == "section"] == SECTIONS
    assert page.links == [f"#{name}" for name in SECTIONS]
    assert_whole(page)


def test_the_answer_names_the_planted_layer_and_its_ceiling(found: ModelComparison, page: Read) -> None:
    said = " ".join(answers(found))
    assert "The layer most similar to it is layer2 of a" in said or "most similar to it is layer1 of </script>" in said
    assert "noise ceiling 0." in said
    assert all(sentence in page.text for sentence in answers(found))


def test_of_two_models_the_answer_is_the_number_and_the_square_is_closed() -> None:
    models = {name: model([0, 1], seed=i, labels=True) for i, name in enumerate("ab")}
    two = compare(models, measures=[], progress=False)
    assert answers(two)[0] == f"The similarity of a and b, as wholes, is {number(two.model_similarity[0, 1])}."
    square = next(section for section in sections(two) if section.key == "models").figures[0]
    assert [len(square.panels), len(square.folded), len(square.tables)] == [0, 1, 1]


def test_tables_hold_the_numbers_of_the_comparison(found: ModelComparison, page: Read) -> None:
    shown = np.array(sorted(value for value, _ in page.numbers))
    expected = np.concatenate([
        found.similarity.ravel(), found.model_similarity.ravel(), found.matches["similarity"],
        found.ranking["similarity"], found.layer_map.ravel(), found.differences["log_difference"],
        found.profiles.query("ok and quantity != 'alignment_floor'")["value"],
    ])  # fmt: skip
    for value in expected[np.isfinite(expected)]:
        at = np.searchsorted(shown, value)
        assert value in shown[max(at - 1, 0) : at + 2], value


def test_plotly_takes_every_panel(found: ModelComparison) -> None:
    panels = [panel for part in sections(found) for figure in part.figures for panel in figure.panels]
    assert len(panels) > 20
    for panel in panels:
        layout = {k: v for k, v in panel.layout.items() if k != "dragmode"}
        assert len(go.Figure(panel.data, layout).data) == len(panel.data)


def test_the_ceiling_is_a_band_where_there_are_several_subjects(found: ModelComparison) -> None:
    [brains] = [part for part in sections(found) if part.key == "brain"]
    several, single = (figure.panels[0].layout["shapes"] for figure in brains.figures)
    ceiling = found.ranking.iloc[0]
    assert [(s["y0"], s["y1"]) for s in several] == [(ceiling["ceiling_lower"], ceiling["ceiling_upper"])]
    assert single == []


def test_the_ceiling_lies_within_both_axes(found: ModelComparison) -> None:
    figures = next(s for s in sections(found) if s.key == "brain").figures
    for figure, (_, rows) in zip(figures, found.ranking.groupby("brain", sort=False), strict=True):
        profile, ranked = figure.panels
        for low, high in (profile.layout["yaxis"]["range"], ranked.layout["xaxis"]["range"]):
            assert low < rows["similarity"].min()
            assert not high <= rows[["similarity", "ceiling_lower", "ceiling_upper"]].max().max()


def test_similarities_are_in_words(page: Read) -> None:
    assert "unbiased linear CKA" in page.text
    assert "rank correlation ρₐ" in page.text
    assert "cka_linear_unbiased" not in page.text.partition("Settings and versions")[0]


def test_the_dendrogram_stands_beside_its_leaves(found: ModelComparison) -> None:
    clustered = sections(found)[1].figures[0].panels[1]
    tree = clustered.data[1]
    leaves = {y for x, y in zip(tree["x"], tree["y"], strict=True) if x == 0}
    assert leaves >= set(range(len(found.layers) - 1)), "all but the dead layer, which is last; copies join at 0"
    assert max(y for y in tree["y"] if y is not None) == len(found.layers) - 2
    assert clustered.data[0]["y"][-1].endswith("dead")


def test_failures_are_reported(page: Read) -> None:
    assert "constant over the samples" in page.text
    assert "of </script>" in page.text


def test_hostile_names_stay_text(path: Path, page: Read) -> None:
    assert HOSTILE in page.text
    assert not [tag for tag, _ in page.elements if tag == "b"]
    assert path.read_text(encoding="utf-8").count("</script>") == sum(tag == "script" for tag, _ in page.elements)


def test_the_same_comparison_gives_the_same_bytes(found: ModelComparison, path: Path, tmp_path: Path) -> None:
    assert write_comparison(found, tmp_path / "again.html").read_bytes() == path.read_bytes()
    with pytest.raises(BadInput, match="is a folder"):
        write_comparison(found, tmp_path)


def test_without_brains_and_profiles_the_page_says_so() -> None:
    bare = compare({"a": model([0]), "b": model([0], seed=1)}, measures=[], progress=False)
    text = module.render(bare, "two")
    assert "No brain data were given." in text
    assert "No profiles were requested" in text


@needs_chromium
def test_the_browser_draws_every_plot_and_says_nothing(browser: Browser, path: Path) -> None:
    seen = visit(browser, path)
    assert 'data-plots="drawn"' in seen.dom
    assert seen.console == []
    assert seen.requests == []
