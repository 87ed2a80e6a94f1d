"""What to change after a training, from where it was located: by the rule alone, for another run."""

from __future__ import annotations

import math

from geomfeat.errors import BadInput
from geomfeat.location.advice.change import AS_IT_IS, OUTPUTS, AdvisedChange
from geomfeat.location.advice.goal import goal_of
from geomfeat.location.advice.rescaling import Rescaling
from geomfeat.location.advice.result import Advice
from geomfeat.location.regimes import BEYOND_DEMAND, regime_without_start

CODE = """from geomfeat.location.advice import Rescaling, rescaled_groups
from geomfeat.regimes.training import with_scaled_outputs

changed = with_scaled_outputs(model, {c!r})  # model: with its initial weights
optimizer = type(optimizer)(rescaled_groups(model, changed, optimizer, Rescaling({c!r})))
model = changed"""


def advise_again(
    target: float | str, *, richness: float, low: float, high: float, kernel_demand: float, excess: float, frozen: bool,
    at_most: bool,
) -> Advice:  # fmt: skip
    """Advice for another training, from R with its interval, kappa and E of the last one; see `Location.advise`.

    >>> advice = advise_again(
    ...     -1.0, richness=0.5, low=0.4, high=0.6, kernel_demand=0.3, excess=0.0, frozen=False, at_most=False
    ... )
    >>> round(advice.multiplier, 2), round(advice.best.kernel_demand, 2), advice.best.regime
    (31.62, -1.2, 'lazy')
    """
    if frozen:
        raise BadInput("no hidden layer was trained, so no setting makes this training lazier or richer: train some")
    goal = goal_of(target, richness, kernel_demand)
    shift = goal.richness - richness
    c = float(f"{10**-shift:.4g}")
    regime = regime_without_start(goal.richness, False, math.nan, kernel_demand + shift)
    if goal.is_met:
        reason = f"It was {goal.word} already, beyond the thresholds by a margin."
        change = AdvisedChange(
            AS_IT_IS, richness, rescaling=Rescaling(speed=1.0), low=low, high=high, kernel_demand=kernel_demand,
            regime=regime, reason=reason,
        )  # fmt: skip
    else:
        way = "lazier" if c > 1 else "richer"
        rates = (
            f"divide the rate by {c * c:.3g} (SGD) or {c:.3g} (Adam)" if c > 1 else "keep the rate"
        ) + f", and multiply weight decay by {c * c:.3g} (AdamW: {c:.3g})"
        reason = f"To be {way} by {abs(shift):.2f} decades, train {c:.3g} (net - net0) from the same start; {rates}."
        change = AdvisedChange(
            OUTPUTS, goal.richness, multiplier=c, rescaling=Rescaling(c), low=low + shift, high=high + shift,
            kernel_demand=kernel_demand + shift, regime=regime, reason=reason, code=CODE.format(c=c),
        )  # fmt: skip
    return Advice(goal.richness, goal.word, richness, (change,), tuple(_flags(c, excess, at_most, goal.is_met)))


def _flags(c: float, excess: float, at_most: bool, is_met: bool) -> list[str]:
    found = []
    if excess > BEYOND_DEMAND:
        found.append(
            f"Features moved {10**excess:.2g} times as far as demanded (E = {excess:+.2f}): lower the rate, gradient "
            "noise or weight decay first; an output multiplier changes the demand alone."
        )
    if at_most:
        found.append("R is an upper bound: the multiplier for a richer training is one too, of its inverse.")
    if not is_met:
        found.append(
            "By the rule alone: outputs that were not centred, and a stop at another loss, make R another. "
            "geomfeat.forecast(with_scaled_outputs(model, c), ...) verifies it."
        )
    return found
