"""A planted sweep for the pages: two architectures on a grid, three seeds, a diverged corner, and snapshots."""

from __future__ import annotations

import pandas as pd

from geomfeat.study.table import row, table_of
from geomfeat.types import Estimate
from tests.comparison.swept import FIXED, log, noise, sweep

SIGMA, ETA = [0.25, 0.5, 1.0, 2.0], [0.01, 0.1, 1.0]
HOSTILE = "</script><b>%{x} $y$"


def numbers(c: dict, s: int) -> tuple[dict, dict]:
    richness = -3 * log(c["sigma"]) + 0.02 * noise(s, c["sigma"], c["eta"]) + (c["architecture"] == "cnn")
    values = {
        ("location", "richness", ""): richness,
        ("location", "movement", ""): 0.7 * richness - 0.1,
        ("location", "excess", ""): -0.3 * richness - 0.1,
        ("dim", "dim", HOSTILE): 10 - 3 * richness + 0.1 * noise(s, c["eta"]),
        ("flat", "flat", "fc1"): noise(s, c["sigma"], c["eta"], 3.0),
    }
    diverged = c["sigma"] == 2.0 and c["eta"] == 1.0
    status = {"stability": 5.0 if diverged else c["eta"], "steps": 100.0}
    if diverged:
        return {}, {"outcome": "diverged", "note": f"diverged at step 7: {HOSTILE}", "status": status}
    return values, {"status": status}


def grid(architectures: tuple[str, ...] = ("mlp", "cnn")) -> pd.DataFrame:
    """A sweep over sigma, eta and, if there are two, the architecture: 3 seeds."""
    return sweep({"architecture": list(architectures), "sigma": SIGMA, "eta": ETA}, 3, numbers)


def courses() -> pd.DataFrame:
    """A sweep with the capacity of a layer at eight moments; dimension and radius fall, more at small sigma."""
    parts = [grid(("mlp",))]
    fine = parts[0][(parts[0]["measure"] == "location") & (parts[0]["quantity"] == "richness")]
    for _, one in fine[fine["ok"].astype(bool)].iterrows():
        rows = []
        for k, at in enumerate(["init", "1", "3", "10", "20", "40", "70", "trained"]):
            share = k / 7
            for quantity, value in story(one["sigma"], share).items():
                rows.append(row(quantity, Estimate(value, 0.001), at=at, measure="capacity", layer="fc1"))
        conditions = {k: one[k] for k in FIXED} | {k: one[k] for k in ("sigma", "eta", "seed", "outcome")}
        parts.append(table_of(rows, run=one["run"], seed=one["seed"], conditions=conditions, version="0"))
    return pd.concat(parts, ignore_index=True)


def story(sigma: float, share: float) -> dict[str, float]:
    """A capacity and its terms: alpha = Psi (1 + R^-2) / D exactly."""
    depth = share / (1 + sigma)
    dimension, radius, utility = 2.0 * 10 ** (-0.5 * depth), 1.0 * 10 ** (-0.1 * depth), 1.0
    return {
        "capacity": utility * (1 + radius**-2) / dimension, "dimension": dimension, "radius": radius,
        "utility": utility, "center_alignment": 0.3 - 0.1 * share, "axis_alignment": 0.2,
        "center_axis_alignment": 0.1,
    }  # fmt: skip
