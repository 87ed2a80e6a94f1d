"""b and c of GLUE: squared lengths of projections on spans of axes and centres.

The rows are scaled to unit length first: b and c depend on row spaces only, which scaling does not change. Where these
are far from dependent, their Gram matrix is enough (`_numba.anchor_axes`). In the other draws, one QR of the (r x P)
axes and t as a last row, and one of the centres for all draws, leave P x P triangles, whose singular values are those
of the rows: small enough for a second QR in every draw, or for an SVD with a relative cut.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.manifolds.anchor_points import TINY, Anchors

# Of unit rows: anchors are known to the tolerance of the projections, in the span that the points' precision shows.
RANK_CUT = 1e-10
# Columns of at most this condition (by Frobenius norms) are independent beyond doubt.
MOST_CONDITION = 1e8
CHUNK_DOUBLES = 2**23


@dataclass(frozen=True, eq=False)
class Energies:
    """b, c of m draws; and for their slopes the coefficients w of the rows with the remainders q (see `glue`)."""

    b: Float[Tensor, "m"]
    c: Float[Tensor, "m"]
    w_b: Float[Tensor, "m P"]
    w_c: Float[Tensor, "m P"]
    q_b: Float[Tensor, "m r"]
    q_c: Float[Tensor, "m r"]


def axis_energies(anchors: Anchors) -> Energies:
    """b and c of the draws that are used. The signs y_i cancel in both."""
    seen, rows = anchors.seen, torch.nonzero(anchors.used)[:, 0]
    out = Energies(*(getattr(seen, field.name)[rows] for field in fields(Energies)))
    rest = torch.nonzero(~seen.clear[rows])[:, 0]
    for part in rest.split(max(1, CHUNK_DOUBLES // (3 * anchors.centers.numel()))) if len(rest) else ():
        for whole, some in zip(vars(out).values(), vars(by_factors(anchors, rows[part])).values(), strict=True):
            whole[part] = some
    return out


def by_factors(anchors: Anchors, rows: Int[Tensor, "m"]) -> Energies:
    """The same of any draws, to the last digit however near to dependent their axes are."""
    # Only inner products matter: triangular factors have the same ones, in P coordinates instead of r.
    n_manifolds = len(anchors.centers)
    triangle = torch.linalg.qr(anchors.centers.mT, mode="r")[1]
    target, s1, active = anchors.t[rows], anchors.axes(rows), anchors.active[rows]
    length1 = torch.linalg.vector_norm(s1, dim=2)
    unit = s1 / length1.clamp_min(TINY)[:, :, None]
    both = torch.linalg.qr(torch.cat([unit, target[:, None]], 1).mT, mode="r")[1]
    inner, tau = both[:, :, :n_manifolds], both[:, :, n_manifolds]
    b, w_b = _on_columns(inner, tau)
    length = torch.hypot(anchors.size * active, length1).clamp_min(TINY)
    stacked = torch.cat([triangle * (active / length)[:, None], inner * (length1 / length)[:, None]], 1)
    c, w_c = _on_columns(stacked, torch.cat([tau.new_zeros(len(tau), len(triangle)), tau], 1))
    w_b, w_c = (torch.where(size > TINY, w / size.clamp_min(TINY), 0.0) for w, size in ((w_b, length1), (w_c, length)))
    q_b, q_c = (target - torch.bmm(w[:, None], s1)[:, 0] for w in (w_b, w_c))
    return Energies(b, c, w_b, w_c, q_b, q_c + (w_c * active) @ anchors.centers)


def centre_slope(energies: Energies, on_b: Float[Tensor, "m"], on_c: Float[Tensor, "m"]) -> Float[Tensor, "P r"]:
    """How sum_d on_b b + on_c c moves with the centres (an axis moves against its centre)."""
    return -2 * ((energies.w_b * on_b[:, None]).mT @ energies.q_b + (energies.w_c * on_c[:, None]).mT @ energies.q_c)


def _on_columns(a: Float[Tensor, "m k P"], tau: Float[Tensor, "m k"]) -> tuple[Tensor, Tensor]:
    """Squared length of tau's projection on the columns of a, and the coefficients of the columns.

    By QR, a fifth to a tenth of the time of an SVD, where the columns that are not zero are far from dependent.
    """
    zero = (a == 0).all(1)
    # A zero column becomes a direction of its own, which tau has no part in.
    whole = torch.cat([a, torch.diag_embed(zero.to(a.dtype))], 1)
    q, r = torch.linalg.qr(whole)
    part = torch.bmm(tau[:, None], q[:, : a.shape[1]])[:, 0]
    inverse = torch.linalg.solve_triangular(r, torch.eye(r.shape[2], dtype=r.dtype, device=r.device), upper=True)
    condition = torch.linalg.matrix_norm(r) * torch.linalg.matrix_norm(inverse)
    squared, w = part.square().sum(1), torch.bmm(inverse, part[:, :, None])[:, :, 0]
    rest = torch.nonzero(~(condition < MOST_CONDITION))[:, 0]  # NaN and infinity too
    if len(rest):
        squared[rest], w[rest] = _by_singular_values(a[rest], tau[rest])
    return squared, w


def _by_singular_values(a: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    # With a relative cut: the Gram matrix of the columns would square their condition number.
    u, sigma, vh = torch.linalg.svd(a, full_matrices=False)
    kept = sigma > RANK_CUT * sigma[:, :1]
    part = torch.bmm(tau[:, None], u)[:, 0] * kept
    return part.square().sum(1), torch.bmm((part / torch.where(kept, sigma, 1.0))[:, None], vh)[:, 0]
