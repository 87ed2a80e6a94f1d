"""Capacity of balls in closed form, the yardstick of the replica theory: points, segments and discs are cases of it.

Chung, Lee & Sompolinsky 2018 (PRX 8 031003), the D-ball of radius R around a unit centre: with t = (a u, z), u on the
unit sphere, a ~ chi_D and z ~ N(0, 1), all that matters is where (a, b), b = z + kappa, lies to the cone of half-angle
atan R around (0, 1). Its squared projection is

    0 for b <= -R a,        (R a + b)^2 / (1 + R^2) in between,        a^2 + b^2 for b >= a / R

and 1/alpha is the mean: over z by hand, over a by quadrature. At kappa = 0 it is the statistical dimension of the
circular cone in R^{D+1} (Amelunxen et al. 2014).
"""

import math
from collections.abc import Callable
from itertools import pairwise

from scipy.integrate import quad
from scipy.special import gammaln, ndtr

from geomfeat.errors import BadInput

# chi_D has less than 1e-30 of its mass further than this from sqrt(D).
REACH = 12.0
PRECISION = 1e-11


def ball_capacity(radius: float, dimension: float, kappa: float = 0.0) -> float:
    """Capacity alpha (classes per dimension) of balls with orthogonal spans, random labels, and margin kappa.

    Args:
        radius: R >= 0, in units of the centre's length. dimension: D >= 0, need not be whole.
        kappa: margin >= 0, in the same units.

    R = 0 or D = 0 is a point: 2 at kappa = 0 (Cover 1965), Gardner's capacity at kappa > 0. D = 1 is a segment,
    1 / (1/2 + (2/pi) atan R), D = 2 a disc. Accurate to 1e-8 (relative). Raises BadInput for what is negative or not
    finite. Source: Chung et al. 2018, capacity of L2 balls; Gardner 1988.

    >>> round(ball_capacity(1.0, 3), 8)          # half-angle pi/4 in R^4: 2 / (D + 1)
    0.5
    >>> round(ball_capacity(0.0, 5), 8)
    2.0
    """
    for name, value in (("radius", radius), ("dimension", dimension), ("kappa", kappa)):
        if not (math.isfinite(value) and value >= 0):
            raise BadInput(f"{name}={value}: give a finite number of at least 0")
    if radius == 0 or dimension == 0:
        return 1 / _second_moment(kappa, -kappa, math.inf)
    return 1 / _over_chi(lambda a: _given_length(a, radius, kappa), dimension, radius, kappa)


def _given_length(a: float, radius: float, kappa: float) -> float:
    """Mean squared projection over z, given the length a of the other coordinates."""
    reach = kappa + radius * a
    edge = a / radius - kappa
    touching = _second_moment(reach, -reach, edge) / (1 + radius**2)
    return touching + a * a * float(ndtr(-edge)) + _second_moment(kappa, edge, math.inf)


def _second_moment(shift: float, low: float, high: float) -> float:
    """Integral of (shift + z)^2 over low < z < high under the standard normal density."""
    # Above 0 by the lower tail, where differences of ndtr keep their digits.
    mass = float(ndtr(-low) - ndtr(-high)) if low > 0 else float(ndtr(high) - ndtr(low))
    return (shift**2 + 1) * mass + _boundary(shift, low) - _boundary(shift, high)


def _boundary(shift: float, z: float) -> float:
    # d/dz of -(2 s + z) phi(z) is ((s + z)^2 - s^2 - 1) phi(z).
    return 0.0 if math.isinf(z) else (2 * shift + z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _over_chi(f: Callable[[float], float], dimension: float, radius: float, kappa: float) -> float:
    """Mean of f(a) for a ~ chi with any positive number of degrees of freedom."""
    log_scale = (1 - dimension / 2) * math.log(2) - float(gammaln(dimension / 2))
    # A chi variable lies around sqrt(D) with a deviation below 1, at any D.
    low, high = max(0.0, math.sqrt(dimension) - REACH), math.sqrt(dimension) + REACH
    # Below one degree of freedom the density is infinite at 0: x = a^D takes the pole away.
    power = min(1.0, dimension)

    def integrand(x: float) -> float:
        a = x ** (1 / power)
        if a == 0.0:
            return f(0.0) * math.exp(log_scale) / power if dimension <= 1 else 0.0
        return f(a) * math.exp(log_scale + (dimension - power) * math.log(a) - a * a / 2) / power

    # Where f bends: at lengths of order R and 1/R, over a decade or two.
    bends = [b * s for b in (radius, 1 / radius, radius * kappa) for s in (0.1, 1.0, 10.0)] + [math.sqrt(dimension)]
    inner = sorted({b**power for b in bends if low < b < high})
    ends = [low**power, *inner, high**power]
    parts = [quad(integrand, a, b, epsabs=PRECISION * 1e-2, epsrel=PRECISION, limit=400)[0] for a, b in pairwise(ends)]
    return math.fsum(parts)
