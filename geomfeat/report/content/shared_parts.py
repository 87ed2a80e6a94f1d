"""What several models have in common, so that a page shows it once: a start, a ladder of reference networks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from geomfeat.report.content.study_view import View

MOST_NAMES = 3


def alike(several: Sequence[View], key: Callable[[View], Hashable | None]) -> list[list[View]]:
    """The models in groups of equal keys, in the order of their first members; those without a key are left out."""
    groups: dict[Hashable, list[View]] = {}
    for view in several:
        found = key(view)
        if found is not None:
            groups.setdefault(found, []).append(view)
    return list(groups.values())


def same_array(array: object) -> Hashable | None:
    """A key that equal arrays share; None for no array."""
    if array is None:
        return None
    values = np.asarray(array)
    return values.shape, values.tobytes()


def names_of(group: Sequence[View], several: Sequence[View]) -> str:
    """The models of a group in few words: the name of one, "all models", or the first names."""
    if len(group) > 1 and len(group) == len(several):
        return "all models"
    names = [view.name for view in group]
    rest = len(names) - MOST_NAMES
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:MOST_NAMES])} and {rest} more"


def only(group: Sequence[View]) -> int | None:
    """The index of a group's one model; None where there are several."""
    return group[0].index if len(group) == 1 else None
