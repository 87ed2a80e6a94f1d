"""Whether numbers are sound: equal where they must be, inside their intervals, and stable in how they are measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.validation.outcomes.foretelling import COORDINATES, Rows, column

KERNEL = ("kappa", "kappa_a")
SAME, MIRRORED, FLAT = "one trajectory in two forms", "lambda and -lambda", "mup by adam, slope over width"


def coverage(rows: Rows) -> pd.DataFrame:
    """For every family: the share of intervals, from every other input, that hold R from all inputs; and how many."""
    found = []
    for name in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == name]
        low, truth, high = (column(own, key) for key in ("low", "R", "high"))
        finite = np.isfinite(low) & np.isfinite(truth) & np.isfinite(high)
        inside = ((low <= truth) & (truth <= high))[finite]
        share = float(inside.mean()) if len(inside) else math.nan
        found.append({"family": name, "coverage": share, "intervals": len(inside)})
    return pd.DataFrame(found, columns=["family", "coverage", "intervals"])


def stability(rows: Rows) -> pd.DataFrame:
    """What the number of probes, the share that is left and the layer change, decades.

    Rows: R, kappa and kappa_a from half of the probes; R at shares of .05 and .002 with that at .01; R of the layer
    where it is largest with that where it is smallest. Columns: median and nine_tenths of the size, mean, trainings.
    """
    pairs = {
        "R, half of the probes": ("half_R", "R"), "kappa, half of the probes": ("half_kappa", "kappa"),
        "kappa_a, half of the probes": ("half_kappa_a", "kappa_a"), "R, share .05 for .01": ("R_0.05", "R_0.01"),
        "R, share .002 for .01": ("R_0.002", "R_0.01"), "R, largest and smallest layer": ("R_max", "R_min"),
    }  # fmt: skip
    found = []
    for what, (one, other) in pairs.items():
        a, b = column(rows, one), column(rows, other)
        finite = np.isfinite(a) & np.isfinite(b)
        apart = a[finite] - b[finite]
        summary = [math.nan] * 3
        if len(apart):
            summary = [float(v) for v in (np.median(abs(apart)), np.quantile(abs(apart), 0.9), apart.mean())]
        found.append(dict(zip(("what", "median", "nine_tenths", "mean", "trainings"), (what, *summary, len(apart)),
                              strict=True)))  # fmt: skip
    return pd.DataFrame(found)


def invariances(rows: Rows) -> pd.DataFrame:
    """The largest deviation from what must be equal, for each coordinate. Columns: what, coordinate, largest.

    One trajectory as multipliers or rates; lambda and -lambda (of the kernel's coordinates); and the slope on log10 of
    the width where muP is trained by Adam.
    """
    found = [*_pairs(rows, SAME, "equal trajectories", "width", COORDINATES)]
    found += _pairs(rows, MIRRORED, "lambda-balanced", "balance", KERNEL)
    wide = _of(rows, "mup by adam")
    if len({row["width"] for row in wide}) > 1:
        x = np.log10(column(wide, "width"))
        for name in COORDINATES:
            slope = float(np.polyfit(x, column(wide, name), 1)[0])
            found.append({"what": FLAT, "coordinate": name, "largest": abs(slope)})
    return pd.DataFrame(found, columns=["what", "coordinate", "largest"])


def _pairs(rows: Rows, what: str, family: str, by: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The largest difference between trainings of equal |by| and seed."""
    alike: dict[tuple[float, int], list[Mapping[str, Any]]] = {}
    for row in _of(rows, family):
        alike.setdefault((abs(row[by]), row["seed"]), []).append(row)
    alike = {key: own for key, own in alike.items() if len(own) > 1}
    return [
        {"what": what, "coordinate": name, "largest": max(float(np.ptp(column(own, name))) for own in alike.values())}
        for name in (names if alike else ())
    ]


def _of(rows: Rows, family: str) -> list[dict[str, Any]]:
    """Rows of a family, each with its conditions."""
    return [{**row, **json.loads(row["conditions"])} for row in rows if row["family"] == family]
