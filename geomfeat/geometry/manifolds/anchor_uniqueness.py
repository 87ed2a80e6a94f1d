"""In which draws other multipliers would carry the same projection: |p|^2 is unique always, the anchors are not.

A solver returns linearly independent points. Others may touch the supporting plane too (y x . v = 0); where one of
these depends on the rest, weight can be moved to it, and the anchors with it: points of a class along one ray, or a
class that fills its span. `least_norm` then chooses. Copies of a point within its class are taken out beforehand.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.geometry.manifolds.cones._separability import unit_points
from geomfeat.geometry.manifolds.cones.problem import CHUNK_DOUBLES
from geomfeat.geometry.manifolds.cones.project import INSIDE, ConeProjections

# Unit points whose smallest singular value is below this share of the largest are dependent. Points touch the plane to
# INSIDE, the tolerance of the projections, whatever their own precision.
DEPENDENT = 1e-9


def ambiguous(
    x: Float[Tensor, "k r"], owner: Int[Tensor, "k"], y: Float[Tensor, "draws P"], found: ConeProjections
) -> Bool[Tensor, "draws"]:
    """Which certified draws outside their cones leave a choice of anchors; `x` is what `found` was projected on.

    >>> from geomfeat.geometry.manifolds import project_on_cones
    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)       # two points on one ray
    >>> t, y = torch.tensor([[1.0, -1.0], [-1.0, 2.0]]).double(), torch.ones(2, 2).double()
    >>> owner = torch.tensor([0, 0, 1])
    >>> ambiguous(x, owner, y, project_on_cones(x, owner, t, y)).tolist()
    [True, False]
    """
    out = torch.zeros(len(y), dtype=torch.bool, device=x.device)
    for here, touches in touching(x, owner, y, found, found.certified & ~found.inside & ~found.alone):
        held = torch.zeros_like(touches)
        used = found.support[here] >= 0
        row = torch.arange(len(here), device=x.device)[:, None].expand_as(used)
        held[row[used], found.support[here][used]] = True
        more = (touches & ~held).any(1)
        for i in torch.nonzero(more)[:, 0].tolist():
            near = touches[i] | held[i]
            rows = unit_points(x[near], owner[near])[0]
            more_than_dimensions = len(rows) > x.shape[1]
            out[here[i]] = more_than_dimensions or bool(torch.linalg.matrix_rank(rows, rtol=DEPENDENT) < len(rows))
    return out


def touching(
    x: Float[Tensor, "k r"],
    owner: Int[Tensor, "k"],
    y: Float[Tensor, "draws P"],
    found: ConeProjections,
    rows: Bool[Tensor, "draws"],
) -> Iterator[tuple[Int[Tensor, "m"], Bool[Tensor, "m k"]]]:
    """Some of the draws `rows` at a time, and which points touch the supporting plane in each (the origin: never)."""
    draws = torch.nonzero(rows)[:, 0]
    if not len(draws):
        return
    # No price is below 0: the origin never touches.
    lengths = torch.linalg.vector_norm(x, dim=1)
    reach = torch.where(lengths > 0, INSIDE * lengths, -1.0)
    for here in draws.split(max(1, CHUNK_DOUBLES // max(1, len(x)))):
        v = found.residual[here]
        length = (found.norms2[here] + v.square().sum(1)).sqrt()
        touches = (v @ x.T).abs_() <= length[:, None] * reach
        left_out = y[here] == 0
        yield here, touches & ~left_out[:, owner] if bool(left_out.any()) else touches
