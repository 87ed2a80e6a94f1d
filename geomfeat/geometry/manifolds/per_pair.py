"""Which classes collide: cosines between centres and axes of every pair of manifolds, and their means (alignments)."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.geometry.manifolds.alignment_cosines import cosines_of, pairs_of
from geomfeat.geometry.manifolds.anchor_points import Anchors
from geomfeat.statistics.influence_functions import stderr

ALIGNMENTS = ("center_alignment", "axis_alignment", "center_axis_alignment")


@dataclass(frozen=True, eq=False)
class PerPair(BaseResult):
    """(P, P) values, NaN on the diagonal and where the draws do not define them; `x_se` is the standard error of x.

    Attributes:
        center_cosine: signed cosine of the mean anchors of i and j; its absolute value is averaged in
            `Capacity.center_alignment`.
        axis_alignment: mean absolute cosine of the axes of i and j. center_axis_alignment: centre of i, axis of j.

    `to_frame()`: one row for each ordered pair of classes: class, other, then the attributes.
    """

    classes: tuple[Any, ...]
    center_cosine: Float[Tensor, "P P"]
    center_cosine_se: Float[Tensor, "P P"]
    axis_alignment: Float[Tensor, "P P"]
    axis_alignment_se: Float[Tensor, "P P"]
    center_axis_alignment: Float[Tensor, "P P"]
    center_axis_alignment_se: Float[Tensor, "P P"]

    def columns(self) -> dict[str, list[Any]]:
        """One row per ordered pair of different classes, for `pandas.DataFrame(found.per_pair.columns())`."""
        first, second = np.nonzero(~np.eye(len(self.classes), dtype=bool))
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "classes"}
        return {
            "class": [self.classes[i] for i in first],
            "other": [self.classes[j] for j in second],
            **{name: value.cpu().numpy()[first, second].tolist() for name, value in values.items()},
        }

    _columns = columns


@dataclass(frozen=True)
class Alignments:
    """Mean over pairs of absolute cosines, each with its standard error."""

    center_alignment: float
    center_alignment_se: float
    axis_alignment: float
    axis_alignment_se: float
    center_axis_alignment: float
    center_axis_alignment_se: float


def pair_geometry(
    anchors: Anchors, strata: Int[Tensor, "draws"] | None, classes: tuple[Any, ...]
) -> tuple[Alignments, PerPair, dict[str, Float[Tensor, "draws"]]]:
    """Alignments over all pairs and for each, and the influence of every draw on the first; of certified draws.

    A pair's alignment is its mean over the draws that define it, and the alignment of all is the mean over pairs.
    """
    found = pairs_of(anchors)
    means, errors, influences = [], [], {}
    for name, (value, influence, defined) in zip(ALIGNMENTS, found, strict=True):
        sign = torch.where(value < 0, -1.0, 1.0)
        # Means over no pairs are NaN.
        influences[name] = (influence * sign)[:, defined].mean(1)
        means.append(float((value * sign)[defined].mean()))
        errors += [_or_nan(value, defined), _or_nan(stderr(influence, strata), defined)]
    of_means = stderr(torch.stack([*influences.values()], 1), strata).tolist()
    alignments = Alignments(*[number for pair in zip(means, of_means, strict=True) for number in pair])
    return alignments, PerPair(classes, *errors), influences


def pair_values(anchors: Anchors) -> dict[str, float]:
    """The alignments of `pair_geometry` without their errors."""
    means = zip(ALIGNMENTS, cosines_of(anchors), strict=True)
    return {name: float(value.abs()[defined].mean()) for name, (value, defined) in means}


def _or_nan(value: Tensor, defined: Tensor) -> Tensor:
    return torch.where(defined, value, torch.nan)
