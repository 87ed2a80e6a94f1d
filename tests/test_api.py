"""The notebook surface."""

from __future__ import annotations

import inspect
from pathlib import Path

import pandas as pd
import pytest

from geomfeat.api import Comparison, Results, analyze, compare, compare_page
from geomfeat.comparison.models._compare import compare_models
from geomfeat.errors import BadInput
from geomfeat.study import run_study
from tests.study.small import digits, model_at

FAST = {"n_bootstrap": 2, "n_probes": 24}


@pytest.fixture(scope="module")
def found() -> Results:
    x, y = digits()
    return analyze(
        model_at(2), x, y, initial=model_at(0), measures=["stable_rank", "nc1"], umap=False, location=FAST,
        progress=False, name="net",
    )  # fmt: skip


def test_results_are_a_table_a_location_and_a_page(found: Results, tmp_path: Path) -> None:
    assert isinstance(found.table, pd.DataFrame)
    assert found.location is not None
    page = found.to_html(tmp_path / "deep" / "page.html")
    assert "net" in page.read_text(encoding="utf-8")
    assert found.location.regime in str(found)


def test_results_load_as_results(found: Results, tmp_path: Path) -> None:
    back = Results.load(found.save(tmp_path))
    assert isinstance(back, Results)
    assert back.to_html(tmp_path / "again.html").read_bytes() == found.to_html(tmp_path / "first.html").read_bytes()


def test_several_studies_are_compared_on_one_page(found: Results, tmp_path: Path) -> None:
    other = Results("other", found.table.assign(run="other"), found.location, found.arrays, found.settings)
    html = compare_page([found, other], tmp_path / "page.html", title="two").read_text(encoding="utf-8")
    assert "other" in html
    with pytest.raises(BadInput, match="named 'net'"):
        compare_page([found, found], tmp_path / "page.html")


def test_analyze_takes_what_a_study_takes_with_the_same_defaults() -> None:
    ours, theirs = inspect.signature(analyze).parameters, inspect.signature(run_study).parameters
    assert {k: p.default for k, p in ours.items()} == {k: p.default for k, p in theirs.items()}
    pinned = ["trained", "inputs", "labels", "initial", "layers", "measures", "seed", "device"]
    assert list(ours)[: len(pinned)] == pinned


def test_compare_takes_what_a_comparison_takes_with_the_same_defaults() -> None:
    ours, theirs = inspect.signature(compare).parameters, inspect.signature(compare_models).parameters
    assert {k: p.default for k, p in ours.items()} == {k: p.default for k, p in theirs.items()}


def test_a_comparison_draws_itself_and_comes_back(tmp_path: Path) -> None:
    x, y = digits()
    found = compare({"start": model_at(0), "end": model_at(2)}, x, y, measures=["stable_rank"], progress=False)
    assert str(found).startswith("2 models, 4 layers. The most similar models are start and end (0.")
    back = Comparison.load(found.save(tmp_path))
    pages = [one.to_html(tmp_path / f"{i}.html").read_bytes() for i, one in enumerate((found, back))]
    assert pages[0] == pages[1]
