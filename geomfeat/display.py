"""How results show themselves: as a table, in a few lines, in a notebook and as a picture.

A result is a frozen dataclass that inherits `BaseResult`, or `PlottableResult` where there is a picture of it. It says
in `_columns` what its table holds and in `_chart` what its picture shows; the rest is written here, once. pandas and
matplotlib are imported when they are needed, so that the pure rooms may use this module.
"""

from __future__ import annotations

import html
import math
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from geomfeat.charts import Curve, Heat, Plot, draw

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.axes import Axes

MOST_ROWS, MOST_COLUMNS = 10, 12  # of the table in a notebook
MOST_NAMES = 20  # along the axis of a map; more would run into each other
NOTES = ("note", "notes", "flags")


class BaseResult:
    """What every result has: `to_frame()`, a text of a few lines, and a small table in notebooks."""

    # Attributes that have an entry for every row of the table; without any the table has one row.
    _rows: Sequence[str] = ()

    def to_frame(self) -> pd.DataFrame:
        """A tidy table; the class says which columns it has where they are not named as its attributes."""
        import pandas as pd

        return pd.DataFrame(self._columns())

    def _columns(self) -> dict[str, Any]:
        """The columns of the table: the attributes in `_rows`, and all single numbers and words."""
        listed = {name: as_list(getattr(self, name)) for name in self._rows if getattr(self, name) is not None}
        single = {
            name: value.item() if hasattr(value, "item") else value
            for name, value in attributes_of(self)
            if is_single(value)
        }
        n = len(next(iter(listed.values()))) if listed else 1
        return listed | {name: [value] * n for name, value in single.items()}

    def __str__(self) -> str:
        text = f"{type(self).__name__}: {', '.join(stated(self))}".removesuffix(": ")
        if self._rows:
            count = len(as_list(getattr(self, self._rows[0])))
            text += f"; {count} entries each of {', '.join(self._rows)}"
        return "\n".join([*textwrap.wrap(text, 110, subsequent_indent="  "), *(f"  note: {n}" for n in notes_of(self))])

    def _repr_html_(self) -> str:
        """A table of the first rows, all names escaped; nothing is loaded from elsewhere."""
        frame = self.to_frame()
        table = frame.head(MOST_ROWS).to_html(
            index=False, border=0, escape=True, max_cols=MOST_COLUMNS, na_rep="", float_format="{:.4g}".format
        )
        left = f"<p>{len(frame)} rows, of which {MOST_ROWS} are shown: see to_frame()</p>" * (len(frame) > MOST_ROWS)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in notes_of(self))
        head = html.escape(str(self).partition("\n")[0])
        # The class keeps notebooks from reading a dollar sign in a name as the start of a formula.
        return (
            f'<div class="tex2jax_ignore mathjax_ignore"><p>{head}</p>{table}{left}'
            + (f"<ul>{notes}</ul>" if notes else "")
            + "</div>"
        )


