"""One richness under its four names: gamma, alpha, gamma0 and r, and what each says of the read-out.

    f = (net(w) - net(w0)) / gamma

gamma divides the outputs of the network, so alpha = 1 / gamma always, while gamma0 and r are defined for a
network whose outputs are O(1) at the start, whatever its width n. Which constant that takes is the read-out convention:

    "1/sqrt(n)"  h = a . phi / sqrt(n), NTK parameterization: gamma0 = gamma / sqrt(n), r = log gamma / log n
    "1/n"        h = a . phi / n, mean-field: the same function is sqrt(n) smaller, so gamma0 = gamma, and alpha of
                 the same training is sqrt(n) times that of a 1/sqrt(n) read-out
    "standard"   h = W phi, W ~ N(0, c/n): at the start the same function as "1/sqrt(n)", and the same conversions. One
                 learning rate acts on W as n times that rate on the layers after the first in NTK parameterization,
                 but only as fan_in times it on the first, which therefore moves fan_in / n less than r says.

Of one function, gradient flow in the "1/n" convention at gamma / sqrt(n) follows the path of "1/sqrt(n)" at gamma, in n
times the time.
"""

import math
from dataclasses import dataclass
from typing import Any

from geomfeat.errors import BadInput

READOUTS = ("1/sqrt(n)", "1/n", "standard")
FLOAT64_BELOW = 1e-3  # below this gamma the division by gamma eats the digits of float32


@dataclass(frozen=True)
class Richness:
    """The richness of a training: gamma, with the width and read-out that convert it to the scales of other papers.

    Args:
        gamma: divisor of the network's outputs, > 0. Small is lazy, large is rich.
        width: hidden units n, at least 1; needed for gamma0 and r alone.
        readout: "1/sqrt(n)" (NTK parameterization), "1/n" (mean-field) or "standard"; see the module.

    Raises BadInput for values out of range, and for gamma0 or r without a width.

    >>> knob = Richness(4.0, width=256)
    >>> knob.alpha, knob.gamma0, knob.r
    (0.25, 0.25, 0.25)
    >>> Richness.from_r(0.5, width=256).gamma, Richness.from_r(0.5, width=256, readout="1/n").alpha
    (16.0, 1.0)
    """

    gamma: float
    width: float | None = None
    readout: str = "1/sqrt(n)"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", _positive("gamma", self.gamma))
        if self.width is not None and not (self.width >= 1 and math.isfinite(self.width)):
            raise BadInput(f"width={self.width} must be the number of hidden units, at least 1")
        if self.readout not in READOUTS:
            raise BadInput(f"readout={self.readout!r} must be one of {', '.join(READOUTS)}")

    @classmethod
    def from_alpha(cls, alpha: float, width: float | None = None, readout: str = "1/sqrt(n)") -> "Richness":
        """Chizat et al. 2019: gamma = 1 / alpha, of the network as it is."""
        return cls(1.0 / _positive("alpha", alpha), width, readout)

    @classmethod
    def from_gamma0(cls, gamma0: float, width: float, readout: str = "1/sqrt(n)") -> "Richness":
        """Bordelon and Pehlevan 2022: gamma = gamma0 sqrt(n) ("1/n": gamma0); 1 is equally rich at every width."""
        size = _size_of(width, readout, "gamma0")
        return cls(_positive("gamma0", gamma0) * math.sqrt(width) / size, width, readout)

    @classmethod
    def from_r(cls, r: float, width: float, readout: str = "1/sqrt(n)") -> "Richness":
        """Karkada 2024: gamma = n^r ("1/n": n^(r - 1/2)), from 0 (lazy, NTK) to 1/2 (rich, muP)."""
        size = _size_of(width, readout, "r")
        if not math.isfinite(_number(r)):
            raise BadInput(f"r={r!r} must be a number from 0 (lazy) to 1/2 (rich)")
        if not 0 <= r <= 0.5:
            meaning = (
                "outputs divided by less than their size, lazier than the NTK limit as width grows" if r < 0
                else "more than sqrt(width): features that grow without bound as width does"
            )  # fmt: skip
            raise BadInput(
                f"r={r} lies outside [0, 1/2]: it would be gamma = {width:g}^{r:g} = {width**r / size:.4g}, {meaning}. "
                "If that is meant, give gamma= itself"
            )
        return cls(float(width) ** r / size, width, readout)

    @property
    def alpha(self) -> float:
        """Chizat's alpha = 1 / gamma of the network as it is; large is lazy."""
        return 1.0 / self.gamma

    @property
    def gamma0(self) -> float:
        """Bordelon and Pehlevan's gamma0; 1 at the muP scale."""
        return self.gamma * _size_of(self.width, self.readout, "gamma0") / math.sqrt(self.width or 1.0)

    @property
    def r(self) -> float:
        """Karkada's r, log of gamma (for outputs O(1)) to base n: 0 NTK, 1/2 muP; beyond that range where gamma is."""
        size = _size_of(self.width, self.readout, "r")
        if self.width == 1:
            raise BadInput("r is a power of the width, and means nothing at width=1")
        return math.log(self.gamma * size) / math.log(self.width or 1.0)

    def __str__(self) -> str:
        """In words, with the convention.

        >>> print(Richness(4.0, width=256))
        gamma 4 (alpha 0.25, gamma0 0.25, r 0.25 at width 256, 1/sqrt(n) read-out)
        """
        if self.width is None or self.width == 1:
            return f"gamma {self.gamma:.4g} (alpha {self.alpha:.4g}, {self.readout} read-out)"
        return (
            f"gamma {self.gamma:.4g} (alpha {self.alpha:.4g}, gamma0 {self.gamma0:.4g}, r {self.r:.4g} "
            f"at width {self.width:g}, {self.readout} read-out)"
        )


