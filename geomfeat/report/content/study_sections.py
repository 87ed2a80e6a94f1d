"""The sections of the page that are words and tables: cards, strip of regimes, failures, settings, glossary."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomfeat.charts import theme as look
from geomfeat.report.content import time_sentences as over_time
from geomfeat.report.content.components import Table, text_cell
from geomfeat.report.content.number_format import accuracies, percent, richness_text, signed
from geomfeat.report.content.sentences import answer, layers_line, true_minus
from geomfeat.report.content.study_view import View

CROWDED = 16


@dataclass(frozen=True)
class Card:
    """The answer for one model."""

    name: str
    colour: str
    symbol: str
    regime: str
    tint: str
    sentence: str
    facts: list[tuple[str, str]]
    flags: tuple[str, ...]


def cards(several: Sequence[View]) -> list[Card]:
    """One card for each model: the answer first, then its numbers."""
    return [_card(view) for view in several]


def _card(view: View) -> Card:
    where = view.location
    facts = []
    if where is not None:
        start = "true initial weights" if where.tier == "initial" else "fresh re-initialisations"
        facts = [
            ("richness R, decades", true_minus(richness_text(where))),
            ("movement M, decades", true_minus(signed(where.movement))),
            ("excess E, decades", true_minus(signed(where.excess))),
            ("measured from", start),
        ]
        if where.equivalent_gamma is not None:
            facts.append(("equivalent output scale γ", f"{where.equivalent_gamma:.3g}"))
        if line := layers_line(where):
            facts.append(("layers, input to output", line))
    if found := over_time.verdict(view):
        facts.append(("over time", found))
    facts += [(f"accuracy, {part}", percent(share)) for part, share in accuracies(view.study).items()]
    regime = "not located" if where is None else where.regime
    flags = () if where is None else tuple(where.flags)
    return Card(view.name, view.colour, look.symbol(view.index), regime, look.tint(regime), answer(where), facts, flags)


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


LOCATION_TERMS = (
    ("Richness R (demand)", "How far the hidden features would have had to move, relative to their size, if the "
     "network were linear in its weights and learned the same change of its function; log10, mean over hidden layers. "
     "0 = by their own size, −1 = by a tenth of it. Needs no labels and no calibration.",
     "linear response of the tangent features, after Jacot et al. 2018 and Chizat et al. 2019"),
    ("Movement M", "How far the hidden features moved, relative to their size before training; log10, mean over "
     "hidden layers.", "relative feature change, after Chizat et al. 2019"),
    ("Excess E = M − R", "Movement beyond what the learned function required. Near 0 in lazy networks, negative in "
     "rich ones (rich learning needs less movement than linear learning would), positive after large steps, noise "
     "or decay.", "difference of the two above"),
    ("Interval", "90 % interval of R from resampling the probe inputs and, where they are used, the "
     "re-initialisations.", "bootstrap"),
    ("Floor, 'at most'", "R between two fresh re-initialisations: its value when nothing was learned. Within "
     "0.3 decades of the floor, R is only an upper bound.", "measured for each model"),
    ("Regimes", "lazy: R < −0.5 and M < −0.5. Rich: R > 0.5, or M > 0.3. Moved beyond demand: E > 0.5 with R < 0. "
     "Frozen: nothing changed. Transition: everything else. With fresh draws, R alone decides.",
     "thresholds in decades of the features' own size"),
)  # fmt: skip


def glossary(several: Sequence[View]) -> Table:
    """What each number on the page means and where it is from: the terms of the location, then the registry."""
    from geomfeat.registry import available

    used = {measure for view in several for _, measure, _ in view.numbers} | {
        str(m) for view in several for m in view.study.table["measure"].unique()
    }
    rows = [
        [text_cell(name), text_cell(meaning), text_cell(""), text_cell(source)]
        for name, meaning, source in LOCATION_TERMS
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
