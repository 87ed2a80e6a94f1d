"""What theory says about the slope of a location on a condition, on log10 axes, and whether a measured slope agrees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Networks whose output is homogeneous in all weights together (biases aside), with depth + 1 layers of weights.
HOMOGENEOUS = ("mlp", "linear", "cnn")
# Networks of the user's own are trained by any optimizer to any loss: of these axes alone something is known.
OWN, OF_OWN = "own", ("gamma", "alpha")
# Theory is asymptotic: slopes of finite networks are within about .06 of it. An interval that comes this close agrees.
MARGIN = 0.1
# An interval with a larger half-width is no test of any of these numbers, which are .5 apart.
TOO_WIDE = 0.5
POSITIVE = "> 0"


@dataclass(frozen=True)
class Expected:
    """A slope by theory: a number, or its sign alone (slope NaN, text "> 0"), with the reason."""

    slope: float
    text: str
    reason: str


def expected_slope(
    quantity: str, axis: str, facts: Mapping[str, object], *, cells: str = "all", first: bool | None = None
) -> Expected | None:
    """The slope of a location's `quantity` on log10 of `axis`; None without a theory for it.

    Args:
        quantity: "richness" or "excess". axis: a condition, e.g. "sigma".
        facts: conditions that are the same for all these trainings: architecture, depth, parameterization, centred; and
            where they set the output scale, the means of r and of gamma0 over them, with that of log_width.
        cells: "all", "flow" or "beyond flow", see `geomfeat.comparison.relations._relate`.
        first: whether it is of the first hidden layer; None for the mean over hidden layers.

    >>> expected_slope("richness", "sigma", {"architecture": "mlp", "depth": 2, "parameterization": "standard"}).slope
    -3.0
    """
    if facts.get("parameterization") == OWN and axis not in OF_OWN:
        return None
    if quantity == "excess" and axis == "eta":
        if cells == "beyond flow":
            return Expected(math.nan, POSITIVE, "steps beyond gradient flow move features further than required")
        return _number(0.0, "gradient flow does not depend on its step") if cells == "flow" else None
    if quantity != "richness":
        return None
    if axis == "eta":
        return _number(0.0, "R is the movement that the linear response would need, whatever the size of the steps")
    if axis in ("gamma", "gamma0", "alpha"):
        sign = -1.0 if axis == "alpha" else 1.0
        return _number(sign, "the required change of the network is proportional to gamma (Chizat et al. 2019)")
    if axis == "sigma":
        return _scale(facts)
    if axis == "r" and "log_width" in facts:
        return _number(float(str(facts["log_width"])), "gamma = width^r: a decade for each decade of width")
    return _width(facts, first) if axis == "width" else None


def agreement(expected: Expected | None, low: float, high: float) -> str:
    """ "agrees", "differs", "too wide to tell", or "" without theory or interval.

    >>> agreement(_number(-3.0, ""), -3.2, -2.9), agreement(_number(-3.0, ""), -2.5, -2.3)
    ('agrees', 'differs')
    """
    if expected is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if math.isnan(expected.slope):
        return "agrees" if low > 0 else "differs" if high < 0 else "too wide to tell"
    if not low - MARGIN <= expected.slope <= high + MARGIN:
        return "differs"
    return "too wide to tell" if (high - low) / 2 > TOO_WIDE else "agrees"


def _number(slope: float, reason: str) -> Expected:
    return Expected(slope, f"{slope:.4g}", reason)


def _layers(facts: Mapping[str, object]) -> int | None:
    """Layers of weights, of the architectures whose depth counts hidden layers."""
    depth = facts.get("depth")
    if facts.get("architecture") not in HOMOGENEOUS or depth is None:
        return None
    return 1 + int(float(str(depth)))


def _scale(facts: Mapping[str, object]) -> Expected | None:
    """-L: the response J falls with sigma^(L-1), so the update for one change of f rises by its inverse, and so on.

    Holds where the output at the start does not have to be unlearned: centred, or small.
    """
    layers = _layers(facts)
    if layers is None or str(facts.get("centered", True)) in ("False", "0", "0.0"):
        return None
    return _number(
        -float(layers), f"-L for L = {layers} layers of weights, the output at the start subtracted or small"
    )


def _width(facts: Mapping[str, object], first: bool | None) -> Expected | None:
    """One learning rate for all layers (Karkada 2024; Yang and Hu 2021); more where gamma grows with width, as R does.

    At fixed r, gamma = width^r; at fixed gamma0, gamma0 sqrt(width).
    """
    scheme = facts.get("parameterization")
    if scheme == "mup":
        return _number(0.0, "muP: features move by the same share at every width")
    found = _width_at_one_gamma(scheme, facts, first)
    grows = float(str(facts["r"])) if "r" in facts else 0.5 if "gamma0" in facts else 0.0
    if found is None or grows == 0:
        return found
    return _number(found.slope + grows, f"{found.reason}; gamma = width^{grows:.3g} adds {grows:.3g}")


def _width_at_one_gamma(scheme: object, facts: Mapping[str, object], first: bool | None) -> Expected | None:
    if scheme == "ntk":
        return _number(-0.5, "NTK parameterization at fixed gamma, every layer")
    layers = _layers(facts)
    if scheme != "standard" or layers is None or layers < 2:
        return None
    if first is None:
        hidden = layers - 1
        return _number(
            -0.5 - 1 / hidden, f"standard: mean of -3/2 (first) and -1/2 (others) over {hidden} hidden layers"
        )
    return _number(
        -1.5 if first else -0.5, "standard, one learning rate: -3/2 for the first layer, -1/2 for the others"
    )
