"""The verdict over time on the page: in words, with its numbers, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from geomfeat.regimes.grokking._transitions import LATE_SHARE, LATE_TEST, LAZY, LAZY_THEN_RICH, LAZY_TURN, NONE, RICH
from geomfeat.report.content.components import Table, grid, value_cell
from geomfeat.report.content.quantity_labels import CATALOGUE, title_of
from geomfeat.report.content.study_view import Value, View

MEASURE = "time_regime"
MEANING = {
    LAZY: "its tangent kernel stayed near the initial one throughout the series",
    RICH: "most of its kernel's turn was made by the time the training samples were fitted",
    LAZY_THEN_RICH: "most of its kernel's turn came after the training samples were fitted",
    NONE: "the training samples were not fitted within the series, so there is no before and after",
}
RESTS_ON = (
    "The verdict compares the step at which the training samples were fitted with the steps at which the tangent "
    f"kernel turned away from that of the first snapshot. Lazy throughout: it turned by at most {LAZY_TURN:g} radians. "
    f"Lazy, then rich: more than {LATE_SHARE:g} of the furthest turn came after the fit. Rich from the start: all "
    f"others. Grokked: the test samples took at least {LATE_TEST:g} times as many steps as the fit. The limits were "
    "set on 34 runs of networks with one hidden layer, of known regime, and tested on 56 others, with all verdicts "
    "right (benchmarks/transition_verdicts.py). The numbers change smoothly between regimes, and the verdict names the "
    "nearer one; its resolution in time is that of the snapshots."
)


def judged(several: Sequence[View]) -> list[View]:
    """The models whose verdict over time was measured or requested."""
    return [view for view in several if _numbers(view)]


def _numbers(view: View) -> dict[str, Value]:
    """Quantity -> value of the whole network."""
    return {q: at[""] for (_, measure, q), at in view.numbers.items() if measure == MEASURE and "" in at}


def verdict(view: View) -> str:
    """The verdict over time of a model, or "" where there is none."""
    good = [value for value in _numbers(view).values() if value.ok]
    return good[0].note.split(";")[0] if good else ""


def sentences(several: Sequence[View]) -> list[tuple[str, str, str]]:
    """(model, verdict, what it means and from which snapshots it is) for every model that was judged over time."""
    found_verdicts = []
    for view in judged(several):
        values = list(_numbers(view).values())
        found = verdict(view)
        if not found:
            found_verdicts.append((view.name, "not judged over time", f"{_capital(values[0].note)}."))
            continue
        _, *rest = next(value.note for value in values if value.ok).split("; ")
        meaning = MEANING.get(found.removesuffix(", grokked"), found)
        found_verdicts.append((view.name, found, f"{_capital(meaning)}. From: {'; '.join(rest)}."))
    return found_verdicts


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def numbers(several: Sequence[View]) -> Table | None:
    """One row for each number of the verdict, one column for each model."""
    those = judged(several)
    names = dict.fromkeys(quantity for view in those for quantity in _numbers(view))
    units = {e.quantity: e.axis for e in CATALOGUE if e.measure == MEASURE}
    rows = [
        (f"{title_of(MEASURE, q)} ({units.get(q, '')})", [value_cell(_numbers(view).get(q)) for view in those])
        for q in names
    ]
    return grid(("number", *(view.name for view in those)), rows) if rows else None
