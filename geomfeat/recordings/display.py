"""How a recording shows itself: a few lines of text, a table of trials, a picture of its condition means."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.display import matrix_map, notes_of
from geomfeat.numerics import WORKING
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, levels

if TYPE_CHECKING:
    from geomfeat.recordings._recording import Recording

MOST_CURVES = 10
MOST_AREAS = 6


def text(recording: Recording) -> str:
    """What the recording holds, and its notes."""
    counts = sorted(recording.trials_per_condition.values())
    each = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    kind = "Pseudo-population" if recording.pseudo else "Recording"
    parts = [
        f"{kind}{f' {recording.name!r}' if recording.name else ''}: {recording.n_trials} trials of {len(counts)} "
        f"condition{'s' * (len(counts) > 1)} ({each} each), {recording.n_units} units{_areas(recording)}"
    ]
    for field in ("run", "session", "subject"):
        if getattr(recording, field) is not None:
            count = len(levels(getattr(recording, field)))
            parts.append(f"{count} {field}{'s' * (count > 1)}")
    if recording.time is not None:
        first, last = float(recording.time[0]), float(recording.time[-1])
        parts.append(f"{len(recording.time)} time points from {first:g} to {last:g} s")
    return "\n".join([", ".join(parts), *(f"  note: {note}" for note in notes_of(recording))])


def _areas(recording: Recording) -> str:
    if recording.area is None:
        return ""
    counts = Counter(recording.area.tolist())
    if len(counts) > MOST_AREAS:
        return f" in {len(counts)} areas"
    return f" ({', '.join(f'{counts[area]} in {area}' for area in recording.areas)})"


def columns(recording: Recording) -> dict[str, Any]:
    """A row for each trial, or trial and time, with a column for each unit."""
    n, times = recording.n_trials, recording.time
    repeats = 1 if times is None else len(times)
    found: dict[str, Any] = {"trial": np.repeat(np.arange(n), repeats).tolist()}
    for field in TRIAL_FIELDS:
        if getattr(recording, field) is not None:
            found[field] = np.repeat(getattr(recording, field), repeats).tolist()
    x = recording.x
    if times is not None:
        found["time"] = np.tile(times.numpy(), n).tolist()
        x = x.transpose(1, 2).reshape(n * repeats, recording.n_units)
    names = [str(j) for j in range(recording.n_units)]
    if recording.unit is not None:
        named = list(map(str, recording.unit.tolist()))
        if len(set(named)) == len(named) and not set(named) & set(found):
            names = named
    return found | dict(zip(names, x.T.tolist(), strict=True))


def chart(recording: Recording) -> Plot | Heat:
    """Condition means: over time (mean of the units, bars: one standard error over trials), or of each unit."""
    title = recording.name or "recording"
    if recording.time is None:
        means = recording.condition_means()
        units = [str(u) for u in recording.unit] if recording.unit is not None else list(range(recording.n_units))
        return matrix_map(title, recording.conditions, units, means.x, "mean response")
    over_units = recording.x.to(WORKING).mean(1)
    curves = []
    for name in recording.conditions[:MOST_CURVES]:
        rows = over_units[torch.from_numpy(recording.condition == name)]
        error = (rows.std(0) / len(rows) ** 0.5).tolist() if len(rows) > 1 else None
        curves.append(Curve(str(name), recording.time.tolist(), rows.mean(0).tolist(), error))
    return Plot(title, "time (s)", "mean response of the units", curves)
