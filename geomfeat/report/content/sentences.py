"""What a page says in plain words: the answer for each model, and what went wrong."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomfeat.location.regimes import ABOVE_FLOOR, MEANINGS
from geomfeat.location.result import Location
from geomfeat.report.content.number_format import layers_text, share_text, signed, size_words
from geomfeat.report.content.quantity_labels import title_of
from geomfeat.report.content.study_view import AT_WORDS, View, as_text

STILL_GROWING = 0.05  # decades that R may rise by at the last increase of the probes, before more are advised


def at_words(at: str) -> str:
    """A moment or a change in plain words.

    >>> at_words("init"), at_words("init->trained"), at_words("init->200")
    ('initial', 'initial to trained', 'initial to step 200')
    """
    words = [AT_WORDS.get(part, f"step {part}") for part in at.split("->")]
    return " to ".join(words)


def true_minus(text: str) -> str:
    """Hyphens before digits as minus signs, as numbers are set in print.

    >>> true_minus("R = -1.5, re-run")
    'R = −1.5, re-run'
    """
    return re.sub(r"(?<![\w.])-(?=[\d∞])", "−", text)


def answer(where: Location | None) -> str:
    """Where a model sits, in sentences that need no knowledge of the symbols."""
    if where is None:
        return (
            "Not located. The failures below give the reason. Give the initial weights (--initial FILE), or a model "
            "factory that draws fresh initial weights."
        )
    meaning = MEANINGS.get(where.regime, where.regime)
    meaning = meaning[0].upper() + meaning[1:]
    if math.isnan(where.richness):
        return f"{meaning}: see the failures below."
    bound = "at most " if where.at_most else ""
    linear = "with all weights free to move" if where.is_frozen else "if it were linear in its weights"
    asked = (
        f"To learn the same function, its features would have had to move by {bound}{size_words(where.richness)} their "
        f"size {linear}{_kernel_demand(where)}."
    )
    sentences = (_happened(where), asked) if where.tier == "initial" else (asked, _fresh(where))
    return true_minus(" ".join(filter(None, (f"{meaning}.", *sentences))))


def _happened(where: Location) -> str:
    """What training did to features and kernel, and what a linear model would have missed: one sentence."""
    change, gap = where.kernel_change, where.linearisation_gap
    parts = []
    if not math.isnan(where.movement):
        parts.append(f"its features moved by {size_words(where.movement)} their size")
    if not math.isnan(change):
        decades = math.log10(change) if change > 0 else -math.inf
        parts.append(f"its tangent kernel changed by {size_words(decades)} its size")
    if not math.isnan(gap):
        missed = (
            f"been off by more than the whole change ({share_text(gap)})" if gap > 1 else f"missed {share_text(gap)}"
        )
        parts.append(f"a linear model in the weights would have {missed}{'' if gap > 1 else ' of the change'}")
    if len(parts) > 1:
        parts = [", ".join(parts[:-1]) + f"{',' if len(parts) > 2 else ''} and {parts[-1]}"]
    return f"In training, {parts[0]}." if parts else ""


def _kernel_demand(where: Location) -> str:
    """How far the learned change is beyond the reach of a kernel that stays put, as the end of a sentence."""
    if math.isnan(where.kernel_demand) or where.kernel_demand == math.inf:
        return ""
    if where.kernel_demand == -math.inf:
        return "; what was trained cannot change the tangent kernel"
    return f"; the learned change is {size_words(where.kernel_demand)} the largest one that leaves the kernel at rest"


def _fresh(where: Location) -> str:
    floor = ""
    if where.floor is not None and math.isfinite(where.floor):
        least = signed(where.floor + ABOVE_FLOOR)
        floor = f" Between two such draws R is {signed(where.floor)}, so values below {least} mean nothing."
    return "Fresh draws replace its initial weights, which were not given, so its movement M means little." + floor


def next_step(where: Location | None) -> str:
    """What would make the answer firmer, in one sentence: the first of those that apply; empty where nothing does.

    >>> next_step(None)
    'Next: give the initial checkpoint (--initial FILE), without which nothing can be located.'
    """
    if where is None:
        return "Next: give the initial checkpoint (--initial FILE), without which nothing can be located."
    if math.isnan(where.richness):
        return "Next: see the failures below, and run again with their remedies."
    if where.tier != "initial":
        return "Next: give the initial checkpoint (--initial FILE), which makes R exact and M known."
    grown = _growth(where)
    if grown > STILL_GROWING:
        return f"Next: use more probes, since R still rose by {grown:.2f} decades over the last increase."
    if not (math.isfinite(where.low) and math.isfinite(where.high)):
        return "Next: name the groups that samples come from, if any, so that R has an interval."
    return "Next: compare with a model that fits equally well (geomfeat relate), since R depends on the fit too."


def _growth(where: Location) -> float:
    """By how much R rose from the last number of probes but one to the last; 0 where that is not known."""
    known = where.by_probes
    last = [float(r) for r in known["richness"].tail(2)] if "richness" in known else []
    return last[1] - last[0] if len(last) == 2 and all(map(math.isfinite, last)) else 0.0


def comparison(several: Sequence[View]) -> str:
    """One sentence over all models of a page; empty for a single one."""
    found = [v.location for v in several if v.location is not None]
    if len(several) < 2:
        return ""
    if not found:
        return f"None of the {len(several)} models could be located."
    counts = Counter(w.regime for w in found)
    parts = [f"{n} {regime}" for regime, n in counts.items()]
    lost = len(several) - len(found)
    parts += [f"{lost} not located"] if lost else []
    between = "; " if any("," in part for part in parts) else ", "
    sentence = f"Of {len(several)} models: {between.join(parts)}."
    known = [w.richness for w in found if math.isfinite(w.richness) and not w.is_frozen]
    if len(known) > 1 and max(known) - min(known) >= 0.1:
        factor = float(f"{10 ** (max(known) - min(known)):.2g}")
        sentence += (
            f" Richness spans {signed(min(known))} to {signed(max(known))} decades: the richest model required "
            f"{factor:,.10g} times more relative feature movement than the laziest."
        )
    return true_minus(sentence)


def layers_line(where: Location | None) -> str:
    """Regimes of the layers from input to output, equal neighbours counted."""
    if where is None or "regime" not in where.layers or not len(where.layers):
        return ""
    return layers_text([str(r) for r in where.layers["regime"]]).replace(" x", " × ")


@dataclass(frozen=True)
class Trouble:
    """Failures (or remarks) of one measure for one reason: how many numbers, in which models and layers."""

    measure: str
    reason: str
    count: int
    models: tuple[str, ...]
    places: tuple[str, ...]

    @property
    def title(self) -> str:
        """Plain title of the measure."""
        return title_of(self.measure, self.measure)


def troubles(several: Sequence[View], failed: bool) -> list[Trouble]:
    """Rows that failed, or (failed=False) rows that carry a remark, grouped by measure and reason, largest first."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for view in several:
        table = view.study.table
        columns = [table[c].tolist() for c in ("ok", "measure", "note", "at", "layer", "layer_b")]
        for ok, *texts in zip(*columns, strict=True):
            measure, note, at, layer, other = map(as_text, texts)
            if bool(ok) is failed or (ok and not note):
                continue
            pair = f"{layer} with {other}" if other and other != layer else layer or "whole network"
            groups.setdefault((measure, note or "no reason was given"), []).append(
                (view.name, f"{pair} ({at_words(at)})")
            )
    found = [
        Trouble(
            measure, reason, len(rows), _distinct(model for model, _ in rows), _distinct(place for _, place in rows)
        )
        for (measure, reason), rows in groups.items()
    ]
    return sorted(found, key=lambda t: -t.count)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def left_out(several: Sequence[View]) -> list[tuple[str, list[str]]]:
    """(reason, measures) of what was not run because something it needs was not given."""
    reasons: dict[str, list[str]] = {}
    for view in several:
        for measure, reason in (view.study.settings.get("left_out") or {}).items():
            found = reasons.setdefault(str(reason), [])
            if str(measure) not in found:
                found.append(str(measure))
    return list(reasons.items())


def named(facts: Mapping[str, Any]) -> str:
    """A group of trainings in words, "" for the only one."""
    given = {True: "given", False: "not given"}
    return ", ".join(
        f"{k.removeprefix('has_')} {given[bool(v)] if k.startswith('has_') else v}" for k, v in facts.items()
    )
