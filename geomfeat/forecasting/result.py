"""Where a training will be between lazy and rich: the value that `forecast` returns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.forecasting.origin import Origin
from geomfeat.forecasting.stable_rate import proposed_rate
from geomfeat.location.advice import Advice
from geomfeat.location.result import clause, json_of
from geomfeat.storage.owned_files import MADE_BY
from geomfeat.tangent.metric import PLAIN

COLUMNS = ("layer", "richness", "low", "high", "movement", "regime", "kernel_share")
WHOLE = ("richness", "low", "high", "movement", "regime")
ADVICE = "advice"  # the entry of a file that holds what `Forecast.advise` found
# What `Forecast.from_json` expects, by entry.
NUMBERS = (
    "richness", "low", "high", "kernel_demand", "kernel_demand_on_target", "movement", "excess", "initial_loss",
    "target_loss", "loss_reached", "time", "steps", "rate", "stable_rate", "curvature",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Forecast(PlottableResult):
    """What a training will demand of a network, with an interval, and which rates are stable.

    Attributes:
        richness: expected demand R, decades, as `locate` measures it after training; mean over hidden layers.
        low, high: 90 % interval, from resampled probes and from the measured errors of forecasts (`ERRORS`).
        kernel_demand: expected kappa, decades. kernel_demand_on_target: kappa_a. kernel_intervals: name -> 90 %
            interval of these.
        regime: the word for R and kappa, see `geomfeat.location.regimes`: demand only, since nothing has happened yet.
        layers: a row for each hidden layer: layer, richness, low, high, movement, regime (by its features alone),
            kernel_share (of the kernel's change at the demand).
        movement: M of the linear training itself, decades, where R is below -.3; NaN elsewhere. excess: M - R.
        initial_loss, target_loss, loss_reached: over the loss of outputs 0: at the start, asked for (NaN for none), and
            that of the linear training.
        time: of gradient flow on the loss until then, in units of 1 / rate; with rates by group, of their mean.
        steps: of the given optimizer until then, in the linear range; NaN where its rate or its kind is not known.
        curvature: largest eigenvalue of the loss's Gauss-Newton Hessian at the start, in the metric.
        stable_rate: largest stable rate by the rule of `stable_rate`, momentum included; with rates by group, their
            mean. NaN for optimizers that divide by the size of gradients.
        rate: of the optimizer, mean over its parameters; NaN if not known. rate_place: where it lies: "flow", "near the
            edge", "catapult", "divergence", or "". momentum: of gradient descent.
        optimizer: its name, "" for plain gradient descent, which is assumed. metric: see `Location`.
        loss: "mse", "cross-entropy", or the name of a function. tangent: how many parameters will be trained.
        readout: what the outputs are.
        flags: sentences that say what limits the numbers, and where a forecast is known to fail. details: n_probes, ...
        origin: the network and what was asked about it, which `advise` takes; not written to JSON.

    `to_frame()`: one row for the model, layer "", and one for each hidden layer.
    """

    richness: float
    low: float
    high: float
    kernel_demand: float
    regime: str
    layers: pd.DataFrame
    loss: str
    initial_loss: float
    target_loss: float
    loss_reached: float
    time: float
    curvature: float
    stable_rate: float
    steps: float = math.nan
    rate: float = math.nan
    rate_place: str = ""
    momentum: float = 0.0
    kernel_demand_on_target: float = math.nan
    kernel_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    movement: float = math.nan
    excess: float = math.nan
    optimizer: str = ""
    metric: str = PLAIN
    tangent: str = ""
    readout: str = ""
    flags: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = field(default=None, repr=False)

    @property
    def proposed_rate(self) -> float:
        """Half of the largest stable rate without momentum: up to it, descent is nearly gradient flow."""
        return proposed_rate(self.stable_rate, self.momentum)

    @property
    def rate_share(self) -> float:
        """The given rate over the largest stable one; NaN where one of them is not known."""
        return self.rate / self.stable_rate

    def advise(self, target: float | str, *, wider: nn.Module | None = None, init_scale: bool = True) -> Advice:
        """What to change for another place: an output multiplier, the initial scale, rates by layer at another width.

        Each is verified by a forecast of the changed network, by the optimizer at the rates that go with it.

        Args:
            target: "lazy" or "rich" (the thresholds of the regimes, passed by .25 decades), or R itself.
            wider: the same network at another width, before training: an output multiplier and rates by layer for it.
            init_scale: whether to look for an initial scale too, which takes up to six more forecasts.

        Raises BadInput for a target that is none or cannot be reached, a forecast without its network (read from
        JSON), and a network that was trained since.

        Source: R falls by log10 c where centred outputs are multiplied by c (Chizat et al. 2019, equation 2).

        >>> import torch
        >>> from geomfeat.forecasting import forecast
        >>> from geomfeat.models.mlp import mlp
        >>> x = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
        >>> expected = forecast(mlp(5, (64,), 1, seed=0), x, x[:, 0], loss="mse")
        >>> advice = expected.advise("lazy", init_scale=False)
        >>> advice.best.regime, abs(advice.richness - advice.target) < 0.02
        ('lazy', True)
        """
        from geomfeat.forecasting.advising._advise import advise

        if self.origin is None:
            raise BadInput(
                "this forecast holds no network, since it was read from a file or made by hand: call "
                "geomfeat.forecast(model, inputs, targets, ...) again, and advise() on what it returns"
            )
        return advise(self, self.origin, target, wider=wider, init_scale=init_scale)

    def __str__(self) -> str:
        """One line: the expected place, the rates, and the largest caveat."""
        parts = [
            f"R = {self.richness:+.2f} [{self.low:+.2f}, {self.high:+.2f}] decades",
            f"kappa = {self.kernel_demand:+.2f}",
            f"{self.loss} {self.initial_loss:.3g} to {self.loss_reached:.3g}",
        ]
        parts += [] if math.isnan(self.steps) else [f"some {self.steps:.2g} steps if it stays linear"]
        if not math.isnan(self.stable_rate):
            own = f", given {self.rate:.3g}: {self.rate_place}" if self.rate_place else ""
            parts.append(f"stable up to a rate of {self.stable_rate:.3g}{own}")
        caveat = f"; {clause(self.flags[0])}" if self.flags else ""
        name = self.optimizer or "gradient descent"
        return f"expected {self.regime}: {', '.join(parts)} ({name}{caveat})"

    def to_json(self) -> str:
        """JSON text, without the network; NaN becomes null, infinities "inf" and "-inf"."""
        fields = json.loads(json_of(replace(self, origin=None)))
        return json.dumps({name: value for name, value in fields.items() if name != "origin"}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Forecast:
        """The inverse of `to_json`; also of the file of `geomfeat forecast --out`, but for the advice that it holds."""
        raw = {name: value for name, value in json.loads(text).items() if name not in (MADE_BY, ADVICE)}
        for name in NUMBERS:
            raw[name] = math.nan if raw[name] is None else float(raw[name])
        numbers = {name: float for name in COLUMNS if name not in ("layer", "regime")}
        raw["layers"] = pd.DataFrame(raw["layers"], columns=list(COLUMNS)).astype(numbers)
        raw["kernel_intervals"] = {name: (float(a), float(b)) for name, (a, b) in raw["kernel_intervals"].items()}
        raw["flags"] = tuple(raw["flags"])
        return cls(**raw)

    def to_html(self, path: str | Path, *, advice: Advice | None = None) -> Path:
        """Write the self-contained page of this forecast, with what `advise` found if it is given; returns the path."""
        from geomfeat.report.pages.forecast import write_forecast_page  # brings plotly

        return write_forecast_page(self, path, advice=advice)

    def to_frame(self) -> pd.DataFrame:
        """The model, layer "", and its hidden layers, one row each, with the columns of `layers`."""
        whole = {"layer": "", **{name: getattr(self, name) for name in WHOLE}, "kernel_share": math.nan}
        return pd.DataFrame([whole, *self.layers.to_dict("records")])

    def _chart(self) -> Plot:
        known = self.layers[self.layers["richness"].abs() < math.inf]
        half = (known["high"] - known["low"]) / 2
        return line_chart(
            f"expected: {self.regime}", "", "expected R, decades", range(len(known)), known["richness"].tolist(),
            half.tolist(), names=known["layer"].tolist(),
        )  # fmt: skip
