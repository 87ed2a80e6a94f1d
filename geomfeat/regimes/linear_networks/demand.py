"""Demand R of two-layer linear networks in closed form: what linear response must give for the hidden features.

White inputs, y = W2 W1 x. A change D of the map is learned by the tangent kernel along W1'W1 and W2 W2'. Where both are
multiples of the identity, W1'W1 = a I and W2 W2' = b I, the flow leaves the share e of |D|^2 when the response is

    Dtheta_1 = r W2' D / (a + b),    r = 1 - sqrt(e),    R = log10( r sqrt(b) |D| / ((a + b) sqrt(a d)) ).
"""

import math

from geomfeat.errors import BadInput


def one_mode_demand(strength: float, threshold: float, inputs: int, share_left: float = 0.01) -> float:
    """R of learning one mode from wide random weights, decades: log10(strength / threshold) and a constant.

    Weights N(0, sigma^2) of width w >> inputs have a = b = sigma^2 w = threshold, so R = log10(strength / threshold) +
    log10((1 - sqrt(share_left)) / (2 sqrt(inputs))): the mode's threshold of activity is a fixed R (Tu, Aranguri and
    Jacot 2024, section 2). BadInput for values that are not positive.

    >>> round(one_mode_demand(10.0, 1.0, inputs=6), 4), round(one_mode_demand(100.0, 1.0, inputs=6), 4)
    (0.2641, 1.2641)
    """
    _positive(strength=strength, threshold=threshold, inputs=inputs, share_left=share_left)
    return math.log10((1 - math.sqrt(share_left)) * strength / (2 * threshold * math.sqrt(inputs)))


def balanced_demand(balance: float, start: float, change: float, share_left: float = 0.01) -> float:
    """R of turning a square lambda-balanced network, all modes at `start`, by a rotation times `change`, decades.

    a, b = (sqrt(lambda^2 + 4 start^2) -+ lambda) / 2 (Domine et al. 2024, lambda-balanced weights), so
    R = log10( (1 - sqrt(share_left)) change sqrt(b / a) / sqrt(lambda^2 + 4 start^2) ). It falls with slope -2 in
    log |lambda| for lambda < 0, where the first layer is large, and levels off for lambda > 0, where the first layer is
    small and does the learning. The second layer's backward features have R(-lambda), and the mean of the two falls
    with slope -1 on both sides. BadInput for a balance that is not finite, and for start, change
    or share_left that are not positive.

    >>> [round(balanced_demand(balance, 0.1, 1.0), 3) for balance in (-10.0, 0.0, 10.0)]
    [-3.046, 0.653, 0.954]
    """
    if not math.isfinite(balance):
        raise BadInput(f"balance={balance} must be a finite number")
    _positive(start=start, change=change, share_left=share_left)
    root = math.hypot(balance, 2 * start)
    # sqrt(b / a) = (root + lambda) / (2 start); for lambda < 0 without the difference that would cancel.
    ratio = (root + balance) / (2 * start) if balance >= 0 else 2 * start / (root - balance)
    return math.log10((1 - math.sqrt(share_left)) * change * ratio / root)


def _positive(**values: float) -> None:
    for name, value in values.items():
        fine = 0 < value < 1 if name == "share_left" else 0 < value < math.inf
        if not fine:
            raise BadInput(f"{name}={value} must be {'between 0 and 1' if name == 'share_left' else 'positive'}")
