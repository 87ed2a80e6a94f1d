"""Correlation integral and dimension (Grassberger & Procaccia 1983).

C(r) is the share of the pairs of points that are no further apart than r; where C(r) ~ r^d, d is the correlation
dimension, the slope of log C against log r between two stated radii. Pairs are counted exactly: products in single
precision only say which pairs are surely outside (candidates.py has the bound), the others are measured.

C is a U-statistic of pairs, so that leaving out a point changes the number of pairs by those that it is in. The
jackknife over points therefore needs only the counts of every point, and knows that pairs share points.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._nearest_neighbours import unit_scale
from geomfeat.geometry.dimension._neighbour_candidates import SHARE_ROWS, SHARE_TILES, padded, rounding, tiles_of
from geomfeat.geometry.dimension._two_nn import IntrinsicDimension
from geomfeat.geometry.dimension._valid_neighbours import MIN_POINTS, Apart, neighbours_apart, require_possible
from geomfeat.statistics.distinct_points import distinct_points, known_points
from geomfeat.types import Points, as_layer

# A radius is often the distance of a pair, which must not fall out of it by rounding of float64 sums. Those that
# are equal in the precision of the points are counted by `Apart.tied`.
ON_THE_EDGE = 1e-9
# Share of tied distances at a radius above which the dimension is off by more than some 10 %.
HALF_TIED = 0.5


@dataclass(frozen=True)
class CorrelationIntegral(PlottableResult):
    """radius, share (C of it), stderr: one entry a radius.

    slope, slope_stderr: dimension between each radius and the next.

    `to_frame()`: one row for each radius: radius, share, stderr.
    """

    radius: tuple[float, ...]
    share: tuple[float, ...]
    stderr: tuple[float, ...]
    slope: tuple[float, ...]
    slope_stderr: tuple[float, ...]

    _rows = ("radius", "share", "stderr")

    def _chart(self) -> Plot:
        values = self.radius, self.share, self.stderr
        return line_chart("correlation integral", "radius", "share of pairs", *values, log_x=True, log_y=True)


def correlation_integral(x: Points, radii: list[float] | tuple[float, ...]) -> CorrelationIntegral:
    """Share of pairs of points within each radius, and the slopes of its logarithm between neighbouring radii.

    Copies of a point are left out first. A slope is NaN where no pair lies within the lower radius.

    Raises BadInput unless the radii are positive and ascending, or with fewer than 10 different points.

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.8 < correlation_integral(x, [0.02, 0.1]).slope[0] < 2.2
    True
    """
    layer = as_layer(x)
    if not radii or not all(a < b for a, b in zip((0.0, *radii), radii, strict=False)):
        raise BadInput(f"radii={list(radii)}: give positive numbers, ascending")
    points = known_points(layer)
    rows = distinct_points(points.x)
    if len(rows) < MIN_POINTS:
        raise BadInput(
            f"{len(rows)} different of {layer.n} points: a correlation integral needs at least {MIN_POINTS}, "
            "give more samples"
        )
    points = points if len(rows) == layer.n else points.take(rows)
    same = float(points.rounding.max())
    if 0 < same < radii[0]:
        count = pairs_within(points.x, [same, *radii])
        if not bool(count[:, 0].any()):
            return _integral(count[:, 1:], radii)
    points = neighbours_apart(layer, 1, "a correlation integral").points
    return _integral(pairs_within(points.x, radii), radii)


def correlation_dimension(x: Points, k: tuple[int, int] = (10, 20)) -> IntrinsicDimension:
    """Correlation dimension between two radii: the median distances to the k[0]-th and the k[1]-th neighbour.

    Copies of a point are left out first; `scale` is the larger radius.

    Raises BadInput unless 1 <= k[0] < k[1], with no more than k[1] (or fewer than 10) different points, or if the two
    radii are equal or fall on many equal distances (a lattice, whole numbers or rounded values), or for a dimension far
    above the number of features (nearly a lattice).

    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> 1.8 < correlation_dimension(x).value < 2.2
    True
    """
    if not 1 <= k[0] < k[1]:
        raise BadInput(f"k={k}: neighbours are counted from 1, and the second must be the further one")
    return correlation_of(neighbours_apart(x, k[1], "the correlation dimension"), *k)


def correlation_of(apart: Apart, near: int, far: int) -> IntrinsicDimension:
    """The same from neighbours that are known."""
    radii = [float(np.median(apart.near.distance[:, q - 1].cpu().numpy())) for q in (near, far)]
    if not radii[1] > radii[0] * (1 + 2 * ON_THE_EDGE) > 0:
        raise BadInput(
            f"neighbours {near} and {far} have one median distance, {radii[0]:.6g} (a lattice, or rounded values): "
            "the correlation dimension is not defined; use neighbours further apart, or features before rounding"
        )
    # Pairs at just a radius would count wholly as within it.
    tied = max(apart.tied(q - 1, q) for q in (near, far) if q > 1)
    nearly = max(apart.nearly_tied(q - 1, q) for q in (near, far) if q > 1)
    if max(tied, nearly) > HALF_TIED:
        raise BadInput(
            f"{100 * max(tied, nearly):.0f} % of the points have neighbours before and at a radius at one distance"
            f"{'' if tied > HALF_TIED else ', or nearly'}: tied, as whole numbers and rounded values are, also with a "
            "little noise; the correlation dimension is not defined. Use features before rounding"
        )
    found = _integral(pairs_within(apart.points.x, radii), radii)
    n = len(apart.rows)
    require_possible(found.slope[0], found.slope_stderr[0], apart, "the correlation dimension")
    return IntrinsicDimension(
        found.slope[0], found.slope_stderr[0], n, apart.n_copies, "correlation", (near, far), radii[1], tied
    )


def pairs_within(x: Float[Tensor, "n d"], radii: list[float] | tuple[float, ...]) -> Int[Tensor, "n r"]:
    """How many other points lie within each radius (ascending) of every point.

    >>> pairs_within(torch.tensor([[0.0], [1.0], [3.0]]), [1.0, 2.5]).tolist()
    [[1, 1], [1, 2], [0, 1]]
    """
    work, unit = unit_scale(x)
    # Entries are at most 1, so that no pair is further apart than 2 sqrt(d).
    limits = (torch.tensor(radii, dtype=work.dtype) / unit).clamp(max=2 * work.shape[1] ** 0.5) * (1 + ON_THE_EDGE)
    if work.device.type == "cpu":
        return torch.from_numpy(_count(work.numpy(), limits.square().numpy()))
    limits = limits.to(work.device)
    n, d = work.shape
    size = max(1, 2**24 // (n * d))
    parts = []
    for start in range(0, n, size):
        distance = torch.cdist(work[start : start + size], work, compute_mode="donot_use_mm_for_euclid_dist")
        parts.append((distance[:, :, None] <= limits).sum(1) - 1)
    return torch.cat(parts)


def _count(x: np.ndarray, squares: np.ndarray) -> np.ndarray:
    from geomfeat._numba.neighbours import WIDTH, products
    from geomfeat._numba.radius_counts import count_within
    from geomfeat._numba.threads import in_threads

    n, d = x.shape
    radius = float(np.sqrt(squares[-1]))

    def floors(dtype: type) -> np.ndarray:
        norm = np.sqrt(2 * half)
        edge = radius + np.finfo(np.float64).eps * np.sqrt(d)
        return half - 0.5 * edge**2 - rounding(d, np.dtype(dtype), norm, radius)

    p = padded(x, np.float32)
    half = p.exact_half
    # Where the radius is within the rounding of single precision, the quick test excludes no pair.
    if np.median(half - 0.5 * squares[-1] - floors(np.float32)) > 0.25 * squares[-1]:
        p = padded(x, np.float64)
    # Rounded down in that precision.
    floor = np.nextafter(floors(p.x.dtype.type).astype(p.x.dtype), -np.inf, dtype=p.x.dtype)
    count = np.zeros((n, len(squares)), np.int64)
    rows, buffer = tiles_of(p)
    n_tiles = -(-n // WIDTH)
    for start in range(0, n, rows):
        own = np.arange(start, min(n, start + rows))
        left = p.x[start : start + len(own)]
        tiles = buffer[: n_tiles * len(own) * WIDTH].reshape(n_tiles, len(own), WIDTH)
        limit = floor[own]
        in_threads(lambda i, j, a=left, t=tiles: products(a, p.x, 0, t, i, j), n_tiles, SHARE_TILES)
        in_threads(
            lambda i, j, t=tiles, o=own, f=limit: count_within(t, p.half, x, o, f, squares, count, i, j),
            len(own), SHARE_ROWS,
        )  # fmt: skip
    return count


def _integral(count: Int[Tensor, "n r"], radii: list[float] | tuple[float, ...]) -> CorrelationIntegral:
    n = len(count)
    total = count.sum(0).double() / 2
    share = total / (n * (n - 1) / 2)
    # Without point i, all pairs that it belongs to are missing.
    without = (total - count) / ((n - 1) * (n - 2) / 2)
    step = torch.log(torch.tensor(radii, dtype=torch.float64, device=count.device)).diff()
    slope, slopes = torch.log(share).diff() / step, torch.log(without).diff(dim=1) / step
    slope = torch.where(share[:-1] > 0, slope, torch.nan)
    return CorrelationIntegral(
        tuple(map(float, radii)), tuple(share.tolist()), tuple(_jackknife(without)), tuple(slope.tolist()),
        tuple(_jackknife(slopes)),
    )  # fmt: skip


def _jackknife(without: Float[Tensor, "n r"]) -> list[float]:
    n = len(without)
    return ((n - 1) / n * (without - without.mean(0)).square().sum(0)).sqrt().tolist()
