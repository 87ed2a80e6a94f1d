"""How many classes per dimension a linear read-out can separate, the geometry that decides it, and its control."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite

from geomfeat import geometry
from geomfeat.geometry.manifolds.capacity_floor import without_floor
from geomfeat.geometry.manifolds.resampling.left_out import left_out_of
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.group_errors import errors_over_draws, keep
from geomfeat.statistics.subsamples import takes_at_most
from geomfeat.types import Estimate, Representation

QUANTITIES = {
    "capacity": Quantity((0, inf), "classes per dimension", "higher = classes easier to separate linearly"),
    "capacity_floor": Quantity((0, inf), "classes per dimension", "value for points without structure: P / rank"),
    "capacity_faces": Quantity((0, inf), "classes per dimension", "the same number from face counts, with less error"),
    "dimension": Quantity((0, inf), "dimensions", "lower = easier to separate"),
    "radius": Quantity((0, inf), "centre norms", "lower = easier to separate"),
    "radius_mean": Quantity((0, inf), "centre norms", "the mean over draws; radius is the ratio of means"),
    "utility": Quantity((0, inf), "", "share of the capacity that dimension and radius account for"),
    "center_alignment": Quantity((0, 1), "|cos|", "compare with alignment_floor"),
    "axis_alignment": Quantity((0, 1), "|cos|", "compare with alignment_floor"),
    "center_axis_alignment": Quantity((0, 1), "|cos|", "compare with alignment_floor"),
    "alignment_floor": Quantity((0, 1), "|cos|", "value for random directions of this layer's width"),
    "frac_inside": Quantity((0, 1), "share of draws", "t lies inside its cone: near 1, classes are not separable"),
    "frac_nonseparable": Quantity((0, 1), "share of dichotomies", "no hyperplane through the origin separates them"),
    "simulated_capacity": Quantity((0, inf), "classes per dimension", "predicted, not simulated"),
}
# Samples of a class beyond which some are drawn: time grows with their number, and capacity falls with it.
PER_CLASS = 200
# Numbers that give the floor and whether it is reached; they are valid at the floor too.
OF_THE_FLOOR = ("capacity_floor", "alignment_floor", "frac_inside", "frac_nonseparable")
OF_THE_CONTROL = {
    "capacity": Quantity((0, inf), "classes per dimension", "value for shuffled labels; true classes lie above"),
    "dimension": Quantity((0, inf), "dimensions", "value for shuffled labels"),
    "radius": Quantity((0, inf), "centre norms", "value for shuffled labels"),
    "center_alignment": Quantity((0, 1), "|cos|", "value for shuffled labels: a floor for this layer"),
    "axis_alignment": Quantity((0, 1), "|cos|", "value for shuffled labels: a floor for this layer"),
    "center_axis_alignment": Quantity((0, 1), "|cos|", "value for shuffled labels: a floor for this layer"),
}
OF_THE_NOISE = {
    name: Quantity(one.bounds, one.unit, one.direction.replace("for shuffled labels", "for noise alone"))
    for name, one in OF_THE_CONTROL.items()
}
FILLED = (
    "classes of the control fill the layer: every random direction lies inside its cone; use more units or fewer "
    "samples"
)
TOO_FEW = "too few classes of a control with moving anchors in the same draws: raise n_draws, or give more units"
NO_RADIUS = "no anchor moves (single points, or classes with one supporting point): the radius is undefined"
NO_CAPACITY = "no draw met any class (p = 0 in all): raise n_draws"
UNDEFINED = {
    "radius": NO_RADIUS,
    "radius_mean": NO_RADIUS,
    "dimension": "the classes fill the layer: every random direction lies inside its cone; use more units or fewer "
    "samples",
    "frac_nonseparable": "separability could not be certified for any dichotomy",
    "capacity": NO_CAPACITY,
    "capacity_faces": NO_CAPACITY,
}


@measure(
    source="Chou, Le, Wang and Chung 2025 (arXiv 2503.18114); prediction: Amelunxen et al. 2014, eq. 5.10",
    quantities=QUANTITIES,
    invariant_to={"scale", "sample order", "duplication"},
    needs={"labels"},
    stochastic=True,
)
@takes_at_most(per_class=PER_CLASS)
def capacity(
    rep: Representation,
    *,
    n_draws: int = 200,
    dichotomies: str = "random",
    center: str | None = None,
    resample: str | tuple[str, ...] | None = "auto",
    seed: int = 0,
) -> dict[str, Estimate]:
    """Manifold capacity of the classes with dimension, radius, utility and alignments (GLUE).

    dichotomies: "random", "one-vs-rest" or "balanced"; center: None or "global"; resample: what errors are over besides
    the draws, as for `geometry.capacity`, but by default groups only, where there are any: leaving out samples takes
    ten times as long, and studies measure many layers. The notes say which. Where hardly any dichotomy leaves room
    (frac_inside near 1) the note begins with "at the floor": such numbers are left out of rankings. A rotation of the
    layer changes the numbers within their errors only, since the random directions are drawn in the layer's own
    coordinates. Capacity falls with the number of samples of a class: compare at equal numbers.

    >>> import torch
    >>> x, labels = torch.eye(12), torch.arange(12) // 3                 # 4 simplices of 3 orthonormal points: 2/3
    >>> c = capacity(Representation(x, labels))["capacity"]
    >>> abs(c.value - 2 / 3) < 4 * c.stderr
    True
    """
    over = None if resample == "auto" and rep.groups is None else resample
    found = geometry.capacity(rep, n_draws=n_draws, dichotomies=dichotomies, center=center, resample=over, seed=seed)
    keep(left_out_of(found))
    return estimates(found)


@measure(
    source="Chou, Le, Wang and Chung 2025 (arXiv 2503.18114), with labels permuted over the points",
    quantities=OF_THE_CONTROL,
    invariant_to={"duplication", "scale"},
    needs={"labels"},
    stochastic=True,
    by_default=False,
)
@takes_at_most(per_class=PER_CLASS)
def capacity_shuffled(
    rep: Representation,
    *,
    n_draws: int = 50,
    dichotomies: str = "random",
    center: str | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Capacity, dimension, radius and alignments after the labels were shuffled over the points (a control).

    Directions, signs and samples are the first of those that `capacity` uses. A quarter of its draws is enough for a
    floor.

    >>> import torch
    >>> x, labels = torch.eye(12), torch.arange(12) // 3     # any 4 classes of 3 orthonormal points: 2/3
    >>> c = capacity_shuffled(Representation(x, labels), n_draws=400)["capacity"]
    >>> abs(c.value - 2 / 3) < 4 * c.stderr
    True
    """
    found = geometry.shuffled_control(rep, n_draws=n_draws, dichotomies=dichotomies, center=center, seed=seed)
    return _control(found, OF_THE_CONTROL, rep)


