"""The initial scale at which a network has a given R: searched by forecasts, as only some networks have a rule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from geomfeat.errors import BadInput
from geomfeat.forecasting.advising.changed_forecast import Changed, speed_ratio
from geomfeat.forecasting.origin import Origin
from geomfeat.forecasting.result import Forecast
from geomfeat.location.advice.rescaling import Rescaling
from geomfeat.models.functional import unwrapped

if TYPE_CHECKING:
    from geomfeat.forecasting._forecast import ExpectedRichness

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)
FIRST, FURTHEST = math.log10(1.5), math.log10(30.0)  # decades of scale: of the first trial, and of any
NEAR, MOST = 0.03, 5  # decades of R that end the search, and trials
KNOB = 0.2  # least |dR / dlog scale| of a network that the initial scale moves


def scales_of(model: nn.Module, factor: float) -> dict[str, float]:
    """The factor by module: all that hold parameters, but normalisations, whose scale is that of their outputs.

    The read-out is among them: alone it changes what R reads, and hardly what is learned.

    >>> scales_of(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 1)), 0.5)
    {'0': 0.5, '2': 0.5}
    """
    return {
        name: factor
        for name, module in unwrapped(model).named_modules()
        if not isinstance(module, NORMS) and next(module.parameters(recurse=False), None) is not None
    }


def search_scale(
    origin: Origin, base: Forecast, wanted: float, multiplier: float = math.nan
) -> tuple[Changed, float] | None:
    """The changed network whose R is nearest to `wanted`, with that R; None where the scale moves R too little.

    Normalisation, biases and outputs that are not 0 at the start leave no single rule, so the slope is measured, and
    followed by secants. `multiplier`: of centred outputs; NaN for outputs as they are.
    """
    tried = [(0.0, base.richness)]
    best: tuple[float, Changed, ExpectedRichness] | None = None
    at = math.copysign(FIRST, base.richness - wanted)
    for _ in range(MOST):
        scales = scales_of(origin.model, float(f"{10**at:.4g}"))
        trial = Changed(origin, multiplier, scales, Rescaling(speed=1.0))
        try:
            found = trial.expected()
        except BadInput:  # outputs so large that the target is reached, or no longer finite
            break
        if not math.isfinite(found.richness):
            break
        miss = abs(found.richness - wanted)
        if best is None or miss < best[0]:
            best = miss, trial, found
        tried.append((at, found.richness))
        slope = (tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
        if miss < NEAR or abs(slope) < KNOB or slope > 0 or abs(at) == FURTHEST:
            break
        following = at + (wanted - found.richness) / slope
        at = max(-FURTHEST, min(FURTHEST, following))
        if any(abs(at - other) < 1e-3 for other, _ in tried):
            break
    if best is None or best[0] >= abs(base.richness - wanted):
        return None
    _, trial, found = best
    return replace(trial, rescaling=Rescaling(speed=speed_ratio(base, found))), found.richness
