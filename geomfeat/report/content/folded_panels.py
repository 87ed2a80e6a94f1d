"""Which panels of a figure stand open, and which are closed at first because they add little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geomfeat.report.content.components import Panel
from geomfeat.report.content.quantity_labels import Entry, is_minor

ROUNDING = 1e-9  # share of its height by which a line without change may vary


@dataclass(frozen=True)
class Folded:
    """Panels that are shown, panels that are closed at first, and what their lid says."""

    shown: list[Panel]
    closed: list[Panel]
    title: str


def folded(panels: Sequence[Panel], entries: Sequence[Entry]) -> Folded:
    """The panels of these quantities, those that are minor or without change closed; all open where all are."""
    minor = [is_minor(entry) or is_constant(panel) for panel, entry in zip(panels, entries, strict=True)]
    minor = [False] * len(panels) if all(minor) else minor
    shown, closed = ([panel for panel, one in zip(panels, minor, strict=True) if one is fold] for fold in (False, True))
    return Folded(
        shown, closed, f"Close to the panels above, or without change: {', '.join(panel.title for panel in closed)}"
    )


def is_constant(panel: Panel) -> bool:
    """Whether a panel has several numbers, all at one height.

    >>> is_constant(Panel("", [{"y": [2.0, None, 2.0]}], {})), is_constant(Panel("", [{"y": [2.0]}], {}))
    (True, False)
    """
    known = [y for trace in panel.data for y in trace["y"] if y is not None]
    return len(known) > 1 and max(known) - min(known) <= ROUNDING * max(map(abs, known))
