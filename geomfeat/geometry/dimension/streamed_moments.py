"""What follows from the counts, sums and scatter of the classes of a layer: spectrum, linear dimensions, NC1.

Eigenvalues are those of the scatter: known to about 1e-15 of the largest one, where the squared singular values of the
samples would be known to that share of themselves. Smaller ones are left out as rounding, beside what is rounding of
the precision that the samples came in (see `Spread`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.geometry.dimension.eigenspectrum import EQUAL_SHARES, wishart_ratio
from geomfeat.geometry.dimension.leave_out_spectra import NoVariance
from geomfeat.numerics import WORKING
from geomfeat.precision import is_constant, roundings


@dataclass(frozen=True, eq=False)
class StreamedMoments(BaseResult):
    """What the first two moments of a layer give, by class where there are classes.

    Attributes:
        n: samples. counts: (C,) of them in each class; class_means: (C, d), NaN for a class without samples. Without
            classes C is 1.
        mean: (d,). eigenvalues: of the covariance (1/n), descending, those at rounding level left out.
        participation_ratio, participation_ratio_wishart, effective_rank, stable_rank: as the functions of these names.
        nc1: as `nc1`; NaN where it is not known, which `note` explains.
    """

    _rows = ("counts",)

    n: int
    counts: Tensor
    class_means: Tensor
    mean: Tensor
    eigenvalues: Tensor
    participation_ratio: float
    participation_ratio_wishart: float
    effective_rank: float
    stable_rank: float
    nc1: float
    note: str = ""


def moments_of(
    counts: Tensor, totals: Tensor, scatter: Tensor, point: Tensor, precision: torch.dtype
) -> StreamedMoments:
    """The numbers of samples that came in a precision.

    Args:
        counts: (C,) samples of each class; totals: (C, d) their sums; scatter: (C, d, d) their sums of products, or
            (1, d, d) of all classes together; all of features less `point` (d,).

    Raises NoVariance where all samples coincide, up to rounding.
    """
    n, total = int(counts.sum()), totals.sum(0)
    whole = scatter.sum(0) - torch.outer(total, total) / n
    spread, mean = (whole.diagonal().clamp_min(0) / n).sqrt(), point + total / n
    size = torch.hypot(spread, mean)
    constant = is_constant(spread, size, precision)
    of_spread, of_size = roundings(precision)
    noise = torch.where(constant, 0, of_spread * spread + of_size * size)
    of_entry, of_point = float(noise.max()), float(torch.linalg.vector_norm(noise))
    if not of_entry:
        raise NoVariance(f"all {n} samples coincide (up to rounding): the layer is constant on these inputs")
    varies = (~constant).to(WORKING)
    whole = whole * torch.outer(varies, varies)
    trace, square, d = float(whole.diagonal().sum()), float(whole.square().sum()), len(point)
    eps = torch.finfo(WORKING).eps
    of_directions = max(of_entry * n**0.5 + of_point, max(n, d) * eps * trace**0.5)
    values = torch.linalg.eigvalsh(whole).flip(0)
    values = values[values > max(of_directions**2, d * eps * trace)]
    if not len(values):
        raise NoVariance("every direction of the samples may be rounding: take the mean off before they are rounded")
    share = values / values.sum()
    own = max(n, d) * eps * (trace / n) ** 0.5
    collapse, note = _nc1(counts, totals * varies, scatter * torch.outer(varies, varies), of_entry, of_point, own)
    off = max(EQUAL_SHARES, 4 * of_entry / trace**0.5) * square
    return StreamedMoments(
        n, counts, point + totals / counts[:, None], mean, values / n, trace**2 / square,
        wishart_ratio(n, trace, square, off), float(torch.exp(-(share * share.log()).sum())),
        float(values.sum() / values[0]), collapse, note,
    )  # fmt: skip


def _nc1(
    counts: Tensor, totals: Tensor, scatter: Tensor, of_entry: float, of_point: float, own: float
) -> tuple[float, str]:
    """NC1 and a note, as `geomfeat.geometry.nc1` defines it, with every class at equal weight."""
    here = counts > 0
    many = counts[here].to(WORKING)
    c, means = len(many), totals[here] / many[:, None]
    if c < 2:
        return float("nan"), "NC1 needs at least 2 classes" if len(counts) > 1 else ""
    if int(many.max()) < 2:
        return float("nan"), "NC1: every class has a single sample, so the scatter within classes is zero"
    pooled = len(scatter) < len(counts)
    if pooled and bool((many != many[0]).any()):
        return float("nan"), "NC1 of classes of unequal size needs the scatter of each: raise memory="
    between = (means - means.mean(0)) / c**0.5
    _, sigma, directions = torch.linalg.svd(between, full_matrices=False)
    kept = sigma > max(of_entry + of_point / c**0.5, own)
    if not bool(kept.any()):
        return float("nan"), "NC1: all class means coincide, so it is infinite"
    onto = directions[kept] / sigma[kept, None]
    # Within its class, by class or (of equal sizes) in sum: sum y y' - n m m', seen along the directions between.
    own_weight = 1 / many if not pooled else 1 / many[:1]
    parts = scatter if pooled else scatter[here]
    squares = torch.einsum("kd,cde,ke->c", onto, parts, onto)
    off_center = (means @ onto.T).square().sum(1) * many
    within = squares - (off_center.sum() if pooled else off_center)
    single = int((many == 1).sum())
    note = f"{single} classes have a single sample, which adds no scatter within: NC1 is low" if single else ""
    return float((within.clamp_min(0) * own_weight).sum()) / c**2, note
