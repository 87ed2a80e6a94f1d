"""What width scaling found: readings, their exponents, Karkada's three criteria, and the richness r they amount to."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.special import ndtri
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.display import BaseResult, PlottableResult
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING
from geomfeat.statistics.power_law import WidthExponent, mean_with_interval, power_law, slopes

# Known parameterizations differ by half powers of the width, so what is nearer to 0 than to 1/2 counts as 0.
MARGIN = 0.25
SHARES = {"direct_share": "direct", "inherited_share": "inherited"}
# Exponents as (a, b) in a + b r; quantities of `geomfeat.regimes.width.readings`, shares of the feature change.
THEORY = {
    "feature_change": (0.0, 1.0), "direct": (0.0, 1.0), "inherited": (0.0, 1.0), "spectral_update": (-0.5, 1.0),
    "initial_output": (0.0, -1.0), "output_change": (0.0, 0.0), "useful_update": (0.0, 0.0),
    "second_order": (-1.0, 2.0), "direct_share": (0.0, 0.0), "inherited_share": (0.0, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """One number of one network; layer "" is the network itself. Where ok is False, note says why."""

    width: int
    seed: int
    layer: str
    quantity: str
    value: float
    ok: bool = True
    note: str = ""


@dataclass(frozen=True)
class Scaling:
    """A quantity's exponent in the width, and the predicted one at the r of the training (None: r unknown)."""

    quantity: str
    layer: str
    law: WidthExponent
    expected: float | None


@dataclass(frozen=True)
class Criterion:
    """One of Karkada's criteria at one layer ("": the network). It requires an exponent of 0.

    nontriviality: |change of f| ~ 1. useful update: |W_l Dh_(l-1)| ~ |Dh_l|, what the layers before learned arrives;
    at the network, |change of f with the read-out's old weights| ~ 1. maximality: |DW_l h_(l-1)| ~ |Dh_l|, the layer's
    own update counts.
    """

    name: str
    layer: str
    law: WidthExponent

    @property
    def verdict(self) -> str:
        """ "holds", "violated" (nearer to another half power, and an interval without 0) or "unclear"."""
        value = abs(self.law.exponent)
        if value <= MARGIN and max(abs(self.law.low), abs(self.law.high)) <= 2 * MARGIN:
            return "holds"
        excludes = self.law.low > 0 or self.law.high < 0
        return "violated" if value > MARGIN and excludes else "unclear"

    def __str__(self) -> str:
        where = f" at {self.layer}" if self.layer else ""
        return f"{self.name}{where} (exponent {self.law}, expected 0)"


