"""Exponents of quantities that scale as a power of the width, with intervals from repetitions."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING

FEWEST_WIDTHS = 3


@dataclass(frozen=True)
class WidthExponent(BaseResult):
    """value ~ width^exponent.

    Attributes:
        exponent: slope of log value on log width, by least squares. low, high: its 95 % interval.
        n_seeds: repetitions that went in, each with three widths or more.
    """

    exponent: float
    low: float
    high: float
    n_seeds: int

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ± {0.5 * (self.high - self.low):.2f}"


def slopes(widths: Float[Tensor, "k"], values: Float[Tensor, "s k"]) -> Float[Tensor, "s"]:
    """Least-squares slope of log value on log width of every repetition (row); NaN for fewer than three widths.

    Values that are not positive and finite are left out.

    >>> slopes(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([[3.0, 6.0, 12.0]])).tolist()
    [1.0]
    """
    x = widths.to(WORKING).log().expand(values.shape)
    y = values.to(WORKING)
    kept = torch.isfinite(y) & (y > 0)
    n = kept.sum(1)
    x, y = torch.where(kept, x, 0.0), torch.where(kept, y, 1.0).log()
    x = torch.where(kept, x - (x.sum(1) / n)[:, None], 0.0)
    # With x centred in every row, the mean of y drops out.
    slope = (x * y).sum(1) / x.square().sum(1)
    return torch.where(n >= FEWEST_WIDTHS, slope, torch.nan)


def power_law(widths: Float[Tensor, "k"], values: Float[Tensor, "s k"], confidence: float = 0.95) -> WidthExponent:
    """The exponent of values (repetitions, widths) in the width; all NaN where no repetition has three widths.

    Every repetition has its own slope, and the interval is Student's for their mean; with complete data that mean
    is the pooled least-squares slope. Noise need not be equal at all widths, and two repetitions are enough; a single
    one has the regression's own interval.

    Raises BadInput for fewer than three widths.

    >>> widths = torch.tensor([64.0, 128.0, 256.0])
    >>> print(power_law(widths, torch.stack([widths**0.24, widths**0.26])))
    0.25 ± 0.13
    """
    if len(widths) < FEWEST_WIDTHS:
        raise BadInput(f"{len(widths)} widths cannot show a power law: give at least {FEWEST_WIDTHS}")
    found = slopes(widths, values)
    usable = torch.isfinite(found)
    rows = found[usable]
    if not len(rows):
        return WidthExponent(math.nan, math.nan, math.nan, 0)
    if len(rows) == 1:
        return _of_one(widths, values[usable][0], float(rows[0]), confidence)
    return mean_with_interval(rows, confidence)


def mean_with_interval(values: Float[Tensor, "s"], confidence: float = 0.95) -> WidthExponent:
    """Mean of two or more repetitions' exponents with Student's interval."""
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * error
    return WidthExponent(mean, mean - half, mean + half, len(values))


def _of_one(widths: Tensor, values: Tensor, slope: float, confidence: float) -> WidthExponent:
    """Interval of a single repetition, from the scatter about its line."""
    kept = torch.isfinite(values) & (values > 0)
    x, y = widths[kept].to(WORKING).log(), values[kept].to(WORKING).log()
    x, y = x - x.mean(), y - y.mean()
    freedom = len(x) - 2
    error = math.sqrt(float((y - slope * x).square().sum()) / freedom / float(x.square().sum()))
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * error
    return WidthExponent(slope, slope - half, slope + half, 1)
