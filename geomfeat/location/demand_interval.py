"""How firm a demand is: its spread over resampled probes, and its growth with their number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geomfeat.location.demand import ROUGH, Demand, LinearisedTask, solve
from geomfeat.location.kernel_interval import FEW_KEPT, KEPT, Resample, ResampledResponse
from geomfeat.numerics import WORKING, stream

Step = Callable[[], None]


def bootstrap(
    task: LinearisedTask, n_bootstrap: int, seed: int, step: Step = lambda: None, groups: Tensor | None = None
) -> tuple[pd.DataFrame, list[Resample]]:
    """Demand over bootstrap samples of the probes: one row per sample, one column per layer and "richness"; and these.

    Whole groups are drawn where probes have `groups` (n,): those of one group are no independent probes. A resampled
    set holds about 63 % of the probes, so its demand is lower throughout (see `by_probes`): read the spread of these
    rows, not their mean.
    """
    rows, drawn, (part, count) = [], [], _parts(task.n, groups)
    for number in range(n_bootstrap):
        draw = torch.randint(count, (count,), generator=stream(seed, "demand", "bootstrap", number))
        weights = torch.bincount(draw, minlength=count)[part].to(WORKING)
        found = solve(task, weights, rtol=ROUGH)
        kept = KEPT if task.rows is None else FEW_KEPT
        drawn.append(_resample(task, weights, found) if number < kept else Resample(weights))
        rows.append({**found.layers, "richness": found.richness})
        step()
    return pd.DataFrame(rows, columns=None if rows else [*task.layers, "richness"], dtype=float), drawn


def _resample(task: LinearisedTask, weights: Tensor, found: Demand) -> Resample:
    """With its response, whose coefficients are those of the probes drawn, times the root of how often."""
    rows = torch.nonzero(weights > 0).flatten().to(task.change.device)
    coefficients = torch.zeros_like(task.change)
    own = found.response.coefficients.reshape(len(rows), -1).to(coefficients)
    coefficients[rows] = weights.to(own.device)[rows].sqrt()[:, None] * own
    return Resample(weights, ResampledResponse(coefficients, rows, found.pulled))


def by_probes(
    task: LinearisedTask,
    richness: float,
    seed: int,
    step: Step = lambda: None,
    *,
    orders: int = 1,
    groups: Tensor | None = None,
) -> pd.DataFrame:
    """R on a quarter and a half of the probes, mean over `orders` random choices of them, and on all (`richness`).

    Where probes have `groups` (n,), group after group is chosen, so that at most one is split.
    """
    part, count = _parts(task.n, groups)
    sizes, found = sorted({task.n // 4, task.n // 2} - {0, task.n}), []
    for number in range(orders):
        order = torch.randperm(count, generator=stream(seed, "demand", "by probes", number))
        # The rank of a probe's group, then a stable sort by it: whole groups follow each other in random order.
        order = order.argsort()[part].argsort(stable=True)
        for n in sizes:
            weights = torch.zeros(task.n, dtype=WORKING)
            weights[order[:n]] = 1.0
            found.append((n, solve(task, weights, rtol=ROUGH).richness))
            step()
    rows = [{"n_probes": n, "richness": float(np.mean([r for size, r in found if size == n]))} for n in sizes]
    return pd.DataFrame([*rows, {"n_probes": task.n, "richness": richness}])


def _parts(n: int, groups: Tensor | None) -> tuple[Tensor, int]:
    """(n,) which part every probe is of, and how many there are: groups, or single probes."""
    part = torch.arange(n) if groups is None else torch.unique(groups, return_inverse=True)[1]
    return part, int(part.max()) + 1


def spread(samples: pd.DataFrame) -> dict[str, float]:
    """Standard deviation of every column; NaN with fewer than two samples."""
    return {str(c): deviation(samples[c].tolist()) for c in samples}


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over resamples; those that are not finite are left out, and 0 where all are -inf.

    >>> deviation([1.0, 3.0, float("nan")]), deviation([-float("inf")] * 3), deviation([1.0])
    (1.4142135623730951, 0.0, nan)
    """
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) > 1:
        return float(np.std(finite, ddof=1))
    return 0.0 if len(values) > 1 and all(v == -math.inf for v in values) else math.nan
