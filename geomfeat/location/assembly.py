"""One Location of what was measured from one or several starts: means, intervals, floors and regimes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtri, stdtrit

from geomfeat.location.demand import solve
from geomfeat.location.demand_interval import deviation, spread
from geomfeat.location.initial_states import Observed, Start
from geomfeat.location.kernel_interval import Resample, standard_errors
from geomfeat.location.options import LocateOptions
from geomfeat.location.regimes import ABOVE_FLOOR, regime_of, regime_without_start
from geomfeat.location.result import KERNEL_COLUMNS, LAYER_COLUMNS, Location

RATIOS = ("kernel_change", "linearisation_gap")  # whose errors are of their logarithms
LEVEL = 0.9  # level of the intervals
# Decades by which R through projected outputs was seen to exceed R through all (ImageNet CNN: 1.35 against .83).
PROJECTION_EXCESS = 0.5
# A doubling of the probes can add more than the one before did. The margin was chosen on half the families of
# `geomfeat validate`, which look one and two doublings ahead.
MARGIN, MOST_DOUBLINGS = 1.25, 2.0


def assembled(
    starts: list[Start],
    samples: pd.DataFrame,
    resamples: list[Resample],
    floors: dict[str, float] | None,
    observed: Observed,
) -> Location:
    """The location of these starts.

    Args:
        samples: demand over the `resamples` of the probes. floors: by layer, and "" for all.
    """
    by_sample, z = spread(samples), half_width(starts)
    kernel, shares = _kernel(starts, resamples, z), starts[0].kernel.by_layer if starts[0].kernel is not None else {}

    def centre_and_half(of_start: list[float], column: str) -> tuple[float, float]:
        # The lost initial weights are one more draw: their variance adds to that of the mean, hence 1 + 1 / n.
        own = deviation(of_start) * math.sqrt(1 + 1 / len(starts)) if len(starts) > 1 else 0.0
        return float(np.mean(of_start)), z * float(np.hypot(by_sample[column], own))

    rows = []
    for name in [n for n in starts[0].demand.layers if all(n in s.movement for s in starts)]:
        r, half = centre_and_half([s.demand.layers[name] for s in starts], name)
        m = float(np.mean([s.movement[name] for s in starts]))
        floor = math.nan if floors is None else floors[name]
        regime = _regime(r, m, None if floors is None else floor)
        excess = m - r if np.isfinite([m, r]).all() else math.nan
        rows.append((name, r, r - half, r + half, m, excess, regime, floor, *shares.get(name, (math.nan, math.nan))))
    layers = pd.DataFrame(rows, columns=[*LAYER_COLUMNS, "floor", *KERNEL_COLUMNS])
    floor = None if floors is None else floors[""]
    richness, half = centre_and_half([s.demand.richness for s in starts], "richness")
    moving = np.isfinite(layers["movement"])
    both = moving & np.isfinite(layers["richness"])
    counted = layers["movement"][both if both.any() else moving]
    moved = float(np.mean(counted)) if len(counted) else -math.inf
    at_most = floor is not None and richness < floor + ABOVE_FLOOR
    hidden_from_view = any(bool(observed.features[name].any()) for name in starts[0].left_out)
    *seen, gap = (
        kernel.get(name, math.nan) for name in ("kernel_demand", "kernel_change", "kernel_excess", "linearisation_gap")
    )
    regime = (
        "undetermined"
        if moved == -math.inf and hidden_from_view
        else _regime(richness, moved, floor, *seen, max(counted, default=moved), gap)
    )
    high = max(richness + half, floor + ABOVE_FLOOR) if at_most and floor is not None else richness + half
    excess = moved - richness if math.isfinite(moved) and math.isfinite(richness) else math.nan
    return Location(
        richness=richness, low=richness - half, high=high, movement=moved, excess=excess,
        tier="initial" if floor is None else "reinitialised", floor=floor, at_most=at_most, regime=regime,
        layers=layers, metric=starts[0].metric, **kernel,
    )  # fmt: skip


def _kernel(starts: list[Start], resamples: list[Resample], z: float) -> dict[str, Any]:
    """The numbers of the tangent kernel by the names of `Location`, with their intervals."""
    places = [start.kernel for start in starts if start.kernel is not None]
    if not places:
        return {}
    first = places[0]
    numbers = {"kernel_change": first.change, "kernel_excess": first.excess, "linearisation_gap": first.gap}
    halves = {name: z * error for name, error in standard_errors(first.of_resample, resamples).items()}
    for name, of_start in (
        ("kernel_demand", [p.demand.demand for p in places]),
        ("kernel_demand_on_target", [p.on_target.demand for p in places]),
    ):
        numbers[name] = float(np.mean(of_start))
        if len(places) > 1:
            own = deviation(of_start) * math.sqrt(1 + 1 / len(places))
            halves[name] = float(np.hypot(halves.get(name, 0.0), z * own))
    intervals = {
        name: (value * 10**-half, value * 10**half) if name in RATIOS else (value - half, value + half)
        for name, half in halves.items()
        if math.isfinite(half) and math.isfinite(value := numbers[name])
    }
    return {**numbers, "kernel_intervals": intervals}


def _regime(richness: float, movement: float, floor: float | None, *kernel: float) -> str:
    """`kernel`: demand, change and excess, the largest movement of a layer, and the gap; none for a layer itself."""
    if floor is None or movement == -math.inf:
        return regime_of(richness, movement, *kernel)
    return regime_without_start(richness, richness < floor + ABOVE_FLOOR, floor, *kernel[:1])


def floor_of(starts: list[Start], step: Callable[[], None]) -> dict[str, float]:
    """Mean demand, by layer and as "" for the network, of turning one random initialisation into the next.

    It is the value of R when nothing was learned: smaller demands are indistinguishable from it.
    """
    found = []
    for start, other in zip(starts, [*starts[1:], starts[0]], strict=True):
        demand = solve(start.task.towards(other.outputs - start.outputs))
        found.append({**demand.layers, "": demand.richness})
        step()
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def widened(located: Location, start: Start, given: int) -> Location:
    """The interval with what resampling cannot show: R on all the inputs given, of which the probes are a part.

    R changes with every doubling of the probes, mostly upwards. The end towards which the last doubling moved it also
    covers the doublings that lead to all inputs: at least one, and at most two, as far as this was tried.
    """
    curve = located.by_probes["richness"].to_numpy(dtype=float)
    last = difference(*curve[[-1, -2]].tolist()) if len(curve) > 1 else 0.0
    doublings = min(max(1.0, math.log2(given / start.task.n)), MOST_DOUBLINGS)
    ahead = MARGIN * doublings * last if math.isfinite(last) else 0.0
    # Projection can only make R too high, so only the lower end widens.
    error = start.outputs_error
    below = error if start.task.projection is None else PROJECTION_EXCESS
    return replace(
        located, low=located.low - below + min(ahead, 0.0), high=located.high + error + max(ahead, 0.0),
        details={**located.details, "last_doubling": last, "doublings": doublings},
    )  # fmt: skip


def details_of(
    starts: list[Start],
    observed: Observed,
    groups: torch.Tensor | None,
    options: LocateOptions,
    n_bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    first = starts[0]
    return {
        "n_probes": first.task.n,
        "n_groups": None if groups is None else len(groups.unique()),
        "n_outputs": observed.outputs.shape[1],
        "projections": None if (basis := first.task.cheapest.projection) is None else basis.shape[1],
        "share_left": options.share_left,
        "method": first.task.method,
        "outputs_error": first.outputs_error,
        "unreachable": first.demand.response.unreachable,
        "left_out": list(first.left_out),
        "n_bootstrap": n_bootstrap,
        "level": LEVEL,
        "richness_of_each_start": [s.demand.richness for s in starts],
        "seed": seed,
        "loss": options.loss,
    }


def half_width(starts: list[Start]) -> float:
    """Half-width of the interval in standard errors: normal with the true start, Student's t over a few fresh ones."""
    tail = 0.5 + LEVEL / 2
    return float(ndtri(tail) if len(starts) == 1 else stdtrit(len(starts) - 1, tail))


def difference(a: float, b: float) -> float:
    """a - b; 0 where both are -inf."""
    return 0.0 if a == b else a - b
