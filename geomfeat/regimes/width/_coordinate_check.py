"""The coordinate check: how far a typical unit of every layer has moved after each of the first steps, by width.

At the muP scale (r = 1/2) the curves are flat, at r they fall as n^(r - 1/2), and a layer whose curve blows up or dies
out is parameterized wrongly (Yang et al. 2021, appendix D.1, Tensor Programs V).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout
from geomfeat.models.nested_inputs import moved
from geomfeat.numerics import WORKING
from geomfeat.regimes.width.options import WidthOptions
from geomfeat.regimes.width.parallel_training import Family, Values, cast, over_seeds
from geomfeat.regimes.width.readings import find_sites, passed
from geomfeat.regimes.width.scaling import Build, Train, planned, trained
from geomfeat.statistics.power_law import WidthExponent, power_law


@dataclass(frozen=True, eq=False)
class CoordinateCheck(PlottableResult):
    """Root mean square change of a layer's coordinates since the start.

    Attributes:
        widths, seeds: as trained. layers: with a weight matrix, in call order; the last one or ones are read-out.
        changes: layer -> (steps, seeds, widths), after 1, 2, ... steps; NaN where a network diverged.

    `to_frame()`: one row for each layer, step, seed and width: layer, step, seed, width, change.
    """

    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    layers: tuple[str, ...]
    changes: dict[str, Tensor]

    def mean(self, layer: str, step: int = -1) -> Float[Tensor, "k"]:
        """Geometric mean over seeds, by width, after a step counted from 1; -1 is the last."""
        return self._at(layer, step).log().nanmean(0).exp()

    def exponent(self, layer: str, step: int = -1) -> WidthExponent:
        """The power of the width that the change scales with after a step counted from 1; -1 is the last."""
        return power_law(torch.tensor(self.widths, dtype=WORKING), self._at(layer, step))

    def _at(self, layer: str, step: int) -> Tensor:
        if layer not in self.changes:
            raise BadInput(f"no layer {layer!r}; there are: {', '.join(self.layers)}")
        known = self.changes[layer]
        if step == -1:
            return known[-1]
        if not 1 <= step <= len(known):
            raise BadInput(f"step={step} must be from 1 to {len(known)}, or -1 for the last")
        return known[step - 1]

    def _columns(self) -> dict[str, Any]:
        found: dict[str, list[Any]] = {"layer": [], "step": [], "seed": [], "width": [], "change": []}
        for layer, changes in self.changes.items():
            keys = product(range(1, len(changes) + 1), self.seeds, self.widths)
            for (step, seed, width), change in zip(keys, changes.flatten().tolist(), strict=True):
                for name, value in zip(found, (layer, step, seed, width, change), strict=True):
                    found[name].append(value)
        return found

    def _chart(self) -> Plot:
        curves = [Curve(layer, self.widths, self.mean(layer).tolist()) for layer in self.layers]
        return Plot("after the last step", "width", "change of a coordinate", curves, log_x=True, log_y=True)

    def __str__(self) -> str:
        powers = "; ".join(f"{layer}: n^{self.exponent(layer)}" for layer in self.layers)
        return f"CoordinateCheck of widths {', '.join(map(str, self.widths))}, {len(self.seeds)} seeds; {powers}"


def coordinate_check(
    build: Build,
    inputs: Any,
    targets: Any,
    widths: Sequence[int],
    *,
    r: float | None = None,
    gamma: float | None = None,
    train: Train | None = None,
    seeds: int | Sequence[int] = 4,
    steps: int = 5,
    progress: bool = False,
    options: WidthOptions = WidthOptions(),
) -> CoordinateCheck:
    """Record the change of every layer's coordinates on the training inputs over the first few steps.

    Args:
        As for `width_scaling`; but train takes ONE step: it is called `steps` times, each time with what it returned.

    Raises BadInput as `width_scaling` does.

    >>> from geomfeat.models.mlp import mlp
    >>> make = lambda width, seed: mlp(4, (width, width), 1, activation="tanh", parameterization="ntk", seed=seed)
    >>> found = coordinate_check(make, torch.eye(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), (64, 128, 256), r=0.5)
    >>> abs(found.exponent("fc2", step=1).exponent) < 0.1
    True
    """
    plan = planned(build, inputs, targets, widths, r=r, gamma=gamma, train=train, seeds=seeds, steps=steps,
                   options=options)  # fmt: skip
    nets, readout = plan.families(), options.readout
    layers = find_sites(nets[0], plan.inputs, readout).names
    batched = plan.batched(nets[0])
    ways = trained(plan, nets, train, steps=steps, wanted=range(1, steps + 1), batched=batched, progress=progress)
    columns = [
        [_changes(own, after, plan.inputs, layers, readout, batched) for after in path]
        for own, (path, _) in zip(nets, ways, strict=True)
    ]
    changes = {
        layer: torch.stack([torch.stack([column[step][layer] for column in columns], 1) for step in range(steps)])
        for layer in layers
    }
    return CoordinateCheck(plan.widths, plan.seeds, layers, changes)


def _changes(
    nets: Family, after: Values, inputs: Any, layers: tuple[str, ...], readout: Readout | None, batched: bool
) -> Values:
    """layer -> (S,) root mean square over samples and coordinates; NaN for weights that are not finite."""
    wide = nets.to(WORKING)
    after = cast(after, WORKING)
    data = moved(inputs, next(iter(after.values())).device, WORKING)

    def one(old: Values, new: Values) -> Values:
        h0, _, _ = passed(wide, old, data, layers, readout)
        h1, _, _ = passed(wide, new, data, layers, readout)
        return {name: (h1[name] - h0[name]).norm() / math.sqrt(h0[name].numel()) for name in layers}

    with torch.no_grad():
        found = over_seeds(one, batched)({**wide.fixed, **wide.start}, after)
    return {name: torch.where(torch.isfinite(t), t, torch.nan).cpu() for name, t in found.items()}
