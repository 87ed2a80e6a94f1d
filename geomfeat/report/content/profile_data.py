"""Profiles over layers, as both renderers draw them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from geomfeat.report.content.quantity_labels import Entry, entries, floor_of
from geomfeat.report.content.shared_parts import alike
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


def lines_of(several: Sequence[View], entry: Entry, at: str) -> list[list[View]]:
    """The models of each line to draw: one of each, but together those whose start has the same numbers."""

    def key(view: View) -> Hashable | None:
        found = view.at(at, entry.measure, entry.quantity)
        values = tuple((layer, found[layer].drawn, found[layer].stderr) for layer in view.layers if layer in found)
        if all(drawn is None for _, drawn, _ in values):
            return None
        return values if at == INITIAL else view.index

    return alike(several, key)


def floor_values(view: View, entry: Entry) -> dict[str, Value]:
    """{layer: floor} of the trained network, or of the initial one; empty where the quantity has none."""
    key = floor_of(entry)
    return {} if key is None else view.at(TRAINED, *key) or view.at(INITIAL, *key)
