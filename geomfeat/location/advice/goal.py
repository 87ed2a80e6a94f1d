"""The demand R to aim at: a number, or a word of the rule in `geomfeat.location.regimes` with a margin.

Scaling the outputs moves R and kappa by the same number of decades, so a word that asks something of both is a bound on
R: with d = kappa - R,

    lazy:   R <= min(-.5, -.2 - d) - margin          rich:   R >= max(0, .1 - d) + margin
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.location.regimes import KERNEL_MOVED, KERNEL_RESTS, LAZY_BELOW, RICH_DEMAND

WORDS = ("lazy", "rich")
# Decades by which a word's thresholds are passed: more than 90 % of forecasts err by, those of attention with
# cross-entropy left out.
MARGIN = 0.25


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Attributes:
        richness: R to aim at. word: "lazy", "rich", or "" for a number. is_met: whether nothing has to change: a place
            beyond the word's thresholds is as good as one at them.
    """

    richness: float
    word: str = ""
    is_met: bool = False

    def __str__(self) -> str:
        return f"R = {self.richness:+.2f}" + (f" ({self.word})" if self.word else "")


def goal_of(target: Any, richness: float, kernel_demand: float) -> Goal:
    """The goal for a network at R and kappa (NaN where it is not known).

    Args:
        target: "lazy", "rich", or R itself, a finite number.

    Raises BadInput for another target, and for a network without hidden layers that move.

    >>> goal_of("lazy", richness=0.5, kernel_demand=0.2).richness
    -0.75
    >>> goal_of("rich", richness=0.0, kernel_demand=-0.4).richness, goal_of("rich", 1.0, 1.2).is_met
    (0.75, True)
    """
    if not math.isfinite(richness):
        raise BadInput(
            f"R is {richness}: no hidden layer is moved by the training, so no setting makes it lazier or richer; "
            "train hidden layers too, or start from another read-out than zero"
        )
    if isinstance(target, str) and target in WORDS:
        ahead = kernel_demand - richness if math.isfinite(kernel_demand) else math.nan
        if target == "lazy":
            bound = _least(LAZY_BELOW, KERNEL_RESTS - ahead) - MARGIN
            return Goal(min(bound, richness), "lazy", is_met=richness <= bound)
        bound = -_least(-RICH_DEMAND, -(KERNEL_MOVED - ahead)) + MARGIN
        return Goal(max(bound, richness), "rich", is_met=richness >= bound)
    number = math.nan
    if not isinstance(target, str | bool):
        try:
            number = float(target)
        except (TypeError, ValueError):
            number = math.nan
    if not math.isfinite(number):
        raise BadInput(f"target={target!r} must be 'lazy', 'rich', or the R to reach, a number of decades")
    return Goal(number)


def _least(a: float, b: float) -> float:
    return a if math.isnan(b) else min(a, b)
