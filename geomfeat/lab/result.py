"""What an experiment of the lab returns: an answer, plots, checks against theory and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from geomfeat.charts import Heat, Plot
from geomfeat.display import BaseResult, PlottableResult
from geomfeat.errors import BadInput


@dataclass(frozen=True)
class Check(BaseResult):
    """A measured number and its predicted value.

    >>> Check("slope on width", 0.27, 0.25, 0.05).ok
    True
    """

    what: str
    value: float
    expected: float
    tolerance: float
    unit: str = ""

    @property
    def ok(self) -> bool:
        """Whether the number lies within the tolerance; False where it is not finite."""
        return math.isfinite(self.value) and abs(self.value - self.expected) <= self.tolerance


@dataclass(frozen=True, eq=False)
class Findings(PlottableResult):
    """All that an experiment found.

    Attributes:
        answer: a few sentences, the answer to the experiment's question in numbers.
        checks: against theory; empty where nothing is known.
        table: the numbers, one row each. settings: what was run. notes: what limits the numbers.

    `to_frame()`: `table`. The picture is the first of `plots`.
    """

    answer: str
    plots: Sequence[Plot | Heat]
    checks: Sequence[Check]
    table: pd.DataFrame
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def failed(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if not check.ok]

    def to_frame(self) -> pd.DataFrame:
        """The numbers, one row each."""
        return self.table.copy()

    def _chart(self) -> Plot | Heat:
        if not self.plots:
            raise BadInput("this experiment has no plots: see .table")
        return self.plots[0]

    def __str__(self) -> str:
        good = len(self.checks) - len(self.failed)
        return f"{self.answer}\n{good} of {len(self.checks)} checks hold; {len(self.table)} numbers"
