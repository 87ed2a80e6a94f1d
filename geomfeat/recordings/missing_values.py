"""Missing values (NaN) of a recording: refused, or dropped with whole trials or whole units, and counted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geomfeat.errors import BadInput

REFUSE, DROP_TRIALS, DROP_UNITS = "refuse", "drop trials", "drop units"
POLICIES = (REFUSE, DROP_TRIALS, DROP_UNITS)


class Kept(NamedTuple):
    """Which trials and units are kept, as masks, and what was dropped, in sentences."""

    trials: Tensor
    units: Tensor
    notes: tuple[str, ...]


def kept_by(x: Tensor, missing: str) -> Kept:
    """The trials and units of x (trials, units[, time]) that a policy keeps.

    "drop trials" first drops units that have no value in any trial, "drop units" first drops trials that have no value
    at all: each would otherwise cost everything. Raises BadInput for infinite values, for NaN where they are refused,
    and where nothing would be left.
    """
    if missing not in POLICIES:
        raise BadInput(f"missing={missing!r}: use one of {', '.join(map(repr, POLICIES))}")
    infinite = int(torch.isinf(x).sum())
    if infinite:
        raise BadInput(f"x holds {infinite} infinite values: mark what was not measured by NaN, and choose missing=")
    lost = torch.isnan(x)
    whole, holes = lost.flatten(2).all(2) if x.ndim == 3 else lost, lost.flatten(2).any(2) if x.ndim == 3 else lost
    trials, units = torch.ones(x.shape[0], dtype=torch.bool), torch.ones(x.shape[1], dtype=torch.bool)
    if not bool(holes.any()):
        return Kept(trials, units, ())
    if bool(lost.all()):
        raise BadInput(f"x {tuple(x.shape)} holds no values: all are missing (NaN)")
    if missing == REFUSE:
        raise BadInput(_refusal(int(lost.sum()), x.numel(), whole, holes))
    notes = []
    if missing == DROP_TRIALS:
        units = ~whole.all(0)
        notes.append(_dropped(~units, "units", "they have no values in any trial"))
        trials = ~holes[:, units].any(1)
        notes.append(_dropped(~trials, "trials", "values are missing (NaN)"))
    else:
        trials = ~whole.all(1)
        notes.append(_dropped(~trials, "trials", "they have no values in any unit"))
        units = ~holes[trials].any(0)
        notes.append(_dropped(~units, "units", "values are missing (NaN)"))
    if not bool(trials.any()) or not bool(units.any()):
        raise BadInput(
            f"missing={missing!r} leaves {int(trials.sum())} trials and {int(units.sum())} units: "
            f"{_refusal(int(lost.sum()), x.numel(), whole, holes)}"
        )
    return Kept(trials, units, tuple(filter(None, notes)))


def _dropped(gone: Tensor, what: str, why: str) -> str:
    count = int(gone.sum())
    return f"{count} of {len(gone)} {what} were dropped: {why}" if count else ""


def _refusal(count: int, size: int, whole: Tensor, holes: Tensor) -> str:
    """How many values are missing, where, and what each policy would leave."""
    n_trials, n_units = holes.shape
    some_units, some_trials = ~whole.all(0), ~whole.all(1)
    if_trials = int((~holes[:, some_units].any(1)).sum()), int(some_units.sum())
    if_units = int(some_trials.sum()), int((~holes[some_trials].any(0)).sum())
    empty = [(int(whole.all(0).sum()), n_units, "units"), (int(whole.all(1).sum()), n_trials, "trials")]
    nothing = "".join(f"; {k} of {n} {what} have no values at all" for k, n, what in empty if k)
    return (
        f"x has {count} missing of {size} values (NaN), in {int(holes.any(1).sum())} of {n_trials} trials and "
        f"{int(holes.any(0).sum())} of {n_units} units{nothing}. missing='drop trials' leaves {if_trials[0]} trials x "
        f"{if_trials[1]} units, missing='drop units' {if_units[0]} x {if_units[1]}"
    )