@dataclass(frozen=True, eq=False)
class WidthScaling(PlottableResult):
    """Readings of all networks, tidy, and what follows from them.

    Attributes:
        widths, seeds: as trained. r: of the training, None where it was the user's own.
        hidden, readout: layers with a weight matrix, in call order.
        readings: one per number. Quantities: see `geomfeat.regimes.width.readings`, and train_loss.

    `to_frame()`: one row for each reading: width, seed, layer, quantity, value, ok, note.
    """

    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    r: float | None
    hidden: tuple[str, ...]
    readout: tuple[str, ...]
    readings: tuple[Reading, ...]

    def values(self, quantity: str, layer: str = "") -> Float[Tensor, "s k"]:
        """(seeds, widths) values, NaN where there is none; also "direct_share" and "inherited_share" of a layer."""
        if quantity in SHARES:
            return self.values(SHARES[quantity], layer) / self.values("feature_change", layer)
        found = [x for x in self.readings if x.quantity == quantity and x.layer == layer]
        if not found:
            known = sorted({(x.quantity, x.layer) for x in self.readings})
            raise BadInput(f"no reading of {quantity!r} at layer {layer!r}; there are: {known}")
        out = torch.full((len(self.seeds), len(self.widths)), math.nan, dtype=WORKING)
        for x in found:
            out[self.seeds.index(x.seed), self.widths.index(x.width)] = x.value if x.ok else math.nan
        return out

    def exponent(self, quantity: str, layer: str = "") -> WidthExponent:
        """The exponent of a quantity in the width, with its interval."""
        return power_law(self._n, self.values(quantity, layer))

    def expected(self, quantity: str) -> float | None:
        """The exponent that theory has for a quantity at this r."""
        if self.r is None or quantity not in THEORY:
            return None
        a, b = THEORY[quantity]
        return a + b * self.r

    @property
    def exponents(self) -> tuple[Scaling, ...]:
        """Exponents of all that was read and scales with the width."""
        seen = dict.fromkeys((x.quantity, x.layer) for x in self.readings if x.quantity in THEORY)
        laws = [(q, layer, self.exponent(q, layer)) for q, layer in seen]
        return tuple(Scaling(q, layer, law, self.expected(q)) for q, layer, law in laws if law.n_seeds)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The three criteria. A layer on data has no maximality criterion: all its change is direct."""
        found = [Criterion("nontriviality", "", self.exponent("output_change")),
                 Criterion("useful update", "", self.exponent("useful_update"))]  # fmt: skip
        for layer in (*self.hidden, *self.readout):
            if self._inherits(layer):
                found.append(Criterion("useful update", layer, self.exponent("inherited_share", layer)))
                found.append(Criterion("maximality", layer, self.exponent("direct_share", layer)))
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the fits."""
        lost: dict[tuple[int, str], dict[int, None]] = {}
        for x in self.readings:
            if not x.ok and x.note:
                lost.setdefault((x.width, x.note), {})[x.seed] = None
        return tuple(
            f"width {width}, seed {', '.join(map(str, seeds))} left out: {note}"
            for (width, note), seeds in lost.items()
        )

    @property
    def _n(self) -> Tensor:
        return torch.tensor(self.widths, dtype=WORKING)

    def _inherits(self, layer: str) -> bool:
        """Whether the layer's input changed; False for layers on data."""
        return bool((self.values("inherited", layer) > 0).any())

    def tied(self) -> dict[tuple[str, str], Float[Tensor, "s"]]:
        """The r of every seed by every exponent that theory ties to it: features, updates, initial output.

        Updates of layers between hidden ones only: the norm of a random (n, d) matrix is sqrt(n) + sqrt(d), which is
        no power of n where d, the size of the data or the output, stays.
        """
        keys = [("feature_change", layer) for layer in self.hidden]
        keys += [("spectral_update", layer) for layer in self.hidden if self._inherits(layer)]
        keys += [("initial_output", "")]
        found = {}
        for quantity, layer in keys:
            a, b = THEORY[quantity]
            slope = (slopes(self._n, self.values(quantity, layer)) - a) / b
            if bool(torch.isfinite(slope).any()):
                found[quantity, layer] = slope
        return found

    def __str__(self) -> str:
        """The exponents that were expected and found, and the verdict."""
        asked = "own training" if self.r is None else f"r = {self.r:g}"
        lines = [f"widths {', '.join(map(str, self.widths))}, {len(self.seeds)} seeds, {asked}"]
        for x in self.exponents:
            theory = "" if x.expected is None else f" (theory {x.expected:g})"
            lines.append(f"{x.quantity} {x.layer}".rstrip() + f": n^{x.law}{theory}")
        return "\n".join([*lines, str(richness_of(self)), *self.notes])

    def _columns(self) -> dict[str, Any]:
        names = ("width", "seed", "layer", "quantity", "value", "ok", "note")
        return {name: [getattr(reading, name) for reading in self.readings] for name in names}

    def _chart(self) -> Plot:
        means = {layer: self.values("feature_change", layer).log().nanmean(0).exp() for layer in self.hidden}
        curves = [Curve(layer, self.widths, mean.tolist()) for layer, mean in means.items()]
        return Plot("change of features", "width", "relative change", curves, log_x=True, log_y=True)


