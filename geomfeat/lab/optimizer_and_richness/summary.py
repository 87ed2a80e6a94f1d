"""What a table of trainings says: slopes on the rate, the edge beyond which features move, effects of schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.statistics.cluster_bootstrap import over_seeds

BELOW = 0.75  # of the stable rate: up to there descent follows its flow
EDGE = 0.1  # decades beyond the value at the slowest rate
EFFECTS = ("R", "M", "E", "kernel_excess")

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, its standard error, and its 90 % interval by Student."""

    value: float
    error: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True, eq=False)
class Found:
    """All trainings.

    Attributes:
        rates: a row for each start, seed, optimizer and constant rate. schedules: the same with column schedule. times:
            for each start, seed, training and time, the share of its steps. losses: R by the loss that was reached.
        target: the loss that all others were trained to.
    """

    rates: Table
    schedules: Table
    times: Table
    losses: Table
    target: float

    @property
    def table(self) -> Table:
        """All of it, with the part in a column."""
        parts = {"rates": self.rates, "schedules": self.schedules, "times": self.times, "losses": self.losses}
        return pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)

    @cached_property
    def effects(self) -> Table:
        """Of schedules, see `effects_of`."""
        return effects_of(self.schedules, self.rates)

    def of(self, start: str, optimizer: str) -> Table:
        """The trainings of one optimizer at a constant rate that reached the loss."""
        rows = rows_of(self.rates, start=start, optimizer=optimizer)
        return rows[rows["reached"]]

    def optimizers(self, start: str) -> list[str]:
        """Those that were run from this start."""
        return list(dict.fromkeys(rows_of(self.rates, start=start)["optimizer"]))

    def at_slowest(self, start: str, optimizer: str, column: str) -> list[float]:
        """A column at the slowest rate, by seed."""
        rows = self.of(start, optimizer)
        return rows[rows["share"] == rows["share"].min()].sort_values("seed")[column].tolist()

    def at_fastest(self, start: str, optimizer: str, column: str) -> list[float]:
        """A column at the fastest rate that reached the loss, by seed."""
        rows = self.of(start, optimizer)
        return rows[rows["share"] == rows["share"].max()].sort_values("seed")[column].tolist()


def mean_of(by_seed: Sequence[float]) -> Mean:
    """Over the seeds that have a number.

    >>> str(mean_of([0.1, 0.2, 0.3]))
    '+0.20 [+0.03, +0.37]'
    """
    values = np.array([v for v in by_seed if math.isfinite(v)])
    if not len(values):
        return Mean(math.nan, math.nan, math.nan, math.nan)
    found = over_seeds(lambda w: (w @ values / w.sum(1))[:, None], np.arange(len(values)))
    return Mean(*(float(part[0]) for part in (found.estimate, found.stderr, found.low, found.high)))


def rows_of(table: Table, **wanted: Any) -> Table:
    """The rows in which these columns have these values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def slope(rows: Table, column: str, low: float = 0.0, high: float = math.inf) -> Mean:
    """Least-squares slope on log10 rate, seed by seed, between these shares of the unit; rows of one optimizer.

    >>> two = pd.DataFrame({"seed": [0, 0, 1, 1], "share": [0.1, 1.0, 0.1, 1.0], "E": [0.0, 0.5, 0.0, 0.7]})
    >>> round(slope(two, "E").value, 9)
    0.6
    """
    inside = rows[(rows["share"] >= low) & (rows["share"] <= high) & rows[column].notna()]
    found = []
    for _, own in inside.groupby("seed"):
        if own["share"].nunique() > 1:
            found.append(float(np.polyfit(np.log10(own["share"]), own[column], 1)[0]))
    return mean_of(found)


def edge(rows: Table, column: str, by: float = EDGE) -> Mean:
    """The share of the unit at which a column has first left its value at the slowest rate; log10, in decades.

    Seed by seed, linear in log10 rate between rates; NaN where it never does.

    >>> one = pd.DataFrame({"seed": 0, "share": [0.1, 1.0, 10.0], "E": [0.0, 0.0, -0.2]})
    >>> round(edge(one, "E").value, 9)
    0.5
    """
    found = []
    for _, own in rows[rows[column].notna()].groupby("seed"):
        own = own.sort_values("share")
        x, away = np.log10(own["share"].to_numpy()), (own[column] - own[column].iloc[0]).abs().to_numpy()
        beyond = np.flatnonzero(away >= by)
        if len(beyond):
            k = int(beyond[0])
            found.append(float(x[k - 1] + (x[k] - x[k - 1]) * (by - away[k - 1]) / (away[k] - away[k - 1])))
    return mean_of(found)


def effects_of(schedules: Table, constant: Table) -> Table:
    """Mean difference of every schedule from the constant rate, seed by seed, with its standard error.

    A row for each start, optimizer, share and schedule; columns of `EFFECTS`, each with "_error"; n: seeds that learned
    under both.
    """
    keys = ["start", "optimizer", "share", "seed"]
    both = schedules.merge(constant[[*keys, *EFFECTS]], on=keys, suffixes=("", "_constant"))
    rows = []
    for (start, optimizer, share, schedule), own in both.groupby([*keys[:-1], "schedule"], sort=False):
        row = {"start": start, "optimizer": optimizer, "share": share, "schedule": schedule}
        for column in EFFECTS:
            apart = mean_of((own[column] - own[f"{column}_constant"]).tolist())
            row |= {column: apart.value, f"{column}_error": apart.error}
        rows.append(row | {"n": int((own["E"] - own["E_constant"]).notna().sum())})
    return pd.DataFrame(rows)
