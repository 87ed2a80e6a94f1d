"""Common random numbers: differences of capacity between layers, checkpoints and models, with small errors.

Two capacities estimated from the same (t, y) err together, so their difference errs less than either. The labels y are
common whenever seed and number of classes are. The directions t are not so easily shared: equal coordinates of two
layers mean the same thing only if the layers have the same units, and layers of different width have none in common.
What layers do share is their samples. With unit points X = U S V' (k, N), singular vectors U of the samples, and white
noise z over the samples,

    t = V U' z + (1 - V V') w,    z ~ N(0, I_k), w ~ N(0, I_N)

is standard normal in R^N for every X, and X t = U S U' z: two layers see the same noise through the square roots of
their own Gram matrices. It does not depend on the coordinates at all: rotating a layer rotates t with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.display import BaseResult, quantity_columns
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.geometry.manifolds.cones.distant_points import brought_near
from geomfeat.geometry.manifolds.per_pair import ALIGNMENTS
from geomfeat.geometry.manifolds.point_clouds import as_manifolds
from geomfeat.geometry.manifolds.random_directions import labels_for
from geomfeat.geometry.manifolds.resampling.data_errors import Resampled, variance_of
from geomfeat.geometry.manifolds.result import Capacity, in_words
from geomfeat.numerics import WORKING, stream
from geomfeat.statistics.influence_functions import stderr

# Below this share of the largest singular value, z X V / S loses digits (1e-12 of them at the cut): w stands in.
SHARED_CUT = 1e-4
GEOMETRY = ("dimension", "radius", "utility", *ALIGNMENTS)


@dataclass(frozen=True, repr=False)
class CapacityDifference(BaseResult):
    """Capacity of b minus that of a, from the same draws.

    Attributes:
        difference: alpha_b - alpha_a. log_difference: log(alpha_b / alpha_a).
        inverse_difference: 1/alpha_b - 1/alpha_a.
        dimension, radius, utility, center_alignment, axis_alignment, center_axis_alignment: that of b minus that of a.
        *_se: standard error over what `errors_over` says; the draws, which are common, are paired. *_se_unpaired: what
            independent draws and samples would have given.
        correlation: of |p|^2 over the draws. n_draws: pairs of draws used.
        gain: ratio of the squared errors of log_difference over the draws, unpaired to paired: how many times as many
            independent draws would be needed for the same error; below 1 if pairing made it worse.
        notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each number: quantity, value, stderr, stderr of independent draws (unpaired).
    """

    difference: float
    difference_se: float
    difference_se_unpaired: float
    log_difference: float
    log_difference_se: float
    log_difference_se_unpaired: float
    inverse_difference: float
    inverse_difference_se: float
    inverse_difference_se_unpaired: float
    correlation: float
    gain: float
    n_draws: int
    notes: tuple[str, ...] = ()
    errors_over: str = "draws"
    dimension: float = math.nan
    dimension_se: float = math.nan
    dimension_se_unpaired: float = math.nan
    radius: float = math.nan
    radius_se: float = math.nan
    radius_se_unpaired: float = math.nan
    utility: float = math.nan
    utility_se: float = math.nan
    utility_se_unpaired: float = math.nan
    center_alignment: float = math.nan
    center_alignment_se: float = math.nan
    center_alignment_se_unpaired: float = math.nan
    axis_alignment: float = math.nan
    axis_alignment_se: float = math.nan
    axis_alignment_se_unpaired: float = math.nan
    center_axis_alignment: float = math.nan
    center_axis_alignment_se: float = math.nan
    center_axis_alignment_se_unpaired: float = math.nan

    def __str__(self) -> str:
        rows = [
            f"  {name:22}{getattr(self, name):10.3g} +- {getattr(self, name + '_se'):.2g} "
            f"({getattr(self, name + '_se_unpaired'):.2g} unpaired)"
            for name in ("difference", "log_difference", "inverse_difference", *GEOMETRY)
            if math.isfinite(getattr(self, name))
        ]
        head = f"Capacity of b minus a, {self.n_draws} common draws, correlation {self.correlation:.2f}"
        head += f"; +- one standard error over {self.errors_over}"
        return "\n".join([head, *rows, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _columns(self) -> dict[str, Any]:
        return quantity_columns(self, "unpaired")


def common_draws(
    points: Any, labels: Any = None, *, n_draws: int = 200, dichotomies: Any = "random", seed: int = 0
) -> tuple[Float[Tensor, "draws N"], Float[Tensor, "draws P"]]:
    """Draws (t, y) for `capacity(..., draws=)` that representations of the same samples share, whatever their widths.

    Args:
        points, labels: as for `capacity`, the samples in the same order in every representation to be compared.
        n_draws, dichotomies, seed: as for `capacity`; equal ones in every representation.

    Returns t, standard normal for any points, and y. A rotation of the points, or another positive length of any,
    leaves every draw's result as it is; another order of the samples does not (only their law).

    Raises BadInput for points, labels or options that do not fit.

    >>> x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> t, y = common_draws(x, torch.arange(12) // 4, n_draws=3)
    >>> t.shape, y.shape
    (torch.Size([3, 5]), torch.Size([3, 3]))
    """
    if int(n_draws) != n_draws or n_draws < 2:
        raise BadInput(f"n_draws={n_draws}: give a whole number of at least 2 (200 is usual)")
    manifolds = as_manifolds(points, labels)
    n, n_manifolds = int(n_draws), manifolds.n_manifolds
    y, _ = labels_for(dichotomies, n, n_manifolds, seed)
    z = torch.randn(n, len(manifolds.x), generator=stream(seed, "capacity", "samples"), dtype=WORKING)
    # Directions are standard normal for any points; these points also distinguish the samples.
    t = directions_of_samples(brought_near(manifolds.rescaled())[0].x, z.to(manifolds.x.device), seed)
    return t, y.to(t.device)


def directions_of_samples(
    x: Float[Tensor, "k N"], z: Float[Tensor, "draws k"], seed: int = 0
) -> Float[Tensor, "draws N"]:
    """Standard normal directions t = V U' z + (1 - V V') w of the points x = U S V', scaled to unit length first."""
    largest = x.abs().amax(1, keepdim=True)
    x = torch.where(largest > 0, x / largest.clamp_min(torch.finfo(WORKING).tiny), 0.0)
    x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1.0)
    w = torch.randn(len(z), x.shape[1], generator=stream(seed, "capacity", "complement"), dtype=WORKING).to(x.device)
    wide = x.shape[1] > x.shape[0]  # then the triangle has the singular vectors U of x, and V' = U' x / S
    triangle = torch.linalg.qr(x.T if wide else x, mode="r")[1]
    _, s, vh = torch.linalg.svd(triangle, full_matrices=False)
    kept = s > SHARED_CUT * s[0]
    s, vh = s[kept], vh[kept]
    vh = vh @ x / s[:, None] if wide else vh
    inner = (z @ x) @ vh.T / s
    return w + (inner - w @ vh.T) @ vh


