"""Labels of trials, units and time as arrays: one entry for each, none of them missing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput, near
from geomfeat.labels import levels_of
from geomfeat.numerics import as_tensor

TRIAL_FIELDS = ("condition", "run", "session", "subject")
UNIT_FIELDS = ("area", "unit")


def label_array(raw: Any, name: str, n: int, of: str) -> np.ndarray:
    """(n,) numbers or text, one for each of the n trials or units (`of`). Raises BadInput as `levels_of`.

    >>> label_array(["b", "a"], "condition", 2, "trials").tolist()
    ['b', 'a']
    """
    if raw is None:
        raise BadInput(f"{name} is None: give one for each of the {n} {of}")
    try:
        levels, index = levels_of(raw, name)
    except BadInput as cause:
        raise BadInput(str(cause).replace("samples", of)) from cause
    if len(index) != n:
        raise BadInput(
            f"{name} has {len(index)} entries, but x has {n} {of}: x is (trials, units) or (trials, units, time); "
            "other orders are turned, as with x.T"
        )
    values = np.array(levels)
    if values.ndim != 1 or values.dtype.kind == "O":
        values = np.array(list(map(str, levels)))
    return values[index.numpy()]


def levels(values: np.ndarray) -> tuple[Hashable, ...]:
    """The different values in sorted order, as plain Python values.

    >>> levels(np.array([3, 1, 3]))
    (1, 3)
    """
    found = np.unique(values)
    return tuple(found) if found.dtype.kind in "mM" else tuple(found.tolist())


def codes_of(*labels: np.ndarray) -> Tensor:
    """(n,) int64 codes 0, 1, ... of the combinations that occur, in sorted order.

    >>> codes_of(np.array(["a", "a", "b"]), np.array([1, 2, 1])).tolist()
    [0, 1, 2]
    """
    parts = torch.stack([torch.from_numpy(np.unique(one, return_inverse=True)[1]) for one in labels], 1)
    return torch.unique(parts, dim=0, return_inverse=True)[1].reshape(-1)


def mask_of(values: np.ndarray | None, wanted: Any, name: str) -> np.ndarray:
    """(n,) True where a label is the wanted one, or one of several; BadInput for one that does not occur."""
    if values is None:
        raise BadInput(f"{name}={wanted!r}: the recording has no {name} labels")
    several = isinstance(wanted, Sequence | np.ndarray | set | frozenset | tuple) and not isinstance(wanted, str)
    chosen = list(wanted) if several else [wanted]
    known = levels(values)
    by_text = {str(level): level for level in known}
    lost = [one for one in chosen if str(one) not in by_text]
    if lost or not chosen:
        near_ones = near(str(lost[0]), by_text) if lost else ", ".join(by_text)
        raise BadInput(f"{name}={wanted!r}: no {name} {lost[0]!r}; near: {near_ones}" if lost else f"{name} is empty")
    return np.isin(values, np.array([by_text[str(one)] for one in chosen], dtype=values.dtype))


def time_axis(raw: Any, n: int) -> Tensor:
    """(n,) times in seconds, float64, strictly increasing; BadInput for shuffled or repeated time stamps."""
    times = as_tensor(raw, "time", torch.float64)
    if times.shape != (n,):
        raise BadInput(f"time has shape {tuple(times.shape)}, but x has {n} time points on its last axis")
    if not bool(torch.isfinite(times).all()):
        raise BadInput(f"{int((~torch.isfinite(times)).sum())} of {n} time stamps are NaN or infinite: give seconds")
    steps = times.diff()
    wrong = int((steps <= 0).sum())
    if wrong:
        at = int((steps <= 0).nonzero()[0, 0])
        kind = "twice" if float(steps[at]) == 0 else f"before {float(times[at]):g}"
        raise BadInput(
            f"time does not increase: {wrong} of {n - 1} steps go back or stand still (time {float(times[at + 1]):g} "
            f"comes {kind}). Sort both: order = np.argsort(time); time[order], x[:, :, order]"
        )
    return times
