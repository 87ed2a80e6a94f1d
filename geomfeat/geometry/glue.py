"""Geometry of manifolds as a linear read-out sees it (GLUE): anchors, dimension, radius, alignments.

Chou, Le, Wang & Chung 2025 (arXiv 2503.18114). From the multipliers l of each draw's projection p:

    anchor   s_i = sum_j l_ij x_ij / sum_j l_ij      of every active manifold (sum_j l_ij > 0); a point of its hull
    centre   s0_i = mean of s_i over the draws where i is active;    axis  s1_i = s_i - s0_i
    b = (S1 t)' (S1 S1')^+ (S1 t)        c = (S1 t)' (S0 S0' + S1 S1')^+ (S1 t)      rows y_i s_i of the active i
    D = E b / P        R^2 = E c / (E b - E c)        Psi = E c / E|p|^2

Draws with t inside its cone have a right |p|^2 but anchors that are not unique: they count in E|p|^2 and in nothing
else. Because E c is the same number in R and in Psi, and E|p|^2 the same in Psi and in the capacity P / E|p|^2, the
identity alpha = Psi (1 + R^-2) / D is exact whichever draws E b and E c run over.

Projections are taken by singular values with a relative cut, on rows scaled to unit length: b depends on the row space
only, and [S0 S1] has full row rank since the anchors come from linearly independent points, so scaling changes neither.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.geometry.cone import ConeProjections
from geomfeat.numerics import WORKING, jackknife_stderr

# An axis below this share of its anchor's length is rounding: the manifold always answers with the same anchor.
NO_AXIS = 1e-10
RANK_CUT = 1e-10
BATCHES = 20
CHUNK_DOUBLES = 2**24


@dataclass(frozen=True, eq=False)
class Anchors:
    """s: anchors, 0 where inactive. active: which manifolds carry p. centres: mean anchors. used: draws that count."""

    s: Float[Tensor, "draws P r"]
    active: Bool[Tensor, "draws P"]
    centres: Float[Tensor, "P r"]
    used: Bool[Tensor, "draws"]

    def axes(self, rows: Tensor) -> Float[Tensor, "m P r"]:
        """s1 of some draws, 0 where inactive or where the anchor never moves."""
        s, active = self.s[rows], self.active[rows]
        axis = (s - self.centres) * active[:, :, None]
        size = torch.linalg.vector_norm(s, dim=2) + torch.linalg.vector_norm(self.centres, dim=1)
        return axis * (torch.linalg.vector_norm(axis, dim=2) > NO_AXIS * size)[:, :, None]


@dataclass(frozen=True)
class Glue:
    """The numbers of this file, each with its standard error; NaN where the draws do not define them."""

    dimension: float
    dimension_se: float
    radius: float
    radius_se: float
    utility: float
    utility_se: float
    center_alignment: float
    center_alignment_se: float
    axis_alignment: float
    axis_alignment_se: float
    center_axis_alignment: float
    center_axis_alignment_se: float


def anchors_of(x: Float[Tensor, "k r"], owner: Int[Tensor, "k"], n_manifolds: int, found: ConeProjections) -> Anchors:
    """Anchors of every draw; centres over the certified draws outside their cones."""
    draws = found.norms2.shape[0]
    index, weight = found.support.clamp_min(0), found.multipliers
    manifold = owner[index]
    total = torch.zeros(draws, n_manifolds, dtype=WORKING, device=x.device).scatter_add_(1, manifold, weight)
    s = torch.zeros(draws, n_manifolds, x.shape[1], dtype=WORKING, device=x.device)
    for rows in _chunks(draws, index.shape[1] * x.shape[1]):
        share = weight[rows] / torch.gather(total[rows], 1, manifold[rows]).clamp_min(torch.finfo(WORKING).tiny)
        where = manifold[rows][:, :, None].expand(-1, -1, x.shape[1])
        s[rows] = s[rows].scatter_add(1, where, share[:, :, None] * x[index[rows]])
    used = found.certified & ~found.inside
    active = (total > 0) & used[:, None]
    s = s * active[:, :, None]
    return Anchors(s, active, _centres(s.sum(0), active.sum(0)), used)


def glue_geometry(anchors: Anchors, t: Float[Tensor, "draws r"], found: ConeProjections) -> Glue:
    """Dimension, radius, utility and alignments from the anchors of the draws `t` (same coordinates)."""
    n_manifolds = anchors.s.shape[1]
    p2 = found.norms2[found.certified]
    used = anchors.used[found.certified]
    nan = float("nan")
    if not bool(used.any()):
        return Glue(*[nan] * 12)
    b, c = (torch.zeros(len(used), dtype=WORKING, device=t.device) for _ in range(2))
    b[used], c[used] = axis_energies(anchors, t)
    # Influence of each draw on the three means that everything is made of (delta method).
    share = used.double().mean()
    mean_b, mean_c, mean_p2 = b[used].mean(), c[used].mean(), p2.mean()
    on_b, on_c = (torch.where(used, v - m, 0.0) / share for v, m in ((b, mean_b), (c, mean_c)))
    on_p2 = p2 - mean_p2
    rest = mean_b - mean_c
    moves = bool(rest > 0)
    radius = float((mean_c / rest).sqrt()) if moves else nan
    on_radius = (on_c * mean_b - on_b * mean_c) / rest.square() / (2 * radius) if moves else torch.full_like(b, nan)
    utility = mean_c / mean_p2
    return Glue(
        float(mean_b) / n_manifolds, _stderr(on_b) / n_manifolds,
        radius, _stderr(on_radius),
        float(utility), _stderr((on_c - utility * on_p2) / mean_p2),
        *_alignments(anchors),
    )  # fmt: skip


def axis_energies(anchors: Anchors, t: Float[Tensor, "draws r"]) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
    """b and c of every used draw. The signs y_i cancel in both."""
    rows = torch.nonzero(anchors.used)[:, 0]
    b, c = (torch.zeros(len(rows), dtype=WORKING, device=t.device) for _ in range(2))
    for part in _chunks(len(rows), 4 * anchors.s.shape[1] * anchors.s.shape[2]):
        here = rows[part]
        s1 = anchors.axes(here)
        s0 = anchors.centres * anchors.active[here][:, :, None]
        target = t[here][:, :, None]
        b[part] = _energy(_unit(s1), _unit(s1) @ target)
        both = torch.cat([s0, s1], 2)
        length = torch.linalg.vector_norm(both, dim=2, keepdim=True).clamp_min(torch.finfo(WORKING).tiny)
        c[part] = _energy(both / length, (s1 @ target) / length)
    return b, c


def _energy(rows: Tensor, z: Tensor) -> Tensor:
    """z' (A A')^+ z for A = rows (m, P, r), z (m, P, 1), without forming A A'."""
    u, sigma, _ = torch.linalg.svd(rows, full_matrices=False)
    kept = sigma > RANK_CUT * sigma[:, :1]
    part = (u.mT @ z)[:, :, 0] / torch.where(kept, sigma, 1.0)
    return (part * kept).square().sum(1)


