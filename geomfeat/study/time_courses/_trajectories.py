"""How the mean responses to conditions move through time: speed, tangling, and how far conditions are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput, require_kind
from geomfeat.geometry.trajectories import (
    CrossValidated,
    cross_validated_length,
    derivative,
    pattern_distances,
    smoothed,
    tangling,
)
from geomfeat.recordings import Recording
from geomfeat.recordings.group_means import GroupMeans, group_means
from geomfeat.recordings.representations import ALL_UNITS
from geomfeat.statistics.group_errors import FEWEST, LeftOut, grouped_stderr
from geomfeat.study.time_courses.course import TimeCourse, course_of
from geomfeat.study.time_courses.differences import Numbered

DISTANCE, SPEED, TANGLING = "trajectory_distance", "trajectory_speed", "trajectory_tangling"
ALL_PAIRS = "all pairs"
# Pairs of conditions that have rows of their own; of more, the mean over all of them alone.
MOST_PAIRS = 45


def trajectories(recording: Recording, *, smoothing: float | None = None, groups: str | None = "auto") -> TimeCourse:
    """Speed, tangling and distances of the mean trajectories of conditions through the space of the units, by area.

    Args:
        recording: with a time axis and two conditions or more.
        smoothing: standard deviation in seconds of a Gaussian over time; default none. Rates of change need it where
            bins are narrow; it carries a signal to bins before its onset, by about two widths.
        groups: what trials are independent between, see `analyze_recording`; without labels, single trials.

    Returns a `TimeCourse` with, for each area and bin,

    - trajectory_distance between two conditions (and over "all pairs", root mean square), as squared_distance and
      distance: the squared length of the difference of their means, from products of different groups alone. The noise
      of the means does not add to it, so that it is around 0 (and below it by chance) where conditions do not differ.
    - trajectory_speed of each condition, likewise: squared_speed and speed of the derivative (central differences, so
      that a step is seen one bin early), per second.
    - trajectory_tangling of each condition (Russo et al. 2018, eq. 1): see `geometry.tangling`. Noise raises it.

    Errors are by a jackknife over groups. `distance` and `speed` are roots, with the sign of what they are roots of;
    they have no error where the square does not exceed its own. `TimeCourse.test` of a squared number exchanges
    conditions within groups.

    Raises BadInput for a recording without time, with one bin or one condition, and for fewer than two groups.

    >>> x = torch.randn(40, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> x[::2, :, 2:] += 2.0  # conditions are 2 sqrt(6) apart from 0.2 s on
    >>> found = trajectories(Recording(x, ["a", "b"] * 20, time=[0.0, 0.1, 0.2, 0.3]))
    >>> found.select("trajectory_distance", "distance", condition="a").table["value"].round(1).tolist()
    [0.8, 0.4, 4.8, 5.1]
    """
    require_kind(recording, Recording, "recording")
    if recording.time is None or len(recording.time) < 2:
        raise BadInput("trajectories need a time axis of two bins or more: x is (trials, units, time)")
    if len(recording.conditions) < 2:
        raise BadInput("trajectories are compared between conditions, and the recording has one")
    every, time = group_means(recording, groups), recording.time
    if len(every.counts) < 2:
        raise BadInput(f"{every.said}: cross-validation needs two groups of trials at least, and errors {FEWEST}")
    if smoothing is not None:
        every = replace(every, means=smoothed(every.means, time, smoothing))
    names = list(map(str, recording.conditions))
    found: list[Numbered] = []
    for area, units in _areas(recording):
        mine = every.take_units(units)
        for row, left in (*_distances(mine, names), *_speeds(mine, names, time), *_tangled(mine, names, time)):
            found.append(({"area": area, **row, "time": float(time[row["time"]])}, left))
    return course_of(found, recording.name, (*recording.notes, *recording.flags))


def _areas(recording: Recording) -> Iterator[tuple[str, Tensor]]:
    if recording.area is None:
        yield ALL_UNITS, torch.arange(recording.n_units)
    for area in recording.areas:
        yield str(area), torch.from_numpy(np.flatnonzero(recording.area == area))


def _distances(of: GroupMeans, names: list[str]) -> Iterator[Numbered]:
    """Rows of the distances of pairs, then over all."""
    pairs = list(combinations(range(len(names)), 2))
    for a, b in pairs if len(pairs) <= MOST_PAIRS else ():
        there = (of.counts[:, a] > 0) & (of.counts[:, b] > 0)
        counts = of.counts[there][:, [a, b]]
        place = {"condition": names[a], "condition_b": names[b]}
        if int(there.sum()) < 2:
            why = f"{int(there.sum())} groups have trials of both conditions"
            yield from _none(place, DISTANCE, "distance", of, why)
            continue
        apart = of.means[there][:, a] - of.means[there][:, b]
        yield from _rows(cross_validated_length(apart, counts.prod(1) / counts.sum(1)), place, DISTANCE, "distance", of)
    if len(pairs) > 1:
        place, whole = {"condition": ALL_PAIRS}, int((of.counts > 0).all(1).sum())
        if whole < 2:
            yield from _none(place, DISTANCE, "distance", of, f"{whole} groups have trials of all conditions")
        else:
            yield from _rows(pattern_distances(of.means, of.counts), place, DISTANCE, "distance", of)


def _speeds(of: GroupMeans, names: list[str], time: Tensor) -> Iterator[Numbered]:
    """Rows of the speed of each condition."""
    rate = derivative(of.means, time)
    for c, name in enumerate(names):
        there = of.counts[:, c] > 0
        place = {"condition": name}
        if int(there.sum()) < 2:
            yield from _none(place, SPEED, "speed", of, f"{int(there.sum())} groups have trials of this condition")
        else:
            yield from _rows(cross_validated_length(rate[there, c], of.counts[there, c]), place, SPEED, "speed", of)


def _tangled(of: GroupMeans, names: list[str], time: Tensor) -> Iterator[Numbered]:
    """Rows of the tangling of each condition among all; errors where every condition is left without any group."""
    sizes = of.counts.sum(1)
    errors = len(sizes) >= FEWEST and bool(((of.counts > 0).sum(0) > 1).all())
    try:
        whole = tangling(of.of_all, time)
        parts = [tangling(of.without(j), time) for j in range(len(sizes))] if errors else []
    except BadInput as cause:
        for name in names:
            yield from _none({"condition": name}, TANGLING, TANGLING, of, str(cause))
        return
    without = torch.stack(parts) if errors else whole[None]
    stderr = grouped_stderr(whole, without, sizes) if errors else torch.full_like(whole, torch.nan)
    note = f"error over {of.said}" if errors else "no error: too few groups, or conditions in one group only"
    for c, name in enumerate(names):
        for k in range(whole.shape[1]):
            values = torch.cat([whole[None, c, k], without[:, c, k]])[:, None]
            yield (
                _row({"condition": name}, TANGLING, TANGLING, k, whole[c, k], stderr[c, k], note),
                LeftOut(values, sizes) if errors else None,
            )


def _rows(
    found: CrossValidated, place: dict[str, str], measure: str, quantity: str, of: GroupMeans
) -> Iterator[Numbered]:
    """Rows of a squared length over time, and of its root."""
    errors = len(found.weights) >= FEWEST
    note = f"error over {of.said}" if errors else f"no error: {len(found.weights)} groups, and {FEWEST} are needed"
    for k in range(len(found.squared)):
        square, error = found.squared[k], found.stderr[k]
        values = torch.cat([square[None], found.without[:, k]])
        left = LeftOut(values[:, None], found.weights, gram=found.grams[k]) if errors else None
        yield _row(place, measure, f"squared_{quantity}", k, square, error, note), left
        sure = errors and bool(square > error)
        roots = values.sign() * values.abs().sqrt()
        yield (
            _row(place, measure, quantity, k, roots[0], error / (2 * roots[0]) if sure else math.nan,
                 note if sure or not errors else "no error: the square is not above its own"),
            LeftOut(roots[:, None], found.weights) if sure else None,
        )  # fmt: skip


def _row(
    place: dict[str, str], measure: str, quantity: str, k: int, value: Any, stderr: Any, note: str
) -> dict[str, Any]:
    return {
        **place, "time": k, "measure": measure, "quantity": quantity, "value": float(value), "stderr": float(stderr),
        "ok": True, "note": note,
    }  # fmt: skip


def _none(place: dict[str, str], measure: str, quantity: str, of: GroupMeans, why: str) -> Iterator[Numbered]:
    quantities = [quantity] if measure == TANGLING else [f"squared_{quantity}", quantity]
    for name in quantities:
        for k in range(of.means.shape[2]):
            yield {**_row(place, measure, name, k, math.nan, math.nan, why), "ok": False}, None
