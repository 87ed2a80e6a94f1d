"""Geometry of manifolds as a linear read-out sees it (GLUE): dimension, radius, utility.

Chou, Le, Wang & Chung 2025 (arXiv 2503.18114). From the multipliers l of each draw's projection p:

    anchor   s_i = sum_j l_ij x_ij / sum_j l_ij      of every active manifold (sum_j l_ij > 0); a point of its hull
    centre   s0_i = mean of s_i over the draws where i is active;    axis  s1_i = s_i - s0_i
    b = (S1 t)' (S1 S1')^+ (S1 t)        c = (S1 t)' (S0 S0' + S1 S1')^+ (S1 t)      rows y_i s_i of the active i
    D = E b / P        R^2 = E c / (E b - E c)        Psi = E c / E|p|^2

Draws with t inside its cone have a right |p|^2 but anchors that are not unique: they count in E|p|^2 and in nothing
else. Because E c is the same number in R and in Psi, and E|p|^2 the same in Psi and in the capacity P / E|p|^2, the
identity alpha = Psi (1 + R^-2) / D is exact whichever draws E b and E c run over.

Standard errors: the influence of every draw on these means, and through the centres, which are means over the same
draws, on b and c of all the others. With w = (A A')^+ A tau and q = tau - A' w, |A' w|^2 moves by 2 w' dA q when the
rows of A move; b has A = S1, tau = t, and c has A = [S0 S1], tau = (0, t).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat._numba.anchor_axes import NO_AXIS
from geomfeat.geometry.manifolds.anchor_points import Anchors
from geomfeat.geometry.manifolds.projection_energies import Energies, axis_energies, centre_slope
from geomfeat.numerics import WORKING
from geomfeat.statistics.influence_functions import on_mean, stderr


@dataclass(frozen=True)
class Glue:
    """The numbers of this file, each with its standard error; NaN where the draws do not define them."""

    dimension: float
    dimension_se: float
    radius: float
    radius_se: float
    radius_mean: float
    radius_mean_se: float
    utility: float
    utility_se: float


def glue_geometry(
    anchors: Anchors, norms2: Float[Tensor, "draws"], strata: Int[Tensor, "draws"] | None
) -> tuple[Glue, dict[str, Float[Tensor, "draws"]]]:
    """Dimension, radius and utility from certified draws with norms2 = |p|^2.

    And the influence of every draw on each of them.
    """
    n_manifolds, used, nan = len(anchors.centers), anchors.used, float("nan")
    if not bool(used.any()):
        nothing = {name: torch.full_like(norms2, nan) for name in ("dimension", "radius", "radius_mean", "utility")}
        return Glue(*[nan] * 8), nothing
    rows = torch.nonzero(used)[:, 0]
    energies = axis_energies(anchors)
    b, c = (torch.zeros(len(used), dtype=WORKING).index_copy(0, rows, v) for v in (energies.b, energies.c))
    mean_b, mean_c, mean_p2 = b[used].mean(), c[used].mean(), norms2.mean()
    each = torch.full_like(energies.b, 1 / len(rows))
    radius_mean, on_radius_mean, slopes = _radius_mean(energies, used, rows)
    # The mean anchors are estimated from the same draws, so each draw also acts through them (delta method).
    through_b, through_c, through_mean = anchors.through_centres(
        *(centre_slope(energies, *on) for on in ((each, 0 * each), (0 * each, each), slopes))
    )
    on_b, on_c = on_mean(b, used) + through_b, on_mean(c, used) + through_c
    on_p2 = norms2 - mean_p2
    radius, moves = _radius(mean_b, mean_c)
    rest = mean_b - mean_c
    on_radius = (on_c * mean_b - on_b * mean_c) / rest.square() / (2 * radius) if moves else torch.full_like(b, nan)
    utility = mean_c / mean_p2
    influence = {
        "dimension": on_b / n_manifolds, "radius": on_radius, "radius_mean": on_radius_mean + through_mean,
        "utility": (on_c - utility * on_p2) / mean_p2,
    }  # fmt: skip
    values = float(mean_b) / n_manifolds, radius, radius_mean, float(utility)
    errors = stderr(torch.stack([*influence.values()], 1), strata).tolist()
    return Glue(*[number for pair in zip(values, errors, strict=True) for number in pair]), influence


def glue_values(anchors: Anchors, norms2: Float[Tensor, "draws"]) -> Glue:
    """The numbers of `glue_geometry` without their errors (NaN)."""
    nan = float("nan")
    if not bool(anchors.used.any()):
        return Glue(*[nan] * 8)
    energies = axis_energies(anchors)
    b, c = energies.b.mean(), energies.c.mean()
    ratio, defined = _ratios(energies)
    mean = float(ratio[defined].mean()) if bool(defined.any()) else nan
    dimension = float(b) / len(anchors.centers)
    return Glue(dimension, nan, _radius(b, c)[0], nan, mean, nan, float(c / norms2.mean()), nan)


def _radius(b: Tensor, c: Tensor) -> tuple[float, bool]:
    """R, and whether it is defined: R^2 = C / (B - C), and without axes that move, B = C."""
    moves = bool(b - c > 0)
    return (float((c / (b - c)).sqrt()) if moves else float("nan")), moves


def _ratios(energies: Energies) -> tuple[Tensor, Tensor]:
    """sqrt(c / (b - c)) of every draw, 0 where no anchor moves; and in which draws one does."""
    rest = energies.b - energies.c
    defined = rest > NO_AXIS * energies.b
    safe = torch.where(defined, rest, 1.0)
    return torch.where(defined, (energies.c / safe).clamp_min(0.0).sqrt(), 0.0), defined


def _radius_mean(energies: Energies, used: Tensor, rows: Tensor) -> tuple[float, Tensor, tuple[Tensor, Tensor]]:
    """E sqrt(c / (b - c)) over the draws in which an anchor moves, the influence of every draw on it.

    And how it moves with every b and c.
    """
    b, c = energies.b, energies.c
    each, defined = _ratios(energies)
    if not bool(defined.any()):
        return float("nan"), torch.full((len(used),), float("nan"), dtype=WORKING), (0 * b, 0 * c)
    safe = torch.where(defined, b - c, 1.0)
    value = torch.zeros(len(used), dtype=WORKING).index_copy(0, rows, each)
    everywhere = torch.zeros(len(used), dtype=torch.bool).index_copy(0, rows, defined)
    # d sqrt(c/(b-c)) = (b dc - c db) / (2 sqrt(c) (b-c)^(3/2)); no slope where c = 0, which is the smallest it can be.
    scale = torch.where(defined & (each > 0), 1 / (2 * torch.where(each > 0, each, 1.0) * safe.square()), 0.0)
    scale = scale / defined.sum()
    return float(each[defined].mean()), on_mean(value, everywhere), (-c * scale, b * scale)
