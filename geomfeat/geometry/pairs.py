"""Which classes collide: cosines between centres and axes of every pair of manifolds, and their means (alignments)."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.anchors import Anchors
from geomfeat.geometry.energies import TINY, chunks
from geomfeat.geometry.influence import stderr
from geomfeat.numerics import WORKING


@dataclass(frozen=True, eq=False)
class PerPair:
    """(P, P) values, NaN on the diagonal and where the draws do not define them; `x_se` is the standard error of x.

    Attributes:
        center_cosine: signed cosine of the mean anchors of i and j; its absolute value is averaged in
            `Capacity.center_alignment`.
        axis_alignment: mean absolute cosine of the axes of i and j. center_axis_alignment: centre of i, axis of j.
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
) -> tuple[Alignments, PerPair]:
    """Alignments over all pairs and for each; `anchors` of certified draws.

    A pair's alignment is its mean over the draws that define it, and the alignment of all is the mean over pairs.
    """
    cosine, on_cosine = _center_cosines(anchors)
    seen = anchors.active.any(0)
    apart = ~torch.eye(len(seen), dtype=torch.bool, device=seen.device)
    means, errors = [], []
    found = [(cosine, on_cosine, apart & seen & seen[:, None]), *_axis_cosines(anchors, apart)]
    for value, influence, defined in found:
        sign = torch.where(value < 0, -1.0, 1.0)
        any_pair = bool(defined.any())
        means += [
            float((value * sign)[defined].mean()) if any_pair else float("nan"),
            float(stderr((influence * sign)[:, defined].mean(1), strata)) if any_pair else float("nan"),
        ]
        errors += [_or_nan(value, defined), _or_nan(stderr(influence, strata), defined)]
    return Alignments(*means), PerPair(classes, *errors)


def _or_nan(value: Tensor, defined: Tensor) -> Tensor:
    return torch.where(defined, value, torch.nan)


def _center_cosines(anchors: Anchors) -> tuple[Tensor, Tensor]:
    """Cosines of the centres, and the influence of every draw on each, since centres are means over the draws."""
    size = torch.linalg.vector_norm(anchors.centres, dim=1).clamp_min(TINY)
    unit = anchors.centres / size[:, None]
    cosine = (unit @ unit.T).clamp(-1.0, 1.0)
    share = anchors.active.to(WORKING).mean(0).clamp_min(1e-300)
    # along[d, i, j]: how far draw d takes centre i along centre j, in lengths of centre i.
    along = (anchors.s @ unit.T) / size[:, None] - cosine
    along = along * (anchors.active / share)[:, :, None]
    own = along.diagonal(dim1=1, dim2=2)
    turned = along - cosine * own[:, :, None]
    return cosine, turned + turned.mT


def _axis_cosines(
    anchors: Anchors, apart: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """(mean, influence, defined) of |cos| between axes, and between centres and axes."""
    rows = torch.nonzero(anchors.used)[:, 0]
    n, n_manifolds = anchors.active.shape
    seen = anchors.active.any(0)
    centres = _unit(anchors.centres)
    axis, mixed = (torch.zeros(n, n_manifolds, n_manifolds, dtype=WORKING, device=centres.device) for _ in range(2))
    has = torch.zeros(n, n_manifolds, dtype=torch.bool, device=centres.device)
    for part in chunks(len(rows), 2 * n_manifolds * centres.shape[1]):
        here = rows[part]
        axes = _unit(anchors.axes(here))
        has[here] = (axes != 0).any(2)
        axis[here] = torch.bmm(axes, axes.mT).abs()
        mixed[here] = (axes @ centres.T).mT.abs()
    both = has[:, :, None] & has[:, None, :] & apart
    return _mean(axis, both), _mean(mixed, has[:, None, :] & (seen[:, None] & apart))


def _mean(value: Tensor, defined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = defined.sum(0)
    mean = (value * defined).sum(0) / count.clamp_min(1)
    influence = (value - mean).mul_(defined).mul_(len(value) / count.clamp_min(1))
    return mean, influence, count > 0


def _unit(rows: Tensor) -> Tensor:
    return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(TINY)
