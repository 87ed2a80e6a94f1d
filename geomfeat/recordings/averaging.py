"""Averages and choices of trials and times: condition means, matched trials, bins and windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, codes_of

if TYPE_CHECKING:
    from geomfeat.recordings._recording import Recording

# A time stamp this share of a bin below an edge is on it: sums of decimal widths are not exact.
ON_EDGE = 1e-6


def between(recording: Recording, window: tuple[float, float]) -> Recording:
    """The time points from a up to (without) b seconds."""
    times = _times(recording)
    try:
        first, last = (float(end) for end in window)
    except (TypeError, ValueError) as cause:
        raise BadInput(f"time={window!r}: give (from, to) in seconds") from cause
    step = float(times.diff().min()) if len(times) > 1 else 1.0
    inside = (times >= first - ON_EDGE * step) & (times < last - ON_EDGE * step)
    if not bool(inside.any()):
        raise BadInput(
            f"time=({first:g}, {last:g}) holds no time point: they run from {float(times[0]):g} to "
            f"{float(times[-1]):g} seconds"
        )
    return replace(recording, x=recording.x[:, :, inside], time=times[inside])


def binned(recording: Recording, width: float, start: float | None, stop: float | None, how: str) -> Recording:
    """See `Recording.bins`."""
    times = _times(recording)
    if how not in ("mean", "sum"):
        raise BadInput(f"how={how!r}: use 'mean', or 'sum' for spike counts")
    if not width > 0:
        raise BadInput(f"width={width!r} must be a positive number of seconds")
    step = float(times.diff().median()) if len(times) > 1 else float(width)
    first = float(times[0]) if start is None else float(start)
    # The last time point stands for one step more.
    end = float(times[-1]) + step if stop is None else float(stop)
    count = int(np.floor((end - first) / width + ON_EDGE))
    if count < 1:
        raise BadInput(f"width={width:g} is wider than the {end - first:g} seconds from {first:g} to {end:g}")
    place = torch.floor((times - first) / width + ON_EDGE).long()
    filled = (place >= 0) & (place < count)
    sizes = torch.bincount(place[filled], minlength=count)
    if int(sizes.min()) == 0:
        empty = int((sizes == 0).nonzero()[0, 0])
        raise BadInput(
            f"bin {empty} of {count}, from {first + empty * width:g} s, holds no time point: steps are about "
            f"{step:g} s, take wider bins"
        )
    share = torch.zeros(len(times), count, dtype=WORKING)
    share[filled.nonzero()[:, 0], place[filled]] = 1.0
    if how == "mean":
        share = share / sizes
    # float64, so that many counts add up exactly.
    x = recording.x.to(WORKING) @ share
    left = int((~filled).sum())
    note = f"{left} of {len(times)} time points fill no whole bin of {width:g} s and were left out" if left else ""
    centres = first + width * (torch.arange(count, dtype=WORKING) + 0.5)
    return replace(recording, x=x, time=centres, notes=(*recording.notes, *filter(None, [note])))


def condition_means(recording: Recording, by: Sequence[str]) -> Recording:
    """See `Recording.condition_means`."""
    fields = ["condition", *by]
    for field in by:
        if field not in TRIAL_FIELDS[1:] or getattr(recording, field) is None:
            raise BadInput(f"by={field!r}: the recording has no {field} labels")
    cell = codes_of(*(getattr(recording, field) for field in fields))
    sizes = torch.bincount(cell)
    sums = torch.zeros(len(sizes), *recording.x.shape[1:], dtype=WORKING)
    means = sums.index_add_(0, cell, recording.x.to(WORKING)) / sizes.reshape(-1, *[1] * (recording.x.ndim - 1))
    order, first = np.unique(cell.numpy(), return_index=True)
    assert len(order) == len(sizes)
    kept: dict[str, Any] = {field: getattr(recording, field)[first] for field in fields}
    lost = {field: None for field in TRIAL_FIELDS if field not in fields}
    what = " and ".join(["conditions", *(f"{field}s" for field in by)])
    note = f"{len(sizes)} means of {what} over {_span(sizes)} trials each"
    return replace(recording, x=means, notes=(*recording.notes, note), **kept, **lost)


def matched(recording: Recording, n: int | None, seed: int) -> Recording:
    """See `Recording.match_trials`."""
    counts = recording.trials_per_condition
    fewest = min(counts.values())
    n = fewest if n is None else n
    if not 1 <= n <= fewest:
        rarest = min(counts, key=counts.__getitem__)
        raise BadInput(f"n={n}: condition {rarest!r} has {fewest} trials; take from 1 to {fewest}")
    kept = torch.cat([drawn(recording.condition, name, n, seed) for name in counts]).sort().values
    span = _span(torch.tensor(list(counts.values())))
    note = f"{n} trials of each condition were drawn at random (seed {seed}), of {span}"
    return replace(recording._take(kept), notes=(*recording.notes, note))


def drawn(condition: np.ndarray, name: Any, n: int, seed: int, *purpose: object) -> Tensor:
    """Indices of n of the trials of a condition, a seeded choice that holds those of every smaller n."""
    there = torch.from_numpy(np.flatnonzero(condition == name))
    order = torch.randperm(len(there), generator=stream(seed, "trials", name, *purpose))
    return there[order[:n]]


def _times(recording: Recording) -> Tensor:
    if recording.time is None:
        raise BadInput("the recording has no time axis: x is (trials, units)")
    return recording.time


def _span(counts: Tensor) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