def capacity_difference(a: Capacity, b: Capacity, *, same_samples: bool | None = None) -> CapacityDifference:
    """How much larger the capacity and geometry of b are than those of a, with errors over draws and data.

    Args:
        a, b: give both the same `seed`, `n_draws` and `dichotomies`, best through `common_draws` (as
            `capacity_by_layer` does), which also shares t between layers of any widths. `capacity` by itself shares t
            in the coordinates of the units, for equal widths, and y alone otherwise.
        same_samples: whether both are of the same trials in the same order, as two layers of a network or two areas
            recorded together: what a group of trials does to both is then paired. If not (two sessions), errors over
            data add up. None: as `capacity_by_layer` knows, else False, which gives the larger error of the two.

    Errors over the draws are by the delta method, those over data by the jackknife (`Capacity.resampled`); errors over
    units always add up.

    Where one of them is at the floor (`Capacity.at_floor`) every number is NaN, with a note.

    Raises BadInput for other numbers of draws or classes, other dichotomies or seeds.

    >>> from geomfeat.geometry.manifolds import capacity
    >>> x = torch.randn(5, 8, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> found = capacity_difference(capacity(x, n_draws=60), capacity(x + 0.5, n_draws=60), same_samples=True)
    >>> found.difference_se < found.difference_se_unpaired, found.errors_over
    (True, 'draws and 40 trials')
    """
    notes = _comparable(a, b)
    used = a.certified.cpu() & b.certified.cpu()
    n_manifolds = len(a.classes)
    why = _incomparable(a, b, int(used.sum()))
    if why:
        return CapacityDifference(*[math.nan] * 11, n_draws=int(used.sum()), notes=(*notes, why))
    # Both on the CPU: layers may have been computed on different devices.
    p2 = torch.stack([c.norms2.detach().cpu().to(WORKING)[used] for c in (a, b)])
    mean = p2.mean(1, keepdim=True)
    alpha = n_manifolds / mean
    on_log = 1 - p2 / mean  # influence of every draw on log alpha
    shared = None if a.strata is None or b.strata is None else a.strata.cpu()
    among = None if shared is None else shared[used]
    paired = (a.through_samples and b.through_samples) if same_samples is None else same_samples
    over, said, gaps = _over_data(a, b, paired)
    log_draws = _errors(on_log, among)
    errors = {
        "difference": _joint(_errors(alpha * on_log, among), over("capacity")),
        "log": _joint(log_draws, over("capacity", torch.log)),
        "inverse": _joint(_errors(p2 / n_manifolds, among), over("capacity", torch.reciprocal)),
    }
    geometry = {}
    for name in GEOMETRY:
        on = torch.stack([c.influences[name].detach().cpu() for c in (a, b)])
        geometry[name] = getattr(b, name) - getattr(a, name)
        found = _joint(_errors(on, shared), over(name))
        geometry |= dict(zip((f"{name}_se", f"{name}_se_unpaired"), found, strict=True))
    return CapacityDifference(
        float(alpha[1] - alpha[0]), *errors["difference"],
        float(alpha[1].log() - alpha[0].log()), *errors["log"],
        float(mean[1] - mean[0]) / n_manifolds, *errors["inverse"],
        correlation=_correlation(p2),
        gain=(log_draws[1] / log_draws[0]) ** 2 if log_draws[0] > 0 else math.inf,
        n_draws=p2.shape[1], notes=(*notes, *gaps), errors_over=said, **geometry,
    )  # fmt: skip


