"""The notebook surface."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import geomfeat as gf
from geomfeat.api import Comparison, Results, analyze, compare, compare_page
from geomfeat.errors import BadInput
from geomfeat.location import LocateOptions
from geomfeat.study import StudyOptions
from tests.study.small import digits, model_at

FAST = LocateOptions(n_bootstrap=2, n_probes=24)


@pytest.fixture(scope="module")
def found() -> Results:
    x, y = digits()
    return analyze(
        model_at(2),
        x,
        y,
        initial=model_at(0),
        measures=["stable_rank", "nc1"],
        location=FAST,
        progress=False,
        options=StudyOptions(umap=False, name="net"),
    )


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


def test_pinned_arguments_are_taken() -> None:
    pinned = {
        gf.analyze: "model inputs labels initial layers measures seed device",
        gf.locate: "model inputs labels initial factory params readout groups ladder seed",
        gf.extract: "model inputs labels layers reduce project groups store device progress",
    }
    for function, names in pinned.items():
        known = inspect.signature(function).parameters
        assert set(names.split()) <= set(known)
        assert list(known)[:3] == ["model", "inputs", "labels"]


def test_options_that_are_no_options_are_refused_by_name() -> None:
    x, y = digits()
    given = {"n_bootstrap": 2}
    for call in (
        lambda: gf.extract(model_at(2), x, options=given),
        lambda: gf.locate(model_at(2), x, y, options=given),
        lambda: gf.analyze(model_at(2), x, y, options=given),
        lambda: gf.compare({"a": model_at(0), "b": model_at(2)}, x, options=given),
    ):
        with pytest.raises(BadInput, match=r"options is a dict: give \w+Options\(...\)"):
            call()


@pytest.mark.parametrize("option", [{"io": "input"}, {"mask": np.ones((60, 3))}, {"batch_dim": 1}, {"calls": "all"}])
def test_options_of_extract_alone_are_refused_elsewhere(option: dict[str, Any]) -> None:
    x, _ = digits()
    extraction = gf.ExtractOptions(**option)
    with pytest.raises(BadInput, match=f"{next(iter(option))} is an option of extract alone"):
        analyze(model_at(2), x, extraction=extraction)
    with pytest.raises(BadInput, match="alone"):
        compare({"a": model_at(0), "b": model_at(2)}, x, extraction=extraction)


def test_a_comparison_draws_itself_and_comes_back(tmp_path: Path) -> None:
    x, y = digits()
    found = compare({"start": model_at(0), "end": model_at(2)}, x, y, measures=["stable_rank"], progress=False)
    assert str(found).startswith("2 models, 4 layers. The similarity of start and end, as wholes, is 0.")
    back = Comparison.load(found.save(tmp_path))
    pages = [one.to_html(tmp_path / f"{i}.html").read_bytes() for i, one in enumerate((found, back))]
    assert pages[0] == pages[1]
