"""The words for where a network is, and the one rule that chooses them: on the plane of features and kernel.

Two questions are asked of a training, each of what it demanded and of what happened: did the hidden features move (R,
M), and did the tangent kernel move (kappa, the measured change)?

                        kernel at rest                      kernel moved
    features at rest    lazy                                kernel moved, features at rest
    features moved      features moved, kernel at rest      rich

"Transition" is what lies between. Features are at rest where R and M are below -.5, and moved where R > 0 or M > -.3:
by half of their size. The kernel is at rest where kappa < -.2 and it changed by less than 13 %, and moved where kappa >
.1 or it changed by more than 40 %; then a network whose features are in between is rich. Where the linearisation gap is
above one half the part of the kernel that the target uses moved, however little the whole did: it is not at rest. The
thresholds of the kernel were chosen on one half of the families of `geomfeat validate` and judged on the other half, by
what happened there: see `data_cards/location-validation.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# Decades of the features' size, for demand R and movement M.
LAZY_BELOW = -0.5
RICH_DEMAND, RICH_MOVEMENT = 0.0, -0.3
# Decades, for kernel demand; and |K_T - K_0| / |K_0|, for the kernel's change.
KERNEL_RESTS, KERNEL_MOVED = -0.2, 0.1
SMALL_CHANGE, LARGE_CHANGE = 0.13, 0.4
LARGE_GAP = 0.5  # of the change of the outputs, that the network linearised at its start does not explain
BEYOND_DEMAND = 0.5
# Within this many decades of the floor, R is indistinguishable from the difference between two initialisations.
ABOVE_FLOOR = 0.3

FEATURES_ONLY, KERNEL_ONLY = "features moved, kernel at rest", "kernel moved, features at rest"
BY_OPTIMIZER = "moved by the optimizer"
# Regime -> what it means, for a reader who knows none of the symbols.
MEANINGS: Mapping[str, str] = {
    "frozen": "none of its hidden features changed: only the layers that read them out were trained",
    "lazy": "it learned almost like a model that is linear in its weights: features and tangent kernel hardly changed",
    "transition": "it is between lazy and rich: its tangent kernel changed, but not by much",
    "rich": "it learned new features: they and the tangent kernel changed by a sizeable part of their size",
    FEATURES_ONLY: "its hidden features changed, yet it learned like a model that is linear in its weights, since its "
    "tangent kernel hardly changed: the first layers are small beside the last",
    KERNEL_ONLY: "its hidden features hardly changed, yet no model that is linear in its weights describes it, since "
    "its tangent kernel changed: mostly, the weights that read the features out did",
    BY_OPTIMIZER: "it moved much further than its function required; possible causes are large learning steps, "
    "gradient noise, weight decay, or far more training data than probes",
    "at most lazy": "its demand is indistinguishable from a lazy network's",
    "at most transition": "its demand is no larger than that between two random initialisations, so it is not shown "
    "to be rich",
    "undetermined": "its place could not be determined",
}
REGIMES = tuple(MEANINGS)


def regime_of(
    richness: float,
    movement: float,
    kernel_demand: float = math.nan,
    kernel_change: float = math.nan,
    kernel_excess: float = math.nan,
    largest_movement: float | None = None,
    linearisation_gap: float = math.nan,
) -> str:
    """The regime by demand R, movement M and the tangent kernel; by features alone (a layer's) without the last three.

    'Frozen': nothing moved (M = -inf), whatever the demand. 'Moved by the optimizer': the kernel, or features that are
    not at rest, moved half a decade further than demanded where the demand is small: kappa < -.2; for features, R < 0
    and kappa below .1. Elsewhere they part ways by themselves: demand exceeds movement in rich networks, and after a
    small read-out, or behind a large first layer, features move to second order, beyond a tiny demand. What moved
    although it has no demand (R = -inf: to first order nothing moves it) goes by its movement. `largest_movement`: M of
    the layer that moved most, where `movement` is a mean over layers. `linearisation_gap`: measured, if it is known;
    above .5 the kernel is not at rest, so that no word says that the network learned like a linear model.

    >>> regime_of(-1.5, -1.4), regime_of(0.8, 0.4), regime_of(-1.2, 0.5)
    ('lazy', 'rich', 'moved by the optimizer')
    >>> regime_of(1.6, 1.6, -0.6, 0.05), regime_of(-1.2, -1.1, 0.6, 0.9)
    ('features moved, kernel at rest', 'kernel moved, features at rest')
    >>> [regime_of(-0.7, -0.7, -1.0, 0.09, linearisation_gap=gap) for gap in (0.1, 0.8)]
    ['lazy', 'transition']
    """
    if math.isnan(richness) or math.isnan(movement):
        return "undetermined"
    if movement == -math.inf:
        return "frozen"
    if richness == -math.inf and movement <= RICH_MOVEMENT:
        return "undetermined"
    # Comparisons with NaN are false: a layer, whose kernel is not known, goes by its features.
    largest = movement if largest_movement is None else largest_movement
    demanded = richness >= 0 or kernel_demand > KERNEL_MOVED or largest <= LAZY_BELOW
    by_features = movement - richness > BEYOND_DEMAND and richness > -math.inf and not demanded
    if by_features or (kernel_excess > BEYOND_DEMAND and kernel_demand < KERNEL_RESTS):
        return BY_OPTIMIZER
    features = _state(
        rests=richness < LAZY_BELOW and movement < LAZY_BELOW,
        moved=richness > RICH_DEMAND or movement > RICH_MOVEMENT,
    )  # fmt: skip
    return _word(features, _kernel(kernel_demand, kernel_change, linearisation_gap))


def regime_without_start(
    richness: float, at_most: bool, floor: float, kernel_demand: float = math.nan
) -> str:  # fmt: skip
    """The regime from demand alone, where the initial weights are unknown: movement from a fresh draw means nothing.

    `at_most`: R is indistinguishable from the floor, so only an upper bound of floor + .3 is known.

    >>> regime_without_start(-0.9, True, -1.0), regime_without_start(0.8, False, -1.0)
    ('at most lazy', 'rich')
    """
    if math.isnan(richness):
        return "undetermined"
    if at_most:
        return "at most lazy" if floor + ABOVE_FLOOR < LAZY_BELOW else "at most transition"
    features = _state(rests=richness < LAZY_BELOW, moved=richness > RICH_DEMAND)
    return _word(features, _kernel(kernel_demand, math.nan))


def _kernel(demand: float, change: float, gap: float = math.nan) -> str:
    """At rest, moved or between; "" where nothing is known of it. Comparisons with NaN are false."""
    if math.isnan(demand) and math.isnan(change):
        return ""
    rests = not (demand >= KERNEL_RESTS or change >= SMALL_CHANGE or gap > LARGE_GAP)
    return _state(rests=rests, moved=demand > KERNEL_MOVED or change > LARGE_CHANGE)


def _state(*, rests: bool, moved: bool) -> str:
    return "rests" if rests else "moved" if moved else "between"


def _word(features: str, kernel: str) -> str:
    words = {
        ("rests", "rests"): "lazy", ("rests", ""): "lazy", ("moved", "moved"): "rich", ("moved", ""): "rich",
        ("between", "moved"): "rich", ("moved", "rests"): FEATURES_ONLY, ("rests", "moved"): KERNEL_ONLY,
    }  # fmt: skip
    return words.get((features, kernel), "transition")