def _over_data(
    a: Capacity, b: Capacity, same_samples: bool
) -> tuple[Callable[..., tuple[float, float]], str, tuple[str, ...]]:
    """Variance over data of the difference of a number, or a function of it: paired where it is, and unpaired.

    With what it is over in words, and a note where that is so of one side only.
    """
    parts = {
        source: tuple(next((one for one in c.resampled if one.source == source), None) for c in (a, b))
        for source in dict.fromkeys(one.source for c in (a, b) for one in c.resampled)
    }
    both = [(one, other) for one, other in parts.values() if one and other]

    def variance(name: str, of: Callable[[Tensor], Tensor] = lambda value: value) -> tuple[float, float]:
        together = apart = 0.0
        for one, other in both:
            plain = one.variance(name, of) + other.variance(name, of)
            apart += plain
            together += _paired(one, other, name, of) if same_samples and _same_parts(one, other) else plain
        return together, apart

    said = in_words([one.said if one.said == other.said else f"{one.said} and {other.said}" for one, other in both])
    lone = [source for source, (one, other) in parts.items() if not (one and other)]
    return variance, said, tuple(f"errors over {source} are known of one side only, and left out" for source in lone)


def _same_parts(one: Resampled, other: Resampled) -> bool:
    return one.source != "units" and one.said == other.said and torch.equal(one.sizes, other.sizes)


def _paired(one: Resampled, other: Resampled, name: str, of: Callable[[Tensor], Tensor]) -> float:
    return variance_of(of(other.values[name]) - of(one.values[name]), one.sizes)


def _joint(over_draws: tuple[float, float], variances: tuple[float, float]) -> tuple[float, float]:
    """Errors over draws and data in quadrature: paired and unpaired."""
    paired, unpaired = (math.sqrt(e**2 + v) for e, v in zip(over_draws, variances, strict=True))
    return paired, unpaired


def _comparable(a: Capacity, b: Capacity) -> tuple[str, ...]:
    """What limits the comparison; BadInput where there is none to make."""
    known = {
        "n_draws": (len(a.norms2), len(b.norms2)),
        "dichotomies": (a.dichotomies, b.dichotomies),
        "number of classes": (len(a.classes), len(b.classes)),
        "seed": (a.seed, b.seed),
    }
    for name, (one, other) in known.items():
        if one != other:
            raise BadInput(
                f"{name} is {one} in a and {other} in b: nothing is common to their draws. Give both the same "
                "classes, n_draws, dichotomies and seed"
            )
    notes = []
    if a.center != b.center:
        notes.append(f"a has center={a.center!r}, b center={b.center!r}: the difference includes that of centring")
    shared = a.through_samples and b.through_samples
    if a.through_samples != b.through_samples:
        notes.append("one of a, b has the draws of capacity_by_layer, the other capacity's own: t is not common")
    elif a.n_features != b.n_features and a.dichotomies != "given" and not shared:
        notes.append(
            f"widths {a.n_features} and {b.n_features}: the draws of capacity() itself have the labels y in common, "
            "not t; draws=common_draws(...) shares both"
        )
    if sorted(a.sizes) != sorted(b.sizes):
        notes.append(
            f"{_points(a)} and {_points(b)} points a class: capacity falls, and radius and dimension grow, with the "
            "number of points; matched_capacities() compares equal numbers"
        )
    if a.dichotomies == "given":
        notes.append("given draws or dichotomies: they are assumed to be the same in a and b")
    return tuple(notes)


def _points(of: Capacity) -> str:
    low, high = min(of.sizes, default=0), max(of.sizes, default=0)
    return str(low) if low == high else f"{low} to {high}"


def _incomparable(a: Capacity, b: Capacity, n_used: int) -> str:
    """Why there is no difference of these two; empty if there is."""
    if n_used < 2 or not (a.capacity > 0 and b.capacity > 0):
        return "fewer than two draws are certified in both, or a capacity is undefined: no difference"
    low = [f"{name} ({c.capacity_floor:.3g})" for name, c in (("a", a), ("b", b)) if c.at_floor]
    if low:
        return f"{AT_FLOOR} in {' and '.join(low)}, where a capacity says nothing of separability: no difference"
    return ""


def _errors(influence: Tensor, strata: Tensor | None) -> tuple[float, float]:
    """Standard error of the difference of two means over the draws: paired, and as if the draws were independent."""
    return float(stderr(influence[1] - influence[0], strata)), float(stderr(influence.T, strata).square().sum().sqrt())


def _correlation(p2: Tensor) -> float:
    moved = p2 - p2.mean(1, keepdim=True)
    size = torch.linalg.vector_norm(moved, dim=1)
    return float((moved[0] @ moved[1]) / (size[0] * size[1])) if bool((size > 0).all()) else math.nan
