"""The sections of the page that are words and tables: cards, strip of regimes, failures, settings, glossary."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.location.result import Location
from geomfeat.report.content import time_sentences as over_time
from geomfeat.report.content.components import Cell, Table, decades_cell, grid, share_cell, text_cell
from geomfeat.report.content.location_terms import LOCATION_TERMS
from geomfeat.report.content.number_format import MISSING, accuracies, percent, richness_text, share_text, signed
from geomfeat.report.content.sentences import answer, layers_line, next_step, true_minus
from geomfeat.report.content.study_view import View

CROWDED = 16
MOST_CARDS = 3  # models whose answers are read side by side; of more, a table compares


@dataclass(frozen=True)
class AnswerCard:
    """The answer for one model."""

    name: str
    colour: str
    symbol: str
    regime: str
    tint: str
    sentence: str
    facts: list[tuple[str, str]]
    flags: tuple[str, ...]
    next_step: str


def cards(several: Sequence[View]) -> list[AnswerCard]:
    """One card for each model: the answer first, then its numbers."""
    return [_card(view) for view in several]


def answer_table(several: Sequence[View]) -> Table | None:
    """One row for each model, where there are more than a reader can compare card by card; else None."""
    if len(several) <= MOST_CARDS or all(view.location is None for view in several):
        return None
    parts = list(dict.fromkeys(part for view in several for part in accuracies(view.study)))
    head = ("model", "regime", "richness R (90 %)", "M", "E", "κ", "kernel change", "gap", "layers, input to output")
    return grid((*head, *(f"accuracy, {part}" for part in parts)), [(v.name, _answer_cells(v, parts)) for v in several])


def _answer_cells(view: View, parts: Sequence[str]) -> list[Cell]:
    where, right = view.location, accuracies(view.study)
    accuracy = [text_cell(percent(right.get(part))) for part in parts]
    if where is None:
        return [text_cell("not located"), *[text_cell(MISSING)] * 7, *accuracy]
    demand = text_cell(true_minus(richness_text(where)))
    decades = [decades_cell(value) for value in (where.movement, where.excess, where.kernel_demand)]
    shares = [share_cell(value) for value in (where.kernel_change, where.linearisation_gap)]
    layers = text_cell(layers_line(where) or MISSING)
    return [text_cell(where.regime, where.regime), demand, *decades, *shares, layers, *accuracy]


def _card(view: View) -> AnswerCard:
    where = view.location
    facts = []
    if where is not None:
        start = "true initial weights" if where.tier == "initial" else "fresh re-initialisations"
        facts = [
            ("richness R, decades", true_minus(richness_text(where))),
            ("movement M, decades", true_minus(signed(where.movement))),
            ("excess E, decades", true_minus(signed(where.excess))),
            *_kernel_facts(where),
            ("measured from", start),
        ]
        if where.equivalent_gamma is not None:
            facts.append(("equivalent output scale γ", f"{where.equivalent_gamma:.3g}"))
        if line := layers_line(where):
            facts.append(("layers, input to output", line))
    if found := over_time.verdict(view):
        facts.append(("over time", found))
    if where is not None and where.readout:
        facts.append(("outputs", where.readout))
    facts += [(f"accuracy, {part}", percent(share)) for part, share in accuracies(view.study).items()]
    regime = "not located" if where is None else where.regime
    flags = () if where is None else tuple(where.flags)
    return AnswerCard(
        view.name,
        view.colour,
        look.symbol(view.index),
        regime,
        look.tint(regime),
        answer(where),
        facts,
        flags,
        next_step(where),
    )


def _kernel_facts(where: Location) -> list[tuple[str, str]]:
    """What is known of the tangent kernel, with its interval, and of the metric."""
    facts = []
    kernel = (
        ("kernel demand κ, decades", "kernel_demand", signed),
        ("kernel change", "kernel_change", share_text),
        ("linearisation gap", "linearisation_gap", share_text),
    )
    for title, name, text in kernel:
        value, ends = getattr(where, name), where.kernel_intervals.get(name, (math.nan, math.nan))
        if not math.isnan(value):
            interval = f" [{text(ends[0])}, {text(ends[1])}]" if math.isfinite(ends[0] + ends[1]) else ""
            facts.append((title, true_minus(f"{text(value)}{interval}")))
    return [*facts, ("metric", where.metric)] if facts else []


@dataclass(frozen=True)
class Step:
    """One layer in the strip."""

    layer: str
    regime: str
    short: str
    tint: str
    richness: str
    movement: str


@dataclass(frozen=True)
class Strip:
    """The layers of one model from input to output."""

    name: str
    steps: list[Step]
    crowded: bool


def strips(several: Sequence[View]) -> list[Strip]:
    """The regimes of the layers, one strip for each model that has them."""
    made = []
    for view in several:
        if view.location is None or "regime" not in view.location.layers:
            continue
        rows = view.location.layers.to_dict("records")
        steps = [
            Step(
                str(row["layer"]), str(row["regime"]), look.short(str(row["regime"])), look.tint(str(row["regime"])),
                _decades(row.get("richness")), _decades(row.get("movement")),
            )
            for row in rows
        ]  # fmt: skip
        made.append(Strip(view.name, steps, len(steps) > CROWDED))
    return made


def _decades(value: Any) -> str:
    return true_minus(signed(float(value) if isinstance(value, int | float) else math.nan))


def settings_table(several: Sequence[View]) -> tuple[list[str], list[tuple[str, list[str], bool]]]:
    """(model names, rows): each row a setting, its text for every model, and whether all models have the same."""
    flat = [flattened(_settings_of(view)) for view in several]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = []
    for key in keys:
        texts = [one.get(key, "") for one in flat]
        rows.append((key, texts, len(set(texts)) == 1))
    return [view.name for view in several], rows


def _settings_of(view: View) -> dict[str, Any]:
    settings = {k: v for k, v in view.study.settings.items() if k not in ("left_out", "accuracy")}
    if view.location is not None and view.location.details:
        settings["location"] = dict(view.location.details)
    return settings


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as lines of text, nested ones under joined names."""
    out: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= flattened(value, f"{name}, ")
        elif isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
            out[name] = ", ".join(map(str, value))
        elif isinstance(value, float):
            out[name] = f"{value:.6g}"
        else:
            out[name] = value if isinstance(value, str) else json.dumps(value, default=str)
    return out


