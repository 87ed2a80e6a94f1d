"""How precisely data are known: their rounding errors, and the effect of these on a distance or a direction.

One policy for every rank cut, "same point" and "constant". Numbers are known to some units of the last place of the
precision that they CAME IN, whatever they were widened to since, and decisions are made of centred data. Features in
float32 and float64 were computed by sums of products, whose roundings have the size of the terms: about the spread of a
feature (COMPUTED); a mean far above it costs the digits that it takes and few more (STORED). Half precisions are summed
in float32 and rounded once. Whole numbers are exact, and known as well as float64 holds them.

Measured on linear maps of 2 to 2048 inputs: directions that should be empty have singular values of .2 to 3.4 times
eps * size * (sqrt(n) + sqrt(d)), under a large bias .2 to .6 times. Deep float32 networks that take samples in batches
of another size give the features of a sample again to within eps * length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.numerics import WORKING

COMPUTED, STORED, STORED_HALF = 10.0, 2.0, 1.0
# Entries of a first check, and the share of entries that must use the digits of the precision they were rounded to.
LOOK, USED = 1024, 1 / 8
# Whole numbers up to here are exact in every precision, so they say nothing of one: codes of classes, say.
COUNTS = 256
# Sizes whose eighth powers are in range, and a mean over the spread whose rounding is still too small to matter.
IN_RANGE, FAR = 2.0**60, 1e4
_NARROWER = {WORKING: (torch.float32, torch.float16, torch.bfloat16), torch.float32: (torch.float16, torch.bfloat16)}


def coarser(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """That of two precisions with fewer digits.

    >>> coarser(torch.float64, torch.float16)
    torch.float16
    """
    return a if torch.finfo(a).eps >= torch.finfo(b).eps else b


def precision_of(x: Tensor | np.ndarray | Sequence[object]) -> torch.dtype:
    """The precision of numbers: their dtype, or a coarser one that they were evidently widened from.

    That is where all entries fit it, use its last digit, and lie on no common grid. Whole numbers, and those of Python,
    are as exact as float64 holds them.

    >>> x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    >>> precision_of(x), precision_of(x.double()), precision_of(x.half().double()), precision_of(x.long())
    (torch.float32, torch.float32, torch.float16, torch.float64)
    """
    if isinstance(x, np.ndarray):
        if x.dtype.kind != "f" or x.dtype.itemsize > 8:
            return WORKING
        if x.dtype.itemsize == 2:
            return torch.float16
        x = torch.from_numpy(np.array(x, x.dtype.newbyteorder("=")))
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return WORKING
    flat = x.detach().reshape(-1)
    first = flat[:: max(1, len(flat) // LOOK)]
    if bool(((first == first.round()) & (first.abs() <= COUNTS)).all()):
        return x.dtype
    for narrow in _NARROWER.get(x.dtype, ()):
        if torch.equal(first.to(narrow).to(flat.dtype), first):
            if _rounded_to(flat, first, narrow):
                return narrow
        elif narrow == torch.float32:
            break  # half precisions hold no number that float32 does not
    return x.dtype


def _rounded_to(flat: Tensor, first: Tensor, narrow: torch.dtype) -> bool:
    """Whether all entries are numbers of that precision, and too fine for whole multiples of a common step.

    `first`: some of them, which are numbers of that precision.
    """
    some = first[first != 0].to(WORKING)
    if not len(some):
        return False
    last = torch.ldexp(torch.full_like(some, torch.finfo(narrow).eps), torch.frexp(some).exponent - 1)
    uses_last_digit = (some / (2 * last)).frac() != 0
    off_grid = (some / last.max()).frac() != 0
    if min(float(uses_last_digit.double().mean()), float(off_grid.double().mean())) <= USED:
        return False
    return torch.equal(flat.to(narrow).to(flat.dtype), flat)


def roundings(precision: torch.dtype) -> tuple[float, float]:
    """What to multiply the spread of numbers and their size with, to get how far they may be off."""
    eps = torch.finfo(precision).eps
    return (0.0, STORED_HALF * eps) if torch.finfo(precision).bits < 32 else (COMPUTED * eps, STORED * eps)


def is_constant(spread: Tensor, size: Tensor, precision: torch.dtype) -> Bool[Tensor, "..."]:
    """Whether numbers of this spread around their mean and this size (two rms or two norms) are one number, rounded."""
    return spread <= 2 * roundings(precision)[1] * size


@dataclass(frozen=True, eq=False)
class Spread:
    """Points less their mean, and how far they are off by rounding.

    Attributes:
        x: (n, d) centred, in float64, over `unit`. Features that are constant up to rounding are 0.
        unit: a power of two that keeps powers in range; 1 where they are.
        of_entry: how far off the entries of the worst feature are, over `unit`; 0 if all features are constant.
        of_point: how far off a point is, over `unit`: two that are nearer may be the same.
    """

    x: Float[Tensor, "n d"]
    unit: float
    of_entry: float
    of_point: float

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], precision: torch.dtype) -> Spread:
        """Of points that came in a precision."""
        unit = _unit(x)
        unit = 1.0 if 1 / IN_RANGE < unit < IN_RANGE else unit
        work = x.to(WORKING, copy=True)
        if unit != 1:
            work /= unit
        mean = work.mean(0)
        work -= mean
        spread = _rms(work)
        if bool((mean.abs() > FAR * spread).any()):  # rounding of the mean is left
            work -= work.mean(0)
            spread = _rms(work)
        size = torch.hypot(spread, mean)
        constant = is_constant(spread, size, precision)
        of_spread, of_size = roundings(precision)
        noise = of_spread * spread + of_size * size
        if bool(constant.any()):
            noise[constant] = 0
            if bool(spread[constant].any()):
                work[:, constant] = 0
        return cls(work, unit, float(noise.max()), float(torch.linalg.vector_norm(noise)))

    @property
    def varies(self) -> bool:
        """Whether more than rounding is left."""
        return self.of_entry > 0

    def turned(self) -> Spread:
        """The same points in coordinates of their span: min(n, d) of them, with the same inner products."""
        x = self.x
        return self if x.shape[1] <= x.shape[0] else replace(self, x=torch.linalg.qr(x.T, mode="r")[1].T)

    def take(self, rows: Tensor) -> Spread:
        """Some of the points, less their own mean."""
        x = self.x[rows]
        x -= x.mean(0)
        if float(torch.linalg.vector_norm(x)) > self.of_point * x.shape[0] ** 0.5:
            return replace(self, x=x)
        return Spread(torch.zeros_like(x), self.unit, 0.0, 0.0)

    @cached_property
    def of_directions(self) -> float:
        """How large a singular value of x can be of nothing but rounding.

        Independent errors of size s have singular values of up to s (sqrt(n) + sqrt(d)) (Davidson & Szarek 2001,
        theorem II.13); those of different sizes up to the norm of the largest column plus that of a row (Latala 2005).
        Those of the decomposition itself are far below, unless the data are exact.
        """
        own = max(self.x.shape) * torch.finfo(WORKING).eps * float(torch.linalg.vector_norm(self.x))
        return max(self.of_entry * self.x.shape[0] ** 0.5 + self.of_point, own)


def _rms(x: Tensor) -> Tensor:
    # By columns, a norm would take ten times as long.
    return (x.square().sum(0) / x.shape[0]).sqrt()


def unit_of(x: Tensor) -> Tensor:
    """The power of two at the largest entry, in float64; 1 for zeros. Dividing by it loses no digit."""
    return torch.tensor(_unit(x), dtype=WORKING, device=x.device)


def _unit(x: Tensor) -> float:
    largest = max_size(x)
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest > 0 else largest + 1


def max_size(x: Tensor) -> float:
    """The largest size of an entry.

    >>> max_size(torch.tensor([[1.0, -3.0], [2.0, 0.0]]))
    3.0
    """
    low, high = x.aminmax()
    return max(-float(low), float(high))


def near_one(x: Tensor) -> Tensor:
    """Over its unit, so that fourth powers stay in range."""
    return x / unit_of(x)
