"""How far a network and its layers moved: the value that `movement` returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult, line_chart

MOVEMENT_ONLY = (
    "movement only: whether the features had to move to learn what was learned (demand R, excess E) takes derivatives "
    "of the network, and is not computed here; M alone tells no rich training from a lazy one, see locate"
)


@dataclass(frozen=True, eq=False)
class Movement(PlottableResult):
    """How far features and weights moved in a training, without the demand R that says how far they had to.

    Attributes:
        layers: one row per layer: layer; movement M = log10(|h' - h| / |h|), decades, -inf for one that did not move;
            weights |w' - w| / |w| of all parameters inside of it (NaN where there are none); cka, linear and unbiased,
            of its features before and after; dimension_before and dimension_after, participation ratios (at most
            n - 1, biased low for few samples); capacity_before and capacity_after, classes per dimension, where labels
            were given; reduce: how its outputs became (n, d) features, of which all these but weights are.
        movement: mean of M over the layers that moved; NaN where none did. weights: |w' - w| / |w| of all weights.
        n: number of samples. n_parameters: of the network, tied ones once.
        precision: in which the network ran; sums and features are in float64.
        flags: sentences that say what limits the numbers; the first says what this tier leaves out.

    `to_frame()`: the network, layer "", and its layers, one row each, with the columns of `layers`.
    """

    layers: pd.DataFrame
    movement: float
    weights: float
    n: int
    n_parameters: int
    precision: str
    flags: tuple[str, ...] = (MOVEMENT_ONLY,)

    def __str__(self) -> str:
        """One line of numbers, and what limits them."""
        head = (
            f"M = {self.movement:+.2f} decades, weights moved by {self.weights:.3g} of their size ({len(self.layers)} "
            f"layers, {self.n} samples, {self.n_parameters:,} parameters in {self.precision})"
        )
        return "\n".join([head, *(f"  {flag}" for flag in self.flags)])

    def to_frame(self) -> pd.DataFrame:
        """The network, layer "", and its layers, one row each."""
        whole: dict[str, Any] = dict.fromkeys(self.layers.columns, math.nan)
        whole |= {"layer": "", "movement": self.movement, "weights": self.weights, "reduce": ""}
        return pd.DataFrame([whole, *self.layers.to_dict("records")])

    def _chart(self) -> Plot:
        names = list(self.layers["layer"])
        plot = line_chart(
            "movement by layer", "", "decades", range(len(names)), _drawn(list(self.layers["movement"])), names=names
        )
        logs = [math.log10(w) if w > 0 else math.nan for w in self.layers["weights"]]
        weights = Curve("weights, log10(|w' - w| / |w|)", range(len(names)), logs)
        return replace(plot, curves=[replace(plot.curves[0], label="features, M"), weights])


def _drawn(values: Sequence[float]) -> list[float]:
    """The values with NaN, which is not drawn, for infinite ones."""
    return [value if math.isfinite(value) else math.nan for value in values]
