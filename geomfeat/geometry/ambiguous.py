"""In which draws other multipliers would carry the same projection: |p|^2 is unique always, the anchors are not.

A solver returns linearly independent points. Others may touch the supporting plane too (y x . v = 0); where one of
these depends on the rest, weight can be moved to it, and the anchors with it: points of a class along one ray, or a
class that fills its span. Exact copies of a held point move no anchor and are no choice.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.geometry.cone import INSIDE, ConeProjections
from geomfeat.geometry.separability import unit_points

# Unit points whose smallest singular value is below this share of the largest are dependent.
DEPENDENT = 1e-9


def ambiguous(
    x: Float[Tensor, "k r"], owner: Int[Tensor, "k"], y: Float[Tensor, "draws P"], found: ConeProjections
) -> Bool[Tensor, "draws"]:
    """Which certified draws outside their cones leave a choice of anchors; `x` is what `found` was projected on.

    >>> from geomfeat.geometry import project_on_cones
    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)       # two points on one ray
    >>> t, y = torch.tensor([[1.0, -1.0], [-1.0, 2.0]]).double(), torch.ones(2, 2).double()
    >>> owner = torch.tensor([0, 0, 1])
    >>> ambiguous(x, owner, y, project_on_cones(x, owner, t, y)).tolist()
    [True, False]
    """
    here = torch.nonzero(found.certified & ~found.inside)[:, 0]
    out = torch.zeros(len(y), dtype=torch.bool, device=x.device)
    place = torch.nonzero(x.abs().amax(1) > 0)[:, 0]
    unit, kept_owner = unit_points(x, owner)
    signs = y[here][:, kept_owner]
    length = (found.norms2[here] + found.residual[here].square().sum(1)).sqrt()
    touches = ((found.residual[here] @ unit.T).abs() <= INSIDE * length[:, None]) & (signs != 0)
    held = torch.zeros(len(here), len(x), dtype=torch.bool, device=x.device)
    used = found.support[here] >= 0
    row = torch.arange(len(here), device=x.device)[:, None].expand_as(used)
    held[row[used], found.support[here][used]] = True
    others = touches & ~held[:, place]
    for i in torch.nonzero(others.any(1))[:, 0].tolist():
        carriers, near = torch.nonzero(held[i])[:, 0], place[others[i]]
        copies = (owner[near][:, None] == owner[carriers]) & (x[near][:, None] == x[carriers]).all(2)
        both = torch.cat([carriers, near[~copies.any(1)]])
        rows = unit_points(x[both], owner[both])[0]
        out[here[i]] = bool(torch.linalg.matrix_rank(rows, rtol=DEPENDENT) < len(rows))
    return out
