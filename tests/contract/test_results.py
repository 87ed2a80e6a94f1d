"""Every public result shows itself: as a tidy table, in a few lines, in a notebook, and as a picture where declared."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import geomfeat as gf
from geomfeat.charts import Heat
from geomfeat.display import BaseResult, PlottableResult
from geomfeat.report.content.components import plain
from tests.contract.result_examples import EXAMPLES, NAME

# What public functions give that other functions take, and that is no result: data, tasks, models and their parts.
INPUTS = {
    "Dataset", "Experiment", "Identity", "LayerCall", "LinearTask", "Manifolds", "Measure", "ModularTask", "Products",
    "Snapshot", "Spread",
}  # fmt: skip
RESULTS = pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
PICTURES = pytest.mark.parametrize(
    "kind", [kind for kind in EXAMPLES if issubclass(kind, PlottableResult)], ids=lambda kind: kind.__name__
)


@cache
def example(kind: type) -> Any:
    return EXAMPLES[kind]()


def public_functions() -> Iterator[Any]:
    """Functions, and methods of classes, that geomfeat and its rooms export."""
    rooms = [gf]
    for found in pkgutil.walk_packages(gf.__path__, "geomfeat."):
        if found.ispkg and not found.name.startswith(("geomfeat.cli", "geomfeat._numba", "geomfeat.report")):
            rooms.append(importlib.import_module(found.name))
    for room in rooms:
        for name in getattr(room, "__all__", ()):
            value = getattr(room, name)
            methods = vars(value).items() if inspect.isclass(value) else ()
            yield from (value, *(method for key, method in methods if not key.startswith("_")))


def dataclasses_in(annotation: Any) -> Iterator[type]:
    if inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from dataclasses_in(part)


def returned_by(function: Any) -> set[type]:
    # What modules import for type checkers alone.
    late = {"pd": pd, "pandas": pd, "Axes": Axes, "Figure": Figure}
    return set(dataclasses_in(typing.get_type_hints(function, localns=late).get("return")))


def test_all_that_public_functions_return_is_a_result_with_an_example_here() -> None:
    returned = set()
    for function in public_functions():
        if inspect.isfunction(function) and function.__module__.startswith("geomfeat"):
            returned |= returned_by(function)
    assert len(returned) > 40
    missing = {kind.__name__ for kind in returned - EXAMPLES.keys()} - INPUTS
    assert not missing, f"give {missing} the base BaseResult, and an example in tests/contract/result_examples.py"


def test_results_of_gf_functions_are_exported_beside_them() -> None:
    for name in gf.__all__:
        function = getattr(gf, name)
        if inspect.isfunction(function):
            for kind in returned_by(function):
                assert getattr(gf, kind.__name__, None) is kind, f"gf.{name} gives {kind.__name__}"


@RESULTS
def test_a_result_is_a_table_with_unique_columns_of_plain_values(kind: type) -> None:
    result = example(kind)
    assert type(result) is kind
    assert isinstance(result, BaseResult)
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) > 0
    assert frame.columns.is_unique
    for name in frame.columns:
        for value in frame[name]:
            plain = value is None or isinstance(value, str | int | float | np.generic | tuple)
            assert plain, f"{name} holds {type(value).__name__}"


@RESULTS
def test_a_result_is_a_few_lines_of_text(kind: type) -> None:
    text = str(example(kind))
    assert 0 < len(text) < 2000
    assert text.count("\n") < 20
    assert "tensor(" not in text
    assert "object at" not in text


@RESULTS
def test_a_notebook_shows_a_small_table_with_escaped_names_and_nothing_from_elsewhere(kind: type) -> None:
    html = example(kind)._repr_html_()
    assert "<table" in html
    assert len(html) < 30_000
    assert "<script" not in html
    assert "http" not in html
    assert "src=" not in html
    tags = {element.tag for element in ElementTree.fromstring(html).iter()}  # ParseError where a name breaks out
    assert tags <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


@PICTURES
def test_a_picture_is_drawn_into_given_axes_and_alone(kind: type) -> None:
    figure = Figure()
    axes = figure.add_subplot()
    assert example(kind).plot(axes) is axes
    assert axes.has_data()
    figure.canvas.draw()


@PICTURES
def test_the_interactive_twin_shows_the_same_numbers(kind: type) -> None:
    chart, found = example(kind)._chart(), example(kind).plotly()
    assert found.layout.title.text == plain(chart.title)
    if isinstance(chart, Heat):
        (drawn,) = (trace.z for trace in found.data if trace.type == "heatmap")
        assert_allclose(np.array(drawn, dtype=float), np.array(chart.values, dtype=float), rtol=1e-4)
        return
    drawn = [trace for trace in found.data if trace.fill is None]
    assert [trace.name for trace in found.data if trace.showlegend] == [plain(c.label) for c in chart.curves if c.label]
    for trace, curve in zip(drawn, chart.curves, strict=True):
        assert_allclose(np.array(trace.y, dtype=float), np.array(curve.y, dtype=float), rtol=1e-4)


def test_without_axes_pyplot_has_the_figure() -> None:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    axes = example(gf.CkaMatrix).plot()
    assert isinstance(axes, Axes)
    assert axes.figure is pyplot.gcf()
    pyplot.close(axes.figure)


def test_names_are_shown_as_they_are() -> None:
    assert NAME in str(example(gf.CkaMatrix))
    assert NAME in set(example(gf.CkaMatrix).to_frame()["row"])
    assert "&lt;script&gt;" in example(gf.CkaMatrix)._repr_html_()
    ticks = example(gf.CkaMatrix).plot(Figure().add_subplot()).get_xticklabels()
    assert ticks[0].get_text() == NAME.replace("$", r"\$")


def test_list_measures_has_a_row_for_each_measure() -> None:
    found = gf.list_measures()
    assert list(found.columns) == ["name", "scope", "needs", "summary", "quantities", "source", "min_samples"]
    assert list(found["name"]) == [m.name for m in gf.available()]
    row = found.set_index("name").loc["nc1"]
    assert row["scope"] == "layer"
    assert row["needs"] == "labels"
    assert row["summary"] == gf.get("nc1").summary


def test_tables_have_the_numbers_of_the_results() -> None:
    capacity = example(gf.Capacity)
    frame = capacity.to_frame().set_index("quantity")
    assert frame.loc["capacity", "value"] == capacity.capacity
    assert frame.loc["radius", "stderr"] == capacity.radius_se
    matrix = example(gf.CkaMatrix)
    entry = matrix.to_frame().query("row == 'b' and column == @NAME", local_dict={"NAME": NAME}).iloc[0]
    assert entry["value"] == float(matrix.values[1, 0])
    rdms = example(gf.RDMs)
    pair = rdms.to_frame().query("condition_a == 1 and condition_b == 3").iloc[0]
    assert pair["value"] == float(rdms.matrices[0, 1, 3])
    located = example(gf.Location)
    assert located.to_frame().loc[0, "richness"] == located.richness
    assert list(located.to_frame()["layer"]) == ["", NAME, "b"]
