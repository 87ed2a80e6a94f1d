"""What is measured of one layer from its features before and after training: movement, CKA, dimension, capacity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.geometry.dimension import participation_ratio
from geomfeat.geometry.manifolds import capacity
from geomfeat.geometry.similarity import cka
from geomfeat.labels import Labels
from geomfeat.location.movement import movement
from geomfeat.types import Representation


def layer_row(
    layer: str, before: Tensor, after: Tensor, labels: Labels | None, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """The numbers of one layer by column, from (n, d) features of the same samples, and notes of those that failed.

    Raises BadInput for features that are zero or not finite: a layer without a size cannot have moved relative to it.
    """
    if before.shape != after.shape:
        raise BadInput(
            f"layer {layer!r} has features of shape {tuple(before.shape)} before and {tuple(after.shape)} after "
            "training: give two checkpoints of one network"
        )
    notes: list[str] = []
    codes = None if labels is None else labels.codes
    old, new = (Representation(x, codes, layer=layer) for x in (before, after))

    def tried(column: str, work: Callable[[], Any]) -> float:
        try:
            return float(work())
        except (GeomfeatError, ArithmeticError) as problem:
            notes.append(f"{column} of layer {layer!r}: {problem}")
            return math.nan

    row: dict[str, Any] = {
        "layer": layer,
        "movement": movement({layer: before}, {layer: after})[layer],
        "cka": tried("cka", lambda: cka(old, new, estimator="unbiased")),
        "dimension_before": tried("dimension_before", lambda: participation_ratio(old)),
        "dimension_after": tried("dimension_after", lambda: participation_ratio(new)),
    }
    if labels is not None:
        # Equal seeds give equal random directions, so that their noise is in both numbers alike.
        for column, rep in (("capacity_before", old), ("capacity_after", new)):
            row[column] = tried(column, lambda rep=rep: capacity(rep, seed=seed, resample=None).capacity)
    return row, notes