@dataclass(frozen=True)
class RichnessEstimate(BaseResult):
    """The richness r of a family of networks, 0 lazy and 1/2 rich.

    Attributes:
        r, low, high: median over all exponents that theory ties to r, weighted by their precision, mean over seeds;
            95 % interval from the scatter of seeds and the disagreement of the exponents together.
        by_layer: r of every hidden layer, by its feature change alone.
        violations: criteria that are violated, and layers that train at another r, in words. unclear: not decided.

    `to_frame()`: one row for the family, layer "", and one for each hidden layer: layer, r, low, high.
    """

    r: float
    low: float
    high: float
    by_layer: dict[str, WidthExponent]
    violations: tuple[str, ...]
    unclear: tuple[str, ...]

    def __str__(self) -> str:
        text = f"this family trains at r = {self.r:.2f} ± {0.5 * (self.high - self.low):.2f}"
        text += "; violates " + "; ".join(self.violations) if self.violations else "; violates no criterion"
        return text + ("; unclear: " + "; ".join(self.unclear) if self.unclear else "")

    def _columns(self) -> dict[str, Any]:
        laws = self.by_layer.values()
        return {
            "layer": ["", *self.by_layer],
            "r": [self.r, *(law.exponent for law in laws)],
            "low": [self.low, *(law.low for law in laws)],
            "high": [self.high, *(law.high for law in laws)],
        }


def richness_of(scaling: WidthScaling) -> RichnessEstimate:
    """The r that a family's exponents amount to, and the criteria it violates.

    Raises BadInput where no network trained at three widths.
    """
    tied = list(scaling.tied().values())
    if not tied:
        notes = "; ".join(scaling.notes) or "all changes are zero"
        raise BadInput(f"no exponent could be fitted ({notes}): lower lr, or give more widths and seeds")
    table = torch.stack(tied)
    table = table[:, torch.isfinite(table).any(0)]
    weights = _weights(table)
    r, half = _centre(torch.stack([_median(column, weights) for column in table.T]))
    half = math.hypot(half, _disagreement(torch.nanmean(table, 1), weights))
    by_layer = {layer: scaling.exponent("feature_change", layer) for layer in scaling.hidden}
    broken = [str(c) for c in scaling.criteria if c.verdict == "violated"]
    for layer, law in by_layer.items():
        if abs(law.exponent - r) > MARGIN and not law.low <= r <= law.high:
            broken.append(f"one richness for all layers at {layer} (its features change as n^{law})")
    unclear = tuple(str(c) for c in scaling.criteria if c.verdict == "unclear")
    return RichnessEstimate(r, r - half, r + half, by_layer, tuple(broken), unclear)


def _weights(table: Tensor) -> Tensor:
    """(q,) one over the scatter of every exponent over seeds; equal where a single seed shows none."""
    spread = torch.stack([row[torch.isfinite(row)].std(correction=0) for row in table])
    return 1.0 / spread if bool((spread > 0).all()) else torch.ones_like(spread)


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted median without NaN, between the two middle values where the weights balance."""
    kept = torch.isfinite(values)
    values, order = values[kept].sort()
    share = weights[kept][order].cumsum(0) / weights[kept].sum()
    low = values[int((share < 0.5 - 1e-9).sum())]
    high = values[int((share < 0.5 + 1e-9).sum())]
    return 0.5 * (low + high)


def _centre(per_seed: Tensor) -> tuple[float, float]:
    """Mean over seeds and half its interval (0 for one seed)."""
    if len(per_seed) == 1:
        return float(per_seed[0]), 0.0
    law = mean_with_interval(per_seed)
    return law.exponent, 0.5 * (law.high - law.low)


def _disagreement(values: Tensor, weights: Tensor) -> float:
    """Half a 95 % interval of the weighted median of exponents that scatter about one r, by their median deviation."""
    deviation = 1.4826 * float(_median((values - _median(values, weights)).abs(), weights))
    effective = float(weights.sum().square() / weights.square().sum())
    return float(ndtri(0.975)) * math.sqrt(math.pi / 2 / effective) * deviation
