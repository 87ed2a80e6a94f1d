"""Which class costs how much capacity: its share of |p|^2, how often it is active, how large its anchors are."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.geometry.manifolds.anchor_points import TINY, Anchors
from geomfeat.numerics import WORKING
from geomfeat.statistics.influence_functions import on_mean, stderr


@dataclass(frozen=True, eq=False)
class PerManifold(BaseResult):
    """(P,) values, NaN where the draws do not define them; `x_se` is the standard error of x over the draws.

    Attributes:
        cost: mean of y_i sum_j l_ij x_ij . p, the manifold's part of |p|^2, over draws outside their cones (inside, the
            multipliers are one choice of many): where none is inside, the costs add up to P / capacity.
        active: share of draws (outside their cones) in which the manifold carries p.
        anchor_norm: mean |s_i|, in units of the points. center_norm: |s0_i|.
        axis_ratio: sqrt(E|s1_i|^2) / |s0_i|, how far its anchors spread about their centre: its own radius.

    `to_frame()`: one row for each class: class, then the attributes.
    """

    classes: tuple[Any, ...]
    cost: Float[Tensor, "P"]
    cost_se: Float[Tensor, "P"]
    active: Float[Tensor, "P"]
    active_se: Float[Tensor, "P"]
    anchor_norm: Float[Tensor, "P"]
    anchor_norm_se: Float[Tensor, "P"]
    center_norm: Float[Tensor, "P"]
    center_norm_se: Float[Tensor, "P"]
    axis_ratio: Float[Tensor, "P"]
    axis_ratio_se: Float[Tensor, "P"]

    def in_units_of(self, length: float) -> "PerManifold":
        """The same, for points that were divided by `length`."""
        norms = ("anchor_norm", "anchor_norm_se", "center_norm", "center_norm_se")
        return replace(self, **{name: getattr(self, name) * length for name in norms})

    def columns(self) -> dict[str, list[Any]]:
        """One row per class, for `pandas.DataFrame(found.per_manifold.columns())`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "classes"}
        return {"class": list(self.classes), **{name: value.tolist() for name, value in values.items()}}

    _columns = columns


def manifold_geometry(anchors: Anchors, strata: Int[Tensor, "draws"] | None, classes: tuple[Any, ...]) -> PerManifold:
    """Values of every manifold from the anchors of certified draws."""
    seen, active, used = anchors.seen, anchors.active, anchors.used[:, None].expand_as(anchors.active)
    centers = anchors.centers if anchors.shift is None else anchors.centers + anchors.shift
    size, norm, along = torch.linalg.vector_norm(centers, dim=1), seen.norm, seen.along
    # In lengths of the centre, so that no square leaves the range of numbers.
    spread = (seen.length / size.clamp_min(TINY)).square()
    share = active.to(WORKING)
    mean_spread = (spread * active).sum(0) / active.sum(0).clamp_min(1)
    ratio = mean_spread.sqrt()
    on_size = on_mean(along, active)
    # The mean square about the mean does not move with the mean to first order; the length it is measured in does.
    on_ratio = on_mean(spread, active) / (2 * ratio.clamp_min(TINY)) - ratio * on_size / size.clamp_min(TINY)
    on_ratio = torch.where(ratio > 0, on_ratio, 0.0)
    there = active.any(0)
    parts, counted = anchors.parts, used.sum(0).clamp_min(1)

    influences = [on_mean(parts, used), on_mean(share, used), on_mean(norm, active), on_size, on_ratio]
    values = [
        (parts * used).sum(0) / counted, share.sum(0) / counted, (norm * active).sum(0) / active.sum(0).clamp_min(1),
        size, ratio,
    ]  # fmt: skip
    defined = torch.stack([used.any(0), used.any(0), there, there, there])
    # Value and error of one number after the other.
    found = torch.stack([torch.stack(values), stderr(torch.stack(influences, 1), strata)], 1)
    return PerManifold(classes, *torch.where(defined[:, None], found, torch.nan).flatten(0, 1))
