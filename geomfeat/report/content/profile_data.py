"""Profiles over layers, as both renderers draw them."""

from __future__ import annotations

from collections.abc import Sequence

from geomfeat.report.content.quantity_labels import Entry, entries, floor_of
from geomfeat.report.content.study_view import (
    CHANGE,
    INITIAL,
    TRAINED,
    Value,
    View,
)


def profile_entries(several: Sequence[View]) -> dict[str, list[Entry]]:
    """Group key -> quantities with a number for at least one layer, in the order of the catalogue."""
    chosen: dict[str, list[Entry]] = {}
    for change in (False, True):
        moments = (CHANGE,) if change else (INITIAL, TRAINED)
        present = {
            (measure, quantity)
            for view in several
            for (at, measure, quantity), found in view.numbers.items()
            if at in moments and any(found.get(layer) is not None for layer in view.layers)
        }
        for entry in entries(present, change):
            same = chosen.setdefault("movement" if change else entry.group, [])
            if entry not in same:
                same.append(entry)
    return chosen


def moments_of(group: str) -> tuple[str, ...]:
    """The moments that a group of quantities is known at."""
    return (CHANGE,) if group == "movement" else (INITIAL, TRAINED)


def floor_values(view: View, entry: Entry) -> dict[str, Value]:
    """{layer: floor} of the trained network, or of the initial one; empty where the quantity has none."""
    key = floor_of(entry)
    return {} if key is None else view.at(TRAINED, *key) or view.at(INITIAL, *key)
