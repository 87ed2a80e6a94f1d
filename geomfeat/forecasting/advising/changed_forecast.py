"""A forecast of a changed network by the optimizer that goes with it."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geomfeat.forecasting.origin import Origin
from geomfeat.forecasting.result import Forecast
from geomfeat.location.advice.change import changed_network
from geomfeat.location.advice.rescaling import Rescaling, rescaled_groups
from geomfeat.models.functional import unwrapped
from geomfeat.tangent.optimizer_rates import optimizer_rates

if TYPE_CHECKING:
    from geomfeat.forecasting._forecast import ExpectedRichness

# Share of what is to be learned that the first step of an optimizer which divides by gradients may change outputs by.
FIRST_STEP = 0.5


@dataclass(frozen=True, eq=False)
class Changed:
    """A network with changed outputs or initial weights, and its optimizer.

    Attributes:
        origin: of the forecast. multiplier, init_scale: see `AdvisedChange`. rescaling: of the optimizer.
    """

    origin: Origin
    multiplier: float = math.nan
    init_scale: Mapping[str, float] = field(default_factory=dict)
    rescaling: Rescaling = field(default_factory=Rescaling)

    def forecast(self) -> Forecast:
        """Of the changed network."""
        from geomfeat.forecasting._forecast import forecast

        changed = changed_network(self.origin.model, self.multiplier, self.init_scale)
        return forecast(changed, self.origin.inputs, self.origin.targets, **self._arguments(changed))

    def expected(self) -> ExpectedRichness:
        """R of the changed network, in a fraction of the time."""
        from geomfeat.forecasting._forecast import expected_richness

        changed = changed_network(self.origin.model, self.multiplier, self.init_scale)
        return expected_richness(changed, self.origin.inputs, self.origin.targets, **self._arguments(changed))

    def safely(self) -> tuple[Changed, Forecast]:
        """The same at a rate that is stable by its forecast, and the forecast at that rate.

        Lower rates make neither R nor kappa another, unless a number of steps ends the training.
        """
        found = self.forecast()
        factor = safe_factor(found)
        if factor == 1.0:
            return self, found
        rate = self.rescaling.rate_factor(adaptive_of(self.origin)) * factor
        slower = replace(self, rescaling=replace(self.rescaling, rate=rate))
        return slower, slower.forecast()

    def _arguments(self, changed: nn.Module) -> dict[str, Any]:
        return {**self.origin.arguments, "optimizer": self._optimizer(changed)}

    def groups(self, rate: float) -> tuple[nn.Module, list[dict[str, Any]]]:
        """The changed network and the groups of its optimizer, at `rate` where none was given."""
        changed = changed_network(self.origin.model, self.multiplier, self.init_scale)
        return changed, rescaled_groups(self.origin.model, changed, self.origin.optimizer, self.rescaling, rate)

    def _optimizer(self, changed: nn.Module) -> Any:
        given = self.origin.optimizer
        if given is None:
            return None
        if isinstance(given, torch.optim.Optimizer):
            return rebound(given, self.origin.model, changed, self.rescaling)
        rates = optimizer_rates(given, self.origin.model)
        factor = self.rescaling.rate_factor(bool(rates.adaptive | rates.orthogonal))
        by_parameter = self.rescaling.by_parameter
        scaled = {name: rate * factor * by_parameter.get(name, 1.0) for name, rate in rates.rates.items()}
        return replace(rates, rates=scaled)


def adaptive_of(origin: Origin) -> bool:
    """Whether the optimizer of a forecast divides by the size of gradients."""
    if origin.optimizer is None:
        return False
    rates = optimizer_rates(origin.optimizer, origin.model)
    return bool(rates.adaptive | rates.orthogonal)


def safe_factor(expected: Forecast) -> float:
    """By what a rate must be multiplied to be at most the proposed one, or its first step half of what is learned.

    1 where no rate is proposed: the kernel's demand is beyond all measure, so no rate is known to be stable.
    """
    first = float(expected.details.get("first_step", math.nan))
    if first > FIRST_STEP:
        return FIRST_STEP / first
    if not expected.proposed_rate > 0:
        return 1.0
    over = expected.rate / expected.proposed_rate
    return 1.0 / over if over > 1.0 else 1.0


def speed_ratio(base: Forecast, changed: ExpectedRichness) -> float:
    """q: how fast the changed network learns at one rate, beside the base: by curvature, or by Adam's first step."""
    before = float(base.details.get("first_step", math.nan)) / base.rate
    after = changed.first_step / changed.rate
    if math.isfinite(after) and before > 0:
        return after / before
    return changed.curvature / base.curvature if base.curvature > 0 and changed.curvature > 0 else 1.0


def rebound(given: torch.optim.Optimizer, model: nn.Module, changed: nn.Module, rescaling: Rescaling) -> Any:
    """A copy of the optimizer that holds the parameters of the changed network, at rescaled rates."""
    other = copy.copy(given)  # its class may take other arguments than its groups hold
    other.param_groups = rescaled_groups(model, changed, given, rescaling)
    own = dict(unwrapped(changed).named_parameters())
    names = {id(p): name for name, p in unwrapped(model).named_parameters()}
    state: defaultdict[Tensor, Any] = defaultdict(dict)
    for p, kept in given.state.items():
        place = own[names[id(p)]]
        if place.shape == p.shape:
            state[place] = copy.deepcopy(kept)
    other.state = state
    return other
