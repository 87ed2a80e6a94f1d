"""A study made ready for reading: its numbers by name, its look, and where its layers stand on a common depth axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomfeat.charts import theme as look
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.capacity_floor import at_floor

if TYPE_CHECKING:
    from geomfeat.location.result import Location
    from geomfeat.study import Study

INITIAL, TRAINED, CHANGE, RECORDED = "init", "trained", "init->trained", "recorded"
OVER_TIME = "over time"
AT_WORDS = {
    INITIAL: "initial", TRAINED: "trained", CHANGE: "initial to trained", RECORDED: "recorded", OVER_TIME: OVER_TIME,
}  # fmt: skip
CROWDED = 24  # number of layers above which marks of single layers overlap
AT_KEYS = {"initial": INITIAL, "trained": TRAINED}
MOST_TICKS, FEW_TICKS = 12, 7
LONGEST_TICK = 13
MOST_NAMES = 2  # names of layers under one tick


@dataclass(frozen=True)
class Value:
    """One number of the table."""

    value: float
    stderr: float | None
    ok: bool
    note: str

    @property
    def drawn(self) -> float | None:
        """The value where it can be drawn and relied on, else None (a gap in the line)."""
        return self.value if self.ok and math.isfinite(self.value) and not self.low else None

    @property
    def low(self) -> bool:
        """Whether it is a capacity at the floor, which does not measure separability."""
        return self.ok and math.isfinite(self.value) and at_floor(self.note)


@dataclass(frozen=True, eq=False)
class View:
    """A study as the page reads it.

    Attributes:
        index: place of the study on the page; decides colour and mark.
        layers: hidden layers, from input to output.
        numbers: (at, measure, quantity) -> {layer: Value}; layer "" is the whole network.
    """

    study: Study
    index: int
    layers: tuple[str, ...]
    numbers: dict[tuple[str, str, str], dict[str, Value]]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.study.name

    @property
    def location(self) -> Location | None:
        """Its location, if it could be computed."""
        return self.study.location

    @property
    def colour(self) -> str:
        """Its colour on the page."""
        return look.colour(self.index)

    def at(self, at: str, measure: str, quantity: str) -> dict[str, Value]:
        """{layer: Value} of one quantity at one moment; empty if it was not measured."""
        return self.numbers.get((at, measure, quantity), {})

    def class_name(self, code: Any) -> str:
        """The name of a class, or its number where it has none."""
        names = self.study.settings.get("classes") or ()
        return str(names[int(code)]) if 0 <= int(code) < len(names) else str(code)

    def array(self, *key: str) -> Any:
        """The array stored under "a/b/c", or None."""
        return self.study.arrays.get("/".join(key))

    def arrays(self, kind: str, at: str) -> Iterator[tuple[str, Any]]:
        """(layer, array) of all arrays "kind/at/layer", layers in forward order."""
        prefix = f"{kind}/{at}/"
        found = {key.removeprefix(prefix): value for key, value in self.study.arrays.items() if key.startswith(prefix)}
        order = {layer: i for i, layer in enumerate(self.layers)}
        yield from sorted(found.items(), key=lambda item: order.get(item[0], len(order)))


def views(studies: Study | Sequence[Study]) -> list[View]:
    """The studies of a page, checked. BadInput for none, or for two with the same name."""
    several = list(studies) if isinstance(studies, Sequence) else [studies]
    if not several:
        raise BadInput("studies is empty: there is nothing to report; run geomfeat analyze first")
    names = [s.name for s in several]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadInput(
            f"studies: {len(several)} models, but more than one is named {twice[0]!r}: give each its own name"
        )
    return [
        View(s, i, tuple(str(layer) for layer in s.settings.get("layers", ())), _numbers(s))
        for i, s in enumerate(several)
    ]


def _numbers(study: Study) -> dict[tuple[str, str, str], dict[str, Value]]:
    table, numbers = study.table, {}
    needed = ("at", "measure", "quantity", "layer", "layer_b", "value", "stderr", "ok", "note")
    absent = [name for name in needed if name not in table.columns]
    if absent:
        raise BadInput(
            f"the table of study {study.name!r} lacks the columns {', '.join(absent)}: is it a results table?"
        )
    columns = [table[name].tolist() for name in needed]
    for at, measure, quantity, layer, other, value, stderr, ok, note in zip(*columns, strict=True):
        layer, other = as_text(layer), as_text(other)
        if other not in ("", layer):
            continue  # a number of two different layers is a cell of a matrix, not a point of a profile
        known = numbers.setdefault((as_text(at), as_text(measure), as_text(quantity)), {})
        made = Value(_float(value), None if math.isnan(_float(stderr)) else _float(stderr), bool(ok), as_text(note))
        if layer not in known or (made.ok and not known[layer].ok):
            known[layer] = made
    return numbers


def as_text(value: Any) -> str:
    """A cell of a text column; empty where it is missing."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


@dataclass(frozen=True)
class Depth:
    """The horizontal axis of a profile: where each layer of each model stands on it.

    Models with the same layers share an axis of layer names; with equally many, of layer numbers, with the names of two
    kinds of network where there is room; else of the share of the depth, since the third of six and the third of sixty
    layers have little in common. A label may have several lines.
    """

    kind: str
    title: str
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def position(self, view: View, layer: str) -> float:
        """Place of a layer on the axis."""
        place = view.layers.index(layer)
        return place + 1 if self.kind != "share" else 100 * place / max(len(view.layers) - 1, 1)


def depth_axis(several: Sequence[View]) -> Depth:
    """The common axis of these models."""
    layers = several[0].layers
    counts = {len(v.layers) for v in several}
    if len(counts) > 1:
        ticks = (0.0, 25.0, 50.0, 75.0, 100.0)
        return Depth("share", "depth: first hidden layer 0 %, last 100 %", ticks, tuple(f"{t:.0f}" for t in ticks))
    # Once some labels must go anyway, few are better: slanted names of small panels run into each other.
    shown = thinned(len(layers), MOST_TICKS if len(layers) <= MOST_TICKS else FEW_TICKS)
    ticks = tuple(float(i + 1) for i in shown)
    if all(v.layers == layers for v in several):
        return Depth("name", "layer, from input to output", ticks, tuple(clipped(layers[i]) for i in shown))
    kinds = list(dict.fromkeys(v.layers for v in several))
    if len(kinds) <= MOST_NAMES and len(layers) <= FEW_TICKS:  # a line for the names of each kind of network
        labels = tuple("\n".join(dict.fromkeys(clipped(one[i]) for one in kinds)) for i in shown)
        return Depth("number", "layer, from input to output", ticks, labels)
    return Depth("number", "layer number, from input to output", ticks, tuple(str(i + 1) for i in shown))


def thinned(n: int, most: int) -> list[int]:
    """At most `most` of the indices 0..n-1, evenly spread, first and last always among them.

    >>> thinned(4, 12), thinned(60, 4)
    ([0, 1, 2, 3], [0, 20, 39, 59])
    """
    if n <= most:
        return list(range(n))
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})


def clipped(name: str, longest: int = LONGEST_TICK) -> str:
    """A long name with its middle left out: names of layers differ at their start and end.

    >>> clipped("encoder.layers.11.attention.output.dense")
    'encode….dense'
    """
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[-half:]}"
