"""Cosines between centres and axes of every pair of manifolds, with the influence of every draw on each.

Centres are means over the draws, and axes start there: a draw counts through its own axis and through the centres of
all others. The slope of |cos(a, b)| with a is sign(cos) (b - cos a) / |a| for unit vectors a, b; the sums over draws
are matrix products, one batch per manifold.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.geometry.manifolds.anchor_points import Anchors
from geomfeat.geometry.manifolds.projection_energies import TINY, chunks
from geomfeat.numerics import WORKING


class Pairs(NamedTuple):
    """value, signed for centres; its influence; which pairs of different manifolds the draws define."""

    value: Float[Tensor, "P P"]
    influence: Float[Tensor, "draws P P"]
    defined: Bool[Tensor, "P P"]


@dataclass(frozen=True, eq=False)
class Moves:
    """Unit centres and axes with their lengths, and how far each draw moves each centre (influence)."""

    centers: Float[Tensor, "P r"]
    size: Float[Tensor, "P"]
    axes: Float[Tensor, "draws P r"]
    length: Float[Tensor, "draws P"]
    shift: Float[Tensor, "draws P r"]
    seen: Bool[Tensor, "P"]

    @property
    def apart(self) -> Bool[Tensor, "P P"]:
        """Pairs of different manifolds."""
        return ~torch.eye(len(self.seen), dtype=torch.bool, device=self.seen.device)


def moves_of(anchors: Anchors) -> Moves:
    """The vectors whose cosines are wanted."""
    size = torch.linalg.vector_norm(anchors.centers, dim=1)
    axes = anchors.axes(slice(None))
    length = torch.linalg.vector_norm(axes, dim=2)
    share = anchors.active.to(WORKING).mean(0).clamp_min(1e-300)
    # A centre is a mean over the draws in which its manifold moves: a ratio of two means over all draws, of which this
    # is the influence of each draw.
    shift = (anchors.s - anchors.centers).mul_((anchors.active / share)[:, :, None])
    axes = axes / length.clamp_min(TINY)[:, :, None]
    centers = anchors.centers / size.clamp_min(TINY)[:, None]
    return Moves(centers, size, axes, length, shift, anchors.active.any(0))


def center_cosines(m: Moves) -> Pairs:
    """Signed cosines of the centres."""
    cosine = (m.centers @ m.centers.T).clamp(-1.0, 1.0)
    along = (m.shift @ m.centers.T) / m.size.clamp_min(TINY)[:, None]
    # What a shift does to the direction: its part along the other centre, less what it adds to its own length.
    turned = along - cosine * along.diagonal(dim1=1, dim2=2)[:, :, None]
    return Pairs(cosine, turned + turned.mT, m.apart & m.seen & m.seen[:, None])


def axis_cosines(m: Moves) -> Pairs:
    """Mean |cos| between the axes of i and j, over the draws in which both move."""
    cosine = torch.bmm(m.axes, m.axes.mT)
    moving = m.length > 0
    defined = moving[:, :, None] & moving[:, None, :] & m.apart
    weight = _signs(cosine, defined) * _inverse(m.length)[:, :, None]
    # An axis starts at its centre, so that a shift of the centre moves all its axes by the opposite: hence the signs.
    turned = _along_own(weight * cosine, m.axes, m.shift) - _along_other(weight, m.axes, m.shift)
    return _averaged(cosine, defined, turned + turned.mT)


def center_axis_cosines(m: Moves) -> Pairs:
    """Mean |cos| between the centre of i and the axis of j, over the draws in which j moves."""
    cosine = (m.axes @ m.centers.T).mT
    defined = (m.length > 0)[:, None, :] & (m.seen[:, None] & m.apart)
    sign = _signs(cosine, defined)
    along = m.shift @ m.centers.T
    own = along.diagonal(dim1=1, dim2=2)[:, :, None]
    center = (_along_other(sign, m.axes, m.shift) - (sign * cosine).sum(0) * own) * _inverse(m.size)[:, None]
    weight = (sign * _inverse(m.length)[:, None, :]).mT
    axis = _along_own(weight * cosine.mT, m.axes, m.shift) - weight.sum(0) * along
    return _averaged(cosine, defined, center + axis.mT)


def _signs(cosine: Tensor, defined: Tensor) -> Tensor:
    """Signs of the cosines, over the number of draws that define the pair."""
    return torch.where(cosine < 0, -1.0, 1.0).to(WORKING) * defined / defined.sum(0).clamp_min(1)


def _averaged(cosine: Tensor, defined: Tensor, through_centres: Tensor) -> Pairs:
    count = defined.sum(0)
    mean = (cosine.abs() * defined).sum(0) / count.clamp_min(1)
    influence = (cosine.abs() - mean).mul_(defined).mul_(len(cosine) / count.clamp_min(1))
    return Pairs(mean, influence + through_centres, count > 0)


def _along_own(weight: Tensor, axes: Tensor, shift: Tensor) -> Tensor:
    """(e, i, j): sum_d weight_dij axes_di . shift_ei."""
    slope = torch.bmm(weight.permute(1, 2, 0), axes.transpose(0, 1))
    return torch.bmm(shift.transpose(0, 1), slope.mT).transpose(0, 1)


def _along_other(weight: Tensor, axes: Tensor, shift: Tensor) -> Tensor:
    """(e, i, j): sum_d weight_dij axes_dj . shift_ei."""
    parts = []
    for some in chunks(weight.shape[1], weight.shape[1] * axes.shape[2]):
        slope = torch.bmm(weight[:, :, some].permute(2, 1, 0), axes[:, some].transpose(0, 1))
        parts.append(torch.bmm(shift.transpose(0, 1), slope.permute(1, 2, 0)).transpose(0, 1))
    return torch.cat(parts, 2)


def _inverse(length: Tensor) -> Tensor:
    return torch.where(length > 0, 1 / length.clamp_min(TINY), 0.0)