def glossary(several: Sequence[View], location: bool = True) -> Table:
    """What each number on the page means and where it is from: the terms of the location, then the registry."""
    from geomfeat.registry import available

    used = {measure for view in several for _, measure, _ in view.numbers} | {
        str(m) for view in several for m in view.study.table["measure"].unique()
    }
    rows = [
        [text_cell(name), text_cell(meaning), text_cell(""), text_cell(source)]
        for name, meaning, source in (LOCATION_TERMS if location else ())
    ]
    for measure in available():
        if measure.name not in used:
            continue
        facts = "; ".join(
            f"{name}: {_facts(q)}" if len(measure.quantities) > 1 else _facts(q)
            for name, q in measure.quantities.items()
        )
        rows.append([text_cell(measure.name), text_cell(measure.summary), text_cell(facts), text_cell(measure.source)])
    return Table("", ("number", "what it means", "unit, range, direction", "source"), rows)


def _facts(quantity: Any) -> str:
    low, high = quantity.bounds
    span = "" if math.isinf(low) and math.isinf(high) else f"{_end(low)} to {_end(high)}"
    return ", ".join(part for part in (quantity.unit, span, quantity.direction) if part)


def _end(value: float) -> str:
    return ("−∞" if value < 0 else "∞") if math.isinf(value) else f"{value:g}".replace("-", "−")
