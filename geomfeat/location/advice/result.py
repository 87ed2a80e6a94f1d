"""What to change to be lazier or richer: the value that `Forecast.advise` and `Location.advise` return."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.location.advice.change import AdvisedChange
from geomfeat.storage.plain_json import plain_json


@dataclass(frozen=True, eq=False)
class Advice(PlottableResult):
    """Ways to a place between lazy and rich, the best first, each with where it leads.

    Attributes:
        target: R asked for, decades. word: "lazy" or "rich" where that was asked for, else "".
        start: R without any change: forecasted, or located after a training.
        changes: see `AdvisedChange`; the first is what the properties below are of.
        flags: sentences that say what limits the advice.

    `to_frame()`: a row for each change.
    """

    target: float
    word: str
    start: float
    changes: tuple[AdvisedChange, ...]
    flags: tuple[str, ...] = ()

    @property
    def best(self) -> AdvisedChange:
        """The first change."""
        return self.changes[0]

    @property
    def multiplier(self) -> float:
        """c of outputs c (net - net0); NaN where the outputs stay as they are."""
        return self.best.multiplier

    @property
    def init_scale(self) -> Mapping[str, float]:
        """Module -> factor on its initial weights, of the change that scales them; empty without one."""
        return next((change.init_scale for change in self.changes if change.init_scale), {})

    @property
    def rates(self) -> tuple[float, float]:
        """(advised rate, largest stable rate); NaN where one is not known."""
        return self.best.rate, self.best.stable_rate

    @property
    def richness(self) -> float:
        """R that the first change leads to."""
        return self.best.richness

    @property
    def code(self) -> str:
        """Lines that make the first change."""
        return self.best.code

    def change(self, kind: str) -> AdvisedChange:
        """The change of that kind; BadInput names those there are."""
        for found in self.changes:
            if found.kind == kind:
                return found
        raise BadInput(f"no change {kind!r}: the advice has {', '.join(c.kind for c in self.changes)}")

    def apply(
        self, model: nn.Module, optimizer: Any = None, *, kind: str | None = None
    ) -> tuple[nn.Module, list[dict[str, Any]]]:
        """(the changed network, groups of its parameters); see `AdvisedChange.apply`. kind: default the first change.

        >>> import torch
        >>> from torch import nn
        >>> from geomfeat.location.advice.rescaling import Rescaling
        >>> net, change = nn.Linear(2, 1), AdvisedChange("output multiplier", -1.0, 10.0, rescaling=Rescaling(10.0))
        >>> advice = Advice(-1.0, "", 0.0, (change,))
        >>> model, groups = advice.apply(net, torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9))
        >>> optimizer = torch.optim.SGD(groups)
        >>> round(optimizer.param_groups[0]["lr"], 9), optimizer.param_groups[0]["momentum"]
        (0.01, 0.9)
        """
        return (self.best if kind is None else self.change(kind)).apply(model, optimizer)

    def to_frame(self) -> pd.DataFrame:
        """A row for each change."""
        return pd.DataFrame([change.row() for change in self.changes])

    def to_json(self) -> str:
        """JSON text; NaN becomes null."""
        return json.dumps(plain_json(self.as_dict()), indent=2, allow_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as nested dictionaries and lists."""
        changes = [
            {**change.row(), "rescaling": asdict(change.rescaling), "init_scale": dict(change.init_scale),
             "reason": change.reason, "code": change.code}
            for change in self.changes
        ]  # fmt: skip
        return {"target": self.target, "word": self.word, "start": self.start, "changes": changes,
                "flags": list(self.flags)}  # fmt: skip

    def __str__(self) -> str:
        """A line for what was asked, and one for each change."""
        by = self.target - self.start
        way = "" if abs(by) < 0.005 else f", {'richer' if by > 0 else 'lazier'} by {abs(by):.2f} decades"
        asked = f"R = {self.target:+.2f}" + (f" ({self.word})" if self.word else "")
        return "\n".join([f"to {asked} from {self.start:+.2f}{way}:", *(f"  {change}" for change in self.changes)])

    def _chart(self) -> Plot:
        values = [change.richness for change in self.changes]
        halves = [(c.high - c.low) / 2 for c in self.changes]
        return line_chart(
            f"asked for: R = {self.target:+.2f}", "", "R it leads to, decades", range(len(values)),
            [value if math.isfinite(value) else math.nan for value in values], halves,
            names=[c.kind for c in self.changes],
        )  # fmt: skip
