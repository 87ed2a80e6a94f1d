"""A model's place between lazy and rich: the value that `locate` returns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.location.advice import Advice
from geomfeat.models.readouts.reading import PLAIN_OUTPUTS
from geomfeat.storage.owned_files import MADE_BY
from geomfeat.storage.plain_json import plain_json
from geomfeat.tangent.metric import PLAIN

# Shares of the kernel's change that are of the layer's own parameters: at the demand, and measured.
KERNEL_COLUMNS = ("kernel_share", "kernel_share_measured")
LAYER_COLUMNS = ("layer", "richness", "low", "high", "movement", "excess", "regime")
# What `Location.from_json` expects, by entry.
NUMBERS = ("richness", "low", "high", "movement", "excess")
KERNEL = ("kernel_demand", "kernel_demand_on_target", "kernel_change", "kernel_excess", "linearisation_gap")
NUMBERS_OR_NONE = ("floor", "equivalent_gamma", "gamma_low", "gamma_high")
KINDS = {"tier": str, "regime": str, "at_most": bool, "tangent": str, "metric": str, "readout": str, "details": dict}


@dataclass(frozen=True, eq=False)
class Location(PlottableResult):
    """Where a model sits between lazy and rich, with an interval and flags that say what limits the number.

    Attributes:
        richness: demand R, decades: log10 of how far the hidden features would have had to move, relative to their
            size, if the network were linear in its parameters and learned the same function. Mean over layers.
        low, high: 90 % interval of R, from resampled probes and, where they are used, fresh initialisations; the upper
            end also covers what the last doubling of the number of probes added, the lower end what projecting many
            outputs on few was seen to add (.5).
        movement: M, how far they moved. excess: E = M - R.
        tier: "initial" (the true initial weights were given) or "reinitialised" (fresh draws from the factory).
        floor: R between two re-initialisations, the smallest meaningful R in that tier; None for tier "initial".
        at_most: R lies below floor + .3, so it is only an upper bound.
        regime: a word, see `MEANINGS` and `regime_of`; "mixed by layer" is a flag, since it says something about
            `layers`. "frozen" if no hidden layer moved; R is then the demand with every parameter free to move.
        layers: one row per hidden layer: R with its interval, M, E, the regime by its features alone, kernel_share and
            kernel_share_measured (shares of the kernel's change that are of the layer's own parameters, at the demand
            and measured; what is left is of the read-out). Frozen ones (M = -inf) are in no mean.
        flags: sentences that say what limits the number.
        by_probes: R against the number of probes (columns n_probes, richness).
        details: n_probes, n_outputs, epsilon, method, seed, ...
        equivalent_gamma: output scale at which the reference networks have this R (None without a ladder);
            with gamma_low, gamma_high; ladder: the rungs (gamma, richness, train_loss, ...).
        tangent: how many parameters moved (or are assumed to have moved); they span the tangent space of R.
        metric: what the rates of the parameters rest on: "given rates", "Adam state", "gradient at the start" (of an
            adaptive optimizer without its state) or "plain: not known".
        kernel_demand: kappa, decades: by what factor the learned change exceeds the largest one for which the tangent
            kernel stays put, on at most 512 rows of it; mean over fresh starts, where there are several.
            kernel_demand_on_target: kappa_a, of the part of the kernel that acts on the change.
        kernel_change: |K_T - K_0| / |K_0|, measured. kernel_excess: log10 of it less that of the change at the linear
            response. linearisation_gap: |f_T - f_lin| / |f_T - f_0| on the probes. NaN without the initial weights.
        kernel_intervals: name of one of these five -> 90 % interval, over resampled probes and fresh starts.
        readout: what was read as the outputs, in words ("last token, logits less their mean").

    `to_frame()`: one row for the model, layer "", and one for each hidden layer: the columns of `layers`, and readout.
    """

    richness: float
    low: float
    high: float
    movement: float
    excess: float
    tier: str
    floor: float | None
    at_most: bool
    regime: str
    layers: pd.DataFrame
    flags: tuple[str, ...] = ()
    by_probes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"n_probes": [], "richness": []}))
    details: Mapping[str, Any] = field(default_factory=dict)
    equivalent_gamma: float | None = None
    gamma_low: float | None = None
    gamma_high: float | None = None
    ladder: pd.DataFrame | None = None
    tangent: str = ""
    metric: str = PLAIN
    kernel_demand: float = math.nan
    kernel_demand_on_target: float = math.nan
    kernel_change: float = math.nan
    kernel_excess: float = math.nan
    linearisation_gap: float = math.nan
    kernel_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    readout: str = ""

    @property
    def is_frozen(self) -> bool:
        """Whether no hidden layer moved; R is then hypothetical, not a place of the model."""
        return self.regime == "frozen"

    def advise(self, target: float | str) -> Advice:
        """What to change in another training from the same start, to be lazier or richer.

        An output multiplier with the rates and the weight decay that go with it, by the rule that R and kappa fall by
        log10 c where centred outputs are multiplied by c; `Forecast.advise` verifies advice, before a training.

        Args:
            target: "lazy" or "rich" (the thresholds of the regimes, passed by .25 decades), or R itself.

        Raises BadInput for a target that is none, and a network whose hidden layers were not trained.
        """
        from geomfeat.location.advice.after_training import advise_again

        return advise_again(
            target, richness=self.richness, low=self.low, high=self.high, kernel_demand=self.kernel_demand,
            excess=self.excess, frozen=self.is_frozen, at_most=self.at_most,
        )  # fmt: skip

    def __str__(self) -> str:
        """One line: what was found, what it rests on, and the largest caveat."""
        bound = "at most " if self.at_most else ""
        parts = [
            f"R = {bound}{self.richness:+.2f} [{self.low:+.2f}, {self.high:+.2f}] decades",
            f"M = {self.movement:+.2f}",
            f"E = {self.excess:+.2f}",
        ]
        parts += [] if math.isnan(self.kernel_demand) else [f"kappa = {self.kernel_demand:+.2f}"]
        parts += [] if math.isnan(self.linearisation_gap) else [f"gap {self.linearisation_gap:.2f}"]
        start = "true initial weights" if self.tier == "initial" else "fresh initial weights"
        caveat = f"; {clause(self.flags[0])}" if self.flags else ""
        read = f"; outputs: {self.readout}" if self.readout not in ("", PLAIN_OUTPUTS) else ""
        rates = self.metric.removeprefix("plain: ")
        return f"{self.regime}: {', '.join(parts)} ({start}; rates: {rates}{read}{caveat})"

    def to_json(self) -> str:
        """JSON text; NaN becomes null, infinities "inf" and "-inf"."""
        return json_of(self)

    @classmethod
    def from_json(cls, text: str) -> Location:
        """The inverse of `to_json`; also of a saved study's `location.json`, which carries geomfeat's mark.

        Raises ValueError, naming the entry, for one of another kind than it was written with.
        """
        raw = {name: value for name, value in json.loads(text).items() if name != MADE_BY}
        for name in (*NUMBERS, *KERNEL):
            value = raw.get(name) if name in KERNEL else raw[name]
            raw[name] = math.nan if value is None else float(value)
        for name in NUMBERS_OR_NONE:
            raw[name] = None if raw.get(name) is None else float(raw[name])
        raw["layers"] = pd.DataFrame(raw["layers"]).astype({c: float for c in LAYER_COLUMNS[1:-1] if raw["layers"]})
        by_probes = pd.DataFrame(raw["by_probes"], columns=["n_probes", "richness"])
        raw["by_probes"] = by_probes.astype({"n_probes": int, "richness": float})
        rungs = None if raw.get("ladder") is None else pd.DataFrame(raw["ladder"])
        drawn = () if rungs is None else {"gamma", "richness", "train_loss"} & set(rungs)
        raw["ladder"] = rungs if rungs is None else rungs.astype(dict.fromkeys(drawn, float))
        raw["kernel_intervals"] = {
            name: (float(a), float(b)) for name, (a, b) in raw.get("kernel_intervals", {}).items()
        }
        raw["flags"] = tuple(raw["flags"])
        for name, kind in KINDS.items():
            if not isinstance(raw.get(name, kind()), kind):
                raise ValueError(f"{name} is {raw[name]!r}, not of type {kind.__name__}")
        if not all(isinstance(flag, str) for flag in raw["flags"]):
            raise ValueError(f"flags are {raw['flags']!r}, not sentences")
        return cls(**raw)

    def to_frame(self) -> pd.DataFrame:
        """The model, layer "", and its hidden layers, one row each, with the columns of `layers` and the readout."""
        whole = {name: getattr(self, name) for name in LAYER_COLUMNS[1:]}
        rows = pd.DataFrame([{"layer": "", **whole}, *self.layers.to_dict("records")])
        return rows.assign(readout=self.readout)

    def _chart(self) -> Plot:
        names, richness = list(self.layers["layer"]), _finite(self.layers["richness"])
        plot = line_chart(str(self.regime), "", "decades", range(len(names)), richness, names=names)
        movement = Curve("movement M", range(len(names)), _finite(self.layers["movement"]))
        return replace(plot, curves=[replace(plot.curves[0], label="richness R"), movement])


def json_of(result: Any) -> str:
    """The fields of a dataclass as JSON text, tables row by row; NaN becomes null, infinities "inf" and "-inf"."""
    fields = {k: v for k, v in result.__dict__.items() if not isinstance(v, pd.DataFrame)}
    frames = {k: v.to_dict("records") for k, v in result.__dict__.items() if isinstance(v, pd.DataFrame)}
    return json.dumps(plain_json({**fields, **frames}), indent=2, allow_nan=False)


def clause(flag: str) -> str:
    """The first clause of a flag.

    >>> clause("R still rises by 0.20 decades from 20 to 40 probes: it is a lower bound.")
    'R still rises by 0.20 decades from 20 to 40 probes'
    """
    return re.split(r"[:,.](?= |$)", flag, maxsplit=1)[0]


def _finite(values: Any) -> list[float]:
    """The values that can be drawn: NaN for infinite ones."""
    return [value if math.isfinite(value) else math.nan for value in values]