@measure(
    source="Chou, Le, Wang and Chung 2025 (arXiv 2503.18114), of the deviations from class means",
    quantities=OF_THE_NOISE,
    invariant_to={"duplication", "scale"},
    needs={"labels"},
    stochastic=True,
    by_default=False,
)
@takes_at_most(per_class=PER_CLASS)
def capacity_noise(
    rep: Representation,
    *,
    n_draws: int = 50,
    dichotomies: str = "random",
    center: str | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Capacity, dimension, radius and alignments of noise alone: all classes alike but for the spread of samples.

    Directions and signs are the first of those that `capacity` uses; see `geometry.noise_control`.

    >>> import torch
    >>> x, labels = torch.eye(12), torch.arange(12) // 3
    >>> capacity_noise(Representation(x, labels), n_draws=400)["capacity"].ok
    True
    """
    found = geometry.noise_control(rep, n_draws=n_draws, dichotomies=dichotomies, center=center, seed=seed)
    return _control(found, OF_THE_NOISE, rep)


def _control(found: geometry.Capacity, wanted: Iterable[str], rep: Representation) -> dict[str, Estimate]:
    undefined = FILLED if found.frac_inside == 1 else "; ".join([TOO_FEW, *found.notes])
    return errors_over_draws({name: _estimate(found, name, found.notes, undefined) for name in wanted}, rep)


def estimates(found: geometry.Capacity) -> dict[str, Estimate]:
    """The measure's numbers from a capacity that is known already; those that are undefined say why."""
    out = {}
    for name in QUANTITIES:
        notes = without_floor(found.notes) if name in OF_THE_FLOOR else found.notes
        if hasattr(found, f"{name}_se"):
            notes = (*notes, f"error over {found.covered_by(name)}")
        out[name] = _estimate(found, name, notes, UNDEFINED.get(name, _undefined(found)))
    return out


def _estimate(found: geometry.Capacity, name: str, notes: tuple[str, ...], undefined: str) -> Estimate:
    value, stderr = getattr(found, name), getattr(found, f"{name}_se", None)
    if not isfinite(value):
        return Estimate.failed(undefined)
    known = stderr if stderr is not None and isfinite(stderr) else None
    return Estimate(value, known, ok=found.n_uncertified == 0, note="; ".join(notes))


def _undefined(found: geometry.Capacity) -> str:
    if found.frac_inside == 1:
        return UNDEFINED["dimension"]
    return "defined for at least two classes with moving anchors in the same draws: add classes or samples"
