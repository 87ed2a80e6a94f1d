"""The onset of rich learning: the demand at which movement falls behind it, by summary over layers and by norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

RICH_ONSET = -0.1  # excess at which rich learning has set in
OVER_LAYERS = ("mean", "first", "last", "largest", "demand-weighted")
NORMS = {"weights": "mean over layers of weights", "kernel": "tangent kernel"}
SUMMARIES = (*OVER_LAYERS, *NORMS.values())
MOST_MISSING = 0.2  # a summary that misses the onset in more families than this is not chosen


def onsets_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """R at which excess falls below -.1, for each family and each of `SUMMARIES`; NaN where it never does.

    Columns: family; the features' R over layers: "mean" (of R_l), "first", "last", "largest" and "demand-weighted"
    (R of the root mean square of 10^R_l); the mean over layers of R in the norm of weights; and R in the norm of the
    tangent kernel. M is summarised in the same way.
    """
    found = []
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family and isinstance(row.get("layers"), dict)]
        curves: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SUMMARIES}
        for gamma in sorted({row["gamma"] for row in own}):
            for name in SUMMARIES:
                r, m = np.mean([_network(row, name) for row in own if row["gamma"] == gamma], axis=0)
                curves[name].append((gamma, float(r), float(m)))
        found.append({"family": family, **{name: _crossing(curve) for name, curve in curves.items()}})
    return pd.DataFrame(found)


def _network(row: Mapping[str, Any], name: str) -> tuple[float, float]:
    """(R, M) of one training, by one of `SUMMARIES`."""
    if name in OVER_LAYERS:
        return summed_up(list(row["layers"].values()), name)
    (norm,) = (key for key, value in NORMS.items() if value == name)
    return summed_up(list(row[norm].values()), "mean")


def summed_up(layers: Sequence[Sequence[float]], name: str) -> tuple[float, float]:
    """(R, M) of a network from those of its layers.

    >>> summed_up([(0.0, 1.0), (2.0, 3.0)], "mean"), summed_up([(0.0, 1.0), (2.0, 3.0)], "last")
    ((1.0, 2.0), (2.0, 3.0))
    """
    values = np.array([pair for pair in layers if np.isfinite(pair).all()], dtype=float)
    if not len(values):
        return math.nan, math.nan
    if name == "mean":
        r, m = values.mean(0)
    elif name == "demand-weighted":
        r, m = (0.5 * np.log10(np.mean(10 ** (2 * column))) for column in values.T)
    else:
        r, m = values[{"first": 0, "last": -1, "largest": int(values[:, 0].argmax())}[name]]
    return float(r), float(m)


def _crossing(curve: Iterable[tuple[float, float, float]]) -> float:
    """R where M - R first falls below RICH_ONSET on the way up, linear between rungs."""
    points = [(r, m - r) for _, r, m in sorted(curve)]
    for (r0, e0), (r1, e1) in pairwise(points):
        if e0 >= RICH_ONSET > e1:
            return r0 + (r1 - r0) * (e0 - RICH_ONSET) / (e0 - e1)
    return math.nan


def best_summary(onsets: pd.DataFrame) -> tuple[str, float, float]:
    """(summary of smallest spread of the onset on every other family, its spread there, its spread on the others).

    Spread: standard deviation over families, decades. "" and NaN with the onset in fewer than three families.
    """
    values_of = {name: onsets[name].to_numpy(dtype=float) for name in SUMMARIES}
    counts = {name: int(np.isfinite(values[::2]).sum()) for name, values in values_of.items()}
    enough = max(3, (1 - MOST_MISSING) * max(counts.values()))
    spreads = {name: _spread(values[::2]) for name, values in values_of.items() if counts[name] >= enough}
    if not spreads:
        return "", math.nan, math.nan
    name = min(spreads, key=lambda key: spreads[key])
    return name, spreads[name], _spread(values_of[name][1::2])


def spreads_of(onsets: pd.DataFrame) -> list[dict[str, Any]]:
    """For each of `SUMMARIES`: families with an onset, its median and spread, on all families and on either half."""
    rows = []
    for name in SUMMARIES:
        values = onsets[name].to_numpy(dtype=float)
        known = values[np.isfinite(values)]
        rows.append({
            "summary": name, "families": len(known), "median": float(np.median(known)) if len(known) else math.nan,
            "spread": _spread(values), "spread_chosen": _spread(values[::2]), "spread_judged": _spread(values[1::2]),
        })  # fmt: skip
    return rows


def _spread(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