def _alignments(anchors: Anchors) -> tuple[float, float, float, float, float, float]:
    """Mean absolute cosines between centres, between axes, and centre against axis, of different manifolds."""
    draws = torch.nonzero(anchors.used)[:, 0]
    seen = anchors.active.any(0)
    centres = _unit(anchors.centres)
    pairs = ~torch.eye(len(seen), dtype=torch.bool, device=seen.device) & seen & seen[:, None]
    parts = []
    for rows in _chunks(len(draws), anchors.s.shape[1] * (anchors.s.shape[2] + anchors.s.shape[1])):
        axes = _unit(anchors.axes(draws[rows]))
        has = axes.abs().amax(2) > 0
        both = has[:, :, None] & has[:, None, :]
        parts.append(((axes @ axes.mT).abs(), both, (centres @ axes.mT).abs(), has[:, None, :] & seen[:, None]))
    axis, both, mixed, has = (torch.cat(p) for p in zip(*parts, strict=True))
    return (
        _mean_cosine(centres, pairs), _centre_stderr(anchors, pairs),
        *_pair_mean(axis, both & pairs), *_pair_mean(mixed, has & pairs),
    )  # fmt: skip


def _mean_cosine(centres: Tensor, pairs: Tensor) -> float:
    return float((centres @ centres.T).abs()[pairs].mean())


def _centre_stderr(anchors: Anchors, pairs: Tensor) -> float:
    """Batch jackknife over the draws, since the centres are means over them."""
    draws = torch.nonzero(anchors.used)[:, 0]
    batches = min(BATCHES, len(draws))
    if batches < 2 or not bool(pairs.any()):
        return float("nan")
    total, count = anchors.s.sum(0), anchors.active.sum(0)
    values = []
    for i in range(batches):
        out = draws[i::batches]
        left = count - anchors.active[out].sum(0)
        centres = _unit(_centres(total - anchors.s[out].sum(0), left))
        here = pairs & (left > 0) & (left > 0)[:, None]
        values.append(_mean_cosine(centres, here) if bool(here.any()) else float("nan"))
    return jackknife_stderr(values)


def _pair_mean(value: Tensor, defined: Tensor) -> tuple[float, float]:
    """Mean over pairs of each pair's mean over the draws that define it, and its standard error."""
    count = defined.sum(0)
    pairs = count > 0
    if not bool(pairs.any()):
        return float("nan"), float("nan")
    mean = (value * defined).sum(0) / count.clamp_min(1)
    share = count.double().clamp_min(1) / len(value)
    influence = ((value - mean) * defined / share)[:, pairs].mean(1)
    return float(mean[pairs].mean()), _stderr(influence)


def _centres(total: Tensor, count: Tensor) -> Tensor:
    return total / count.clamp_min(1)[:, None]


def _unit(rows: Tensor) -> Tensor:
    return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(torch.finfo(WORKING).tiny)


def _stderr(influence: Tensor) -> float:
    n = influence.numel()
    return float((influence.square().sum() / (n * (n - 1))).sqrt()) if n > 1 else float("nan")


def _chunks(n: int, doubles_each: int) -> list[slice]:
    size = max(1, CHUNK_DOUBLES // max(1, doubles_each))
    return [slice(i, min(n, i + size)) for i in range(0, n, size)]