def _positive(name: str, value: float) -> float:
    number = _number(value)
    if not (number > 0 and math.isfinite(number)):
        raise BadInput(f"{name}={value!r} must be a positive number")
    return number


def _number(value: Any) -> float:
    """A number of any package as a float; NaN for what is none."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _size_of(width: float | None, readout: str, name: str) -> float:
    """What a network's outputs have to be multiplied by to be O(1) at the start."""
    if width is None or not (width >= 1 and math.isfinite(width)):
        raise BadInput(f"{name} needs the network's width= (hidden units, at least 1), got {width}")
    return math.sqrt(width) if readout == "1/n" else 1.0


def gamma_from(
    *,
    alpha: float | None = None,
    gamma0: float | None = None,
    r: float | None = None,
    width: float | None = None,
    readout: str = "1/sqrt(n)",
) -> float:
    """gamma from other papers' knobs; give exactly one of them.

    alpha: Chizat et al. 2019. gamma0: Bordelon and Pehlevan 2022. r: Karkada 2024, in [0, 1/2]. The last two need the
    width, and all hold for a read-out convention: see `Richness`.

    Raises BadInput for none or several, for a value out of range, or without the width they need.

    >>> gamma_from(alpha=100.0), gamma_from(gamma0=0.5, width=64), gamma_from(r=0.5, width=256)
    (0.01, 4.0, 16.0)
    """
    given = {k: v for k, v in {"alpha": alpha, "gamma0": gamma0, "r": r}.items() if v is not None}
    if len(given) != 1:
        raise BadInput(f"give exactly one of alpha=, gamma0=, r=, got {sorted(given) or 'none'}")
    ((name, value),) = given.items()
    if name == "alpha":
        return Richness.from_alpha(value, width, readout).gamma
    if width is None:
        raise BadInput(f"{name}= needs the network's width= (hidden units, at least 1), got None")
    return (Richness.from_gamma0 if name == "gamma0" else Richness.from_r)(value, width, readout).gamma
