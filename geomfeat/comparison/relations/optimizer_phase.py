"""How a training ran: like gradient flow, through a catapult, at the edge of stability, or not to an end."""

from __future__ import annotations

import math

FLOW, CATAPULT, EDGE, DIVERGED, FAILED = "flow", "catapult", "edge of stability", "diverged", "failed"
BEYOND = (CATAPULT, EDGE)
# Gradient descent on a quadratic is stable while eta * curvature is below 2. A run that ends within a tenth of that
# value is at the edge of stability: the curvature at one step fluctuates about it.
LIMIT, HELD = 2.0, 1.8


def against_limit(optimizer: str, momentum: float) -> float:
    """What eta * curvature is multiplied by so that the limit of stability is 2; NaN for an optimizer without one.

    Plain gradient descent 1; with Nesterov momentum b (1 + 2 b) / (1 + b) (Cohen et al. 2021, appendix B). The steps of
    Adam are set by the size of the gradient: the curvature that would limit them is another one.

    >>> against_limit("sgd", 0.0), round(against_limit("sgd", 0.9), 3), against_limit("adam", 0.0)
    (1.0, 1.474, nan)
    """
    return (1 + 2 * momentum) / (1 + momentum) if optimizer == "sgd" else math.nan


def phase_of(outcome: str, note: str, stability: float, last_stability: float) -> str:
    """The phase of one training, or "" if it is unknown.

    Words in `note` or `outcome` come first. Else from stability = eta * largest curvature, on the scale of
    `against_limit`, NaN where it is unknown: a start above 2 that did not diverge is a catapult (Lewkowycz et al.
    2020), an end near 2 or above is the edge of stability (Cohen et al. 2021), and the rest is flow.

    >>> phase_of("matched", "", 0.3, 0.5), phase_of("matched", "", 3.0, 1.0), phase_of("diverged", "", 5.0, 7.0)
    ('flow', 'catapult', 'diverged')
    """
    if outcome.lower() == FAILED:
        return FAILED
    for words in (outcome.lower(), note.lower()):
        for phase in (DIVERGED, CATAPULT, EDGE):
            if phase in words:
                return phase
    if note.lower().split(":")[0].strip() in (FLOW, "gradient flow"):
        return FLOW
    if math.isnan(stability):
        return ""
    if stability >= LIMIT:
        return CATAPULT
    return EDGE if last_stability >= HELD else FLOW
