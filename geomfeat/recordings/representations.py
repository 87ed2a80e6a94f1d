"""Recordings as layers: trials become samples, units features, conditions labels, runs groups."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch

from geomfeat.errors import BadInput
from geomfeat.recordings.trial_labels import codes_of
from geomfeat.types import Representation

if TYPE_CHECKING:
    from geomfeat.recordings._recording import Recording

ALL_UNITS = "all units"


def of_recording(recording: Recording, area: Hashable, groups: str | None, time: str) -> Representation:
    """See `Recording.to_representation`."""
    part = recording if area is None else recording.select(area=area)
    if time not in ("mean", "flatten"):
        raise BadInput(f"time={time!r}: use 'mean', or 'flatten' for a feature of each unit at each time")
    x, reduce = part.x, "none"
    if x.ndim == 3:
        x = x.to(torch.float64).mean(2) if time == "mean" else x.flatten(1)
        reduce = "mean over time" if time == "mean" else "flatten"
    names = tuple(map(str, part.conditions))
    meta = {"reduce": reduce, "conditions": list(names)}
    layer = str(area) if area is not None else part.name or ALL_UNITS
    return Representation(
        x, codes_of(part.condition), layer, meta, groups=part.groups_by(groups), classes=names
    )  # fmt: skip


def by_area(recording: Recording, groups: str | None, time: str) -> dict[str, Representation]:
    """See `Recording.to_representations`."""
    if not recording.areas:
        return {ALL_UNITS: of_recording(recording, None, groups, time).with_(layer=ALL_UNITS)}
    return {str(area): of_recording(recording, area, groups, time) for area in recording.areas}
