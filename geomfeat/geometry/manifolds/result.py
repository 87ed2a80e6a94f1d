"""What `capacity` returns: the numbers with their errors, per manifold and per pair, in a form to read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.charts import Heat
from geomfeat.display import PlottableResult, matrix_map, quantity_columns
from geomfeat.geometry.manifolds.per_manifold import PerManifold
from geomfeat.geometry.manifolds.per_pair import PerPair
from geomfeat.geometry.manifolds.resampling.data_errors import Resampled

_SHOWN = (
    "capacity", "capacity_faces", "dimension", "radius", "radius_mean", "utility", "center_alignment", "axis_alignment",
    "center_axis_alignment", "frac_inside", "frac_nonseparable", "simulated_capacity",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Capacity(PlottableResult):
    """Capacity and geometry of P manifolds. A field `x_se` is the standard error of x; NaN: undefined.

    Errors are those of the average over directions and labels (the draws), and in quadrature those over the data in
    `errors_over`: "draws" alone means for these very points.

    Attributes:
        capacity: alpha = P / E|p|^2. capacity_faces: P / E k, the same number for standard normal t that does not
            depend on y, usually with less error; for other `draws` it need not be.
        at_floor: nearly every dichotomy of different labels leaves t inside its cone, so that the capacity is
            capacity_floor = P / rank (rank: of all points), whatever the classes: not to be compared or ranked.
        dimension: D. radius: R, ratio of means. radius_mean: E sqrt(c/(b-c)), the mean over draws (NaN if no anchor
            ever moves).
        utility: Psi; alpha = Psi (1 + R^-2) / D exactly.
        center_alignment, axis_alignment, center_axis_alignment: mean absolute cosines; compare with
            alignment_floor = sqrt(2 / (pi N)), the value for random directions.
        frac_inside: share of draws with t inside its cone; unless all points are linearly independent, their anchors
            are not unique, and they count in `capacity` alone.
        frac_nonseparable: share of the judged dichotomies that no hyperplane through the origin separates strictly.
        simulated_capacity: P / median(k), a prediction (not a simulation) of the result of random projections.
        max_violation: worst KKT violation of all draws. n_uncertified: draws above the tolerance, left out everywhere.
        n_ambiguous: other draws in which more points could carry the projection, so that anchors are a choice: that of
            the multipliers of least norm.
        n_draws: all draws. norms2: |p|^2 per draw; faces: k per draw; certified: which of them count;
            inside: which lie inside their cone.
        strata: which dichotomy of a fixed set each draw uses; errors are then those within a dichotomy.
        n_features: N. dichotomies: which kind of labels. seed: of the draws, where they are not given.
        through_samples: whether t is made from the samples (`common_draws`), the same way in every layer.
        classes: names of the manifolds, in the order of per_manifold and per_pair. sizes: different points of each.
        notes: what limits these numbers, in sentences.
        controls: "shuffled" and "noise" -> the same numbers for controls, from `capacity_with_controls`; else empty.
        errors_over: what errors are over, in words, as "draws and 12 groups". resampled: the numbers without each part
            of the data. influences: (draws,) of each draw on the mean that a number is, for paired differences.

    `to_frame()`: one row for each number: quantity, value, stderr, and shuffled, noise where there are controls.
    """

    capacity: float
    capacity_se: float
    capacity_faces: float
    capacity_faces_se: float
    capacity_floor: float
    at_floor: bool
    dimension: float
    dimension_se: float
    radius: float
    radius_se: float
    radius_mean: float
    radius_mean_se: float
    utility: float
    utility_se: float
    center_alignment: float
    center_alignment_se: float
    axis_alignment: float
    axis_alignment_se: float
    center_axis_alignment: float
    center_axis_alignment_se: float
    alignment_floor: float
    frac_inside: float
    frac_inside_se: float
    frac_nonseparable: float
    frac_nonseparable_se: float
    simulated_capacity: float
    simulated_capacity_se: float
    max_violation: float
    n_uncertified: int
    n_ambiguous: int
    n_draws: int
    n_features: int
    norms2: Float[Tensor, "draws"]
    faces: Int[Tensor, "draws"]
    certified: Bool[Tensor, "draws"]
    inside: Bool[Tensor, "draws"]
    strata: Int[Tensor, "draws"] | None
    dichotomies: str
    center: str | None
    seed: int
    classes: tuple[Any, ...]
    per_manifold: PerManifold
    per_pair: PerPair
    sizes: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    through_samples: bool = False
    controls: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    errors_over: str = "draws"
    resampled: tuple[Resampled, ...] = ()
    influences: Mapping[str, Float[Tensor, "draws"]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"Capacity of {len(self.classes)} classes, {self.n_draws} draws, {self.dichotomies} labels"
            + (f", centred ({self.center})" if self.center else "")
            + f"; +- one standard error over {self.errors_over}"
        ]
        for name in _SHOWN:
            floor = f" (floor {self.alignment_floor:.2g})" if name.endswith("alignment") else ""
            if name == "capacity":
                floor = f" ({'at the ' if self.at_floor else ''}floor {self.capacity_floor:.2g})"
            beside = "".join(f"; {word} {of[name]:.3g}" for word, of in self.controls.items() if name in of)
            lines.append(f"  {name:22}{getattr(self, name):10.4g} +- {getattr(self, f'{name}_se'):.2g}{floor}{beside}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _columns(self) -> dict[str, Any]:
        columns = quantity_columns(self)
        beside = {word: [of.get(name, math.nan) for name in columns["quantity"]] for word, of in self.controls.items()}
        return {**columns, **beside}

    def _chart(self) -> Heat:
        cosines = self.per_pair.center_cosine
        title = f"centers of the classes, capacity {self.capacity:.3g} ± {self.capacity_se:.2g}"
        return matrix_map(title, self.classes, self.classes, cosines, "cosine of centers", centered=True)

    def covered_by(self, name: str) -> str:
        """What the error of one number is over: as `errors_over`, less what left it undefined."""
        return in_words([one.said for one in self.resampled if math.isfinite(one.variance(name))])


def with_data_errors(found: Capacity, again: Mapping[str, Resampled | str]) -> Capacity:
    """The same with errors over the data added in quadrature; what could not be resampled is a note."""
    done = [one for one in again.values() if isinstance(one, Resampled)]
    refused = [f"no error over {source}: {why}" for source, why in again.items() if isinstance(why, str)]
    changed, lost = {}, {}
    for name in done[0].values if done else ():
        variances = [one.variance(name) for one in done]
        for one, variance in zip(done, variances, strict=True):
            if not math.isfinite(variance) and math.isfinite(getattr(found, name)):
                lost.setdefault(one.source, []).append(name)
        over_data = sum(variance for variance in variances if math.isfinite(variance))
        changed[f"{name}_se"] = math.hypot(getattr(found, f"{name}_se"), math.sqrt(over_data))
    gaps = [f"no error over {source} for {', '.join(names)}: not defined in all" for source, names in lost.items()]
    return replace(
        found, **changed, notes=(*found.notes, *refused, *gaps), resampled=tuple(done),
        errors_over=in_words([one.said for one in done]),
    )  # fmt: skip


def in_words(sources: list[str]) -> str:
    """What errors are over, besides the draws.

    >>> in_words([]), in_words(["12 groups"]), in_words(["12 groups", "40 units"])
    ('draws', 'draws and 12 groups', 'draws, 12 groups and 40 units')
    """
    *most, last = ["draws", *sources]
    return f"{', '.join(most)} and {last}" if most else last
