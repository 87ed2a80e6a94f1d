"""What a table of trainings says: means over seeds, slopes on the output scale, and where 'lazy' was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.lab.rnn_init.runs import EQUAL
from geomfeat.location.regimes import LARGE_GAP

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


@dataclass(frozen=True, eq=False)
class Found:
    """All trainings.

    Attributes:
        grid: gain by rank by output scale. norms: ranks at one gain and scale, by both norms of the weights. gains: at
            full rank and scale 1. chaotic: large gains at several scales, with more seeds.
    """

    grid: Table
    norms: Table
    gains: Table
    chaotic: Table

    @property
    def table(self) -> Table:
        """All of it, with the part in a column."""
        parts = {"grid": self.grid, "norms": self.norms, "gains": self.gains, "chaotic": self.chaotic}
        return pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)


def means(rows: Table, by: str, column: str) -> pd.Series:
    """Mean of a column over all trainings that reached the loss, by another.

    >>> means(pd.DataFrame({"rank": [1, 1, 4], "R": [1.0, 2.0, 0.5], "reached": True}), "rank", "R").tolist()
    [1.5, 0.5]
    """
    return rows[rows["reached"]].groupby(by)[column].mean()


def errors(rows: Table, by: str, column: str) -> pd.Series:
    """Standard error of these means, over seeds; trainings of one seed are averaged first."""
    own = rows[rows["reached"]].groupby([by, "seed"])[column].mean()
    return own.groupby(level=0).sem()


def slope_on_scale(rows: Table, column: str) -> float:
    """Least-squares slope on log10(1 / scale), within networks of one gain, rank and seed.

    >>> two = pd.DataFrame({"gain": 1.0, "rank": 1, "seed": 0, "scale": [1.0, 0.1], "R": [0.0, 1.1], "reached": True})
    >>> round(slope_on_scale(two, "R"), 9)
    1.1
    """
    fine = rows[rows["reached"]]
    x, y = -np.log10(fine["scale"]), fine[column]
    keys = [fine["gain"], fine["rank"], fine["seed"]]
    x, y = x - x.groupby(keys).transform("mean"), y - y.groupby(keys).transform("mean")
    return float((x * y).sum() / (x * x).sum())


def falls(series: Sequence[float]) -> float:
    """The smallest fall from one to the next: positive where all fall.

    >>> falls([2.0, 1.0, 0.75])
    0.25
    """
    return float(-np.diff(np.asarray(series)).max())


def lazy_in_spite_of_gap(rows: Table) -> int:
    """How many trainings are called lazy whose linearisation gap is above one half."""
    fine = rows[rows["reached"]]
    return int(((fine["regime"] == "lazy") & (fine["gap"] > LARGE_GAP)).sum())


def of_norm(found: Found, norm: str = EQUAL) -> Table:
    """The trainings by rank under one norm of the initial weights."""
    return found.norms[found.norms["norm"] == norm]