class PlottableResult(BaseResult, ABC):
    """A result with a picture."""

    @abstractmethod
    def _chart(self) -> Plot | Heat:
        """What the picture shows."""

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the result into `ax`, or into a new figure, with matplotlib; returns the axes."""
        return draw(self._chart(), ax)

    def plotly(self) -> go.Figure:
        """The same picture as a plotly figure: hover for values, drag to enlarge, click the legend to hide."""
        from geomfeat.report.plotly.interactive import interactive

        return interactive(self._chart())


def attributes_of(result: Any) -> list[tuple[str, Any]]:
    """(name, value) of every field of a dataclass but its notes."""
    return [(f.name, getattr(result, f.name)) for f in fields(result) if f.name not in NOTES]


def stated(result: Any) -> list[str]:
    """The single numbers and words of a result, with their errors; what is None or empty is left out.

    >>> from dataclasses import make_dataclass
    >>> stated(make_dataclass("Found", ["size", "size_se", "unit"])(2.0, 0.125, None))
    ['size = 2 ± 0.12']
    """
    known = {name: value for name, value in attributes_of(result) if is_single(value) and value not in (None, "")}
    errors = {name: "stderr" if name == "value" else f"{name}_se" for name in known}
    found = []
    for name, value in known.items():
        if name not in errors.values():
            error = f" ± {float(known[errors[name]]):.2g}" if errors[name] in known else ""
            found.append(f"{name} = {short(value)}{error}")
    return found


def notes_of(result: Any) -> list[str]:
    """What limits or qualifies a result, in sentences."""
    found: list[str] = []
    for name in NOTES:
        value = getattr(result, name, ())
        if isinstance(value, frozenset):  # kinds, as the phases of a training, and no sentences
            continue
        if isinstance(value, Mapping):
            found += [f"{key}: {text}" for key, text in value.items()]
        elif value:
            found += [value] if isinstance(value, str) else list(map(str, value))
    return found


def is_single(value: Any) -> bool:
    """Whether a value is one number or word, as a cell of a table holds."""
    return value is None or isinstance(value, bool | int | float | str) or getattr(value, "ndim", None) == 0


def as_list(values: Any) -> list[Any]:
    """A tensor, array or sequence as a list of Python values.

    >>> as_list((1, 2.5))
    [1, 2.5]
    """
    return values.tolist() if hasattr(values, "tolist") else list(values)


def short(value: Any) -> str:
    """A value as a word of a sentence.

    >>> short(0.123456), short(12), short("flow")
    ('0.1235', '12', "'flow'")
    """
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    return f"{float(value):.4g}"


def quantity_columns(result: Any, *suffixes: str) -> dict[str, list[Any]]:
    """Columns quantity, value, stderr of a dataclass with fields x and x_se, and one for every other suffix of x.

    >>> from dataclasses import make_dataclass
    >>> quantity_columns(make_dataclass("Found", ["size", "size_se", "n"])(2.0, 0.1, 5))
    {'quantity': ['size', 'n'], 'value': [2.0, 5.0], 'stderr': [0.1, nan]}
    """
    endings = {"stderr": "_se", **{suffix: f"_se_{suffix}" for suffix in suffixes}}
    number = {
        name: float(value)
        for name, value in attributes_of(result)
        if is_single(value) and not isinstance(value, bool | str | None)
    }
    names = [name for name in number if not name.endswith(tuple(endings.values()))]
    errors = {column: [number.get(name + ending, math.nan) for name in names] for column, ending in endings.items()}
    return {"quantity": names, "value": [number[name] for name in names], **errors}


def pair_columns(rows: Sequence[Any], columns: Sequence[Any], **matrices: Any) -> dict[str, list[Any]]:
    """Matrices (rows, columns) as columns of a table with one row for each of their entries: row, column, values.

    >>> pair_columns(["a"], ["b", "c"], value=[[1, 2]])
    {'row': ['a', 'a'], 'column': ['b', 'c'], 'value': [1, 2]}
    """
    pairs = list(product(rows, columns))
    entries = {name: [v for line in as_list(values) for v in line] for name, values in matrices.items()}
    return {"row": [a for a, _ in pairs], "column": [b for _, b in pairs], **entries}


def matrix_map(
    title: str, rows: Sequence[Any], columns: Sequence[Any], values: Any, label: str, centered: bool = False
) -> Heat:
    """A matrix with named rows and columns as a map, first row at the bottom; many names are left out.

    >>> matrix_map("CKA", ["a"], ["b", "c"], [[1, 2]], "CKA").x_ticks
    ('b', 'c')
    """
    named = max(len(rows), len(columns)) <= MOST_NAMES
    return Heat(
        title, "", "", list(range(len(columns))), list(range(len(rows))), as_list(values), label, centered=centered,
        x_ticks=tuple(map(str, columns)) if named else (), y_ticks=tuple(map(str, rows)) if named else (),
    )  # fmt: skip


def line_chart(
    title: str, x_label: str, y_label: str, x: Any, y: Any, error: Any = None, *, log_x: bool = False,
    log_y: bool = False, names: Sequence[Any] = (),
) -> Plot:  # fmt: skip
    """One measured curve; `names` stand at x = 0, 1, 2, ... where x is no number. An error of NaN is not drawn."""
    bars = None if error is None else [0.0 if e is None or math.isnan(e) else e for e in as_list(error)]
    curve = Curve("", as_list(x), as_list(y), bars)
    return Plot(title, x_label, y_label, [curve], log_x, log_y, x_ticks=tuple(map(str, names)))


def marks_chart(title: str, y_label: str, names: Sequence[Any], y: Any, error: Any = None) -> Plot:
    """One mark for each name, which no line joins."""
    chart = line_chart(title, "", y_label, range(len(names)), y, error, names=names)
    return replace(chart, curves=[replace(chart.curves[0], kind="scatter")])
