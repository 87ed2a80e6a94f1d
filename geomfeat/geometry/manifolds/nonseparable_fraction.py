"""Share of dichotomies that no hyperplane separates: the capacity's projections already decide most of them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.manifolds.cones._separability import CLEAR, distinct_dichotomies, separability
from geomfeat.geometry.manifolds.cones.project import ConeProjections
from geomfeat.numerics import matmul

# Separability is judged for at most this many different dichotomies (each costs about as much as a few draws).
MOST_JUDGED = 50
# Unit points farther than this from the span of those before them are independent of them: far above what QR in float64
# leaves, since it stands for a proof. The points lie in the span that their precision shows.
INDEPENDENT = 1e-8


@dataclass(frozen=True)
class Nonseparable:
    """share, with its standard error, among `judged` of `drawn` different dichotomies (up to sign)."""

    share: float
    stderr: float
    judged: int
    drawn: int


def nonseparable(
    x: Float[Tensor, "k r"],
    owner: Int[Tensor, "k"],
    y: Float[Tensor, "draws P"],
    found: ConeProjections,
    strata: Int[Tensor, "draws"] | None,
) -> Nonseparable:
    """Share of the drawn dichotomies without a strictly separating hyperplane through the origin.

    A residual v with y_i x_ij . v < 0 for all points outside the support proves that its labels are separable: the
    points of the support are linearly independent, so a small step takes them to the same side. Only the other
    dichotomies are solved for. Where the labels are a fixed set, all judged, the share has no error.
    """
    rows, counts = distinct_dichotomies(y)
    drawn, rows, counts = len(rows), rows[:MOST_JUDGED], counts[:MOST_JUDGED]
    if _independent(x):
        return Nonseparable(0.0, 0.0, drawn, drawn)
    separable = _proved(x, owner, y, found, rows)
    decided = separable.clone()
    rest = torch.nonzero(~separable)[:, 0]
    if len(rest):
        answer = separability(x, owner, rows[rest])
        separable[rest], decided[rest] = answer.separable, answer.decided
    judged = int(decided.sum())
    if not judged:
        return Nonseparable(math.nan, math.nan, 0, drawn)
    complete = strata is not None and judged == drawn
    weight = torch.ones_like(counts).double() if complete else counts.double()
    share = float(weight[decided & ~separable].sum() / weight[decided].sum())
    error = 0.0 if complete else math.sqrt(share * (1 - share) / float(weight[decided].sum()))
    return Nonseparable(share, error, judged, drawn)


def _independent(x: Tensor) -> bool:
    """Are the points linearly independent, so that every labelling is separable? A product of QR's diagonal, not 0."""
    if len(x) > x.shape[1]:
        return False
    lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        return False
    return bool((torch.linalg.qr((x / lengths).T, mode="r")[1].diagonal().abs() > INDEPENDENT).all())


def _proved(x: Tensor, owner: Tensor, y: Tensor, found: ConeProjections, rows: Tensor) -> Tensor:
    """Which of `rows` one of the draws, of those looked at, proves to be separable."""
    which = matmul(y, rows.T).abs_() == y.shape[1]
    able = found.certified & ~found.inside
    proved = which[able & found.alone].any(0)
    if bool(proved.all()):
        return proved
    which = which & ~proved & able[:, None]
    # Two draws of each dichotomy settle nearly all that can be settled.
    draws = torch.nonzero((which & (which.cumsum(0) <= 2)).any(1))[:, 0]
    lengths = torch.linalg.vector_norm(x, dim=1)
    v = found.residual[draws]
    price = (v @ x.T).mul_(y[draws][:, owner])
    # Relative to |t|, like the certificate, whose tolerance is below this.
    limit = -CLEAR * (v.square().sum(1) + found.norms2[draws]).sqrt()[:, None] * lengths
    support = found.support[draws]
    clear = price < limit
    on_support = torch.zeros_like(clear)
    held = support >= 0
    on_support[torch.arange(len(draws), device=x.device)[:, None].expand_as(support)[held], support[held]] = True
    settled = (clear | on_support | (lengths == 0)).all(1)
    return proved | which[draws][settled].any(0)
