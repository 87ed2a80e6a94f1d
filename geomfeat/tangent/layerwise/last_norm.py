"""Whether features were normalised, told by their size: those of a layer norm or an RMS norm lie on a sphere.

What made them is not traced. Features of one size as they are come from a norm before training, or from one without a
gain. Else one of all modules with a gain for each feature is looked for whose gain and shift, taken back, leave all
samples of one size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geomfeat.numerics import WORKING

# Spread of the sizes over their mean: norms add a small number to the variance, and sizes of any features come together
# as their number grows: within .03 for a thousand that are drawn. And the mean of entries over its size by chance.
ROUND, CENTRED = 0.01, 0.05


@dataclass(frozen=True, eq=False)
class LastNorm:
    """Features (n, d) of samples as gain * x + shift, with x of one size for all samples.

    Attributes:
        units: (n, d) x over its size. gain: (d,). centred: whether the entries of every x sum to zero.
    """

    units: Tensor
    gain: Tensor
    centred: bool

    def before(self, weight: Tensor) -> Tensor:
        """(C, d) of a linear layer on the features: what it does to x, but for their common mean if x has none."""
        weight = weight * self.gain
        return weight - weight.mean(1, keepdim=True) if self.centred else weight


def norm_of(features: Tensor, model: nn.Module) -> LastNorm | None:
    """The norm that features (n, d) come from; None where they are of different sizes, whatever gain is taken back.

    >>> norm_of(torch.nn.functional.layer_norm(torch.randn(5, 64), (64,)), nn.LayerNorm(64)).centred
    True
    """
    best, least = None, ROUND
    for gain, shift in _gains(model, features):
        x = (features - shift) / gain
        sizes = x.norm(dim=1)
        spread = float(sizes.std(correction=0) / sizes.mean())
        if spread < least:  # false for NaN, of a gain with zeros
            best, least = (x / sizes[:, None], gain), spread
    if best is None or len(features) == 1:
        return None
    units, gain = best
    return LastNorm(units, gain, float(units.mean(1).abs().max()) * units.shape[1] ** 0.5 <= CENTRED)


def _gains(model: nn.Module, features: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Gain and shift: 1 and 0, then those of every module with a gain for each feature, the last modules first."""
    width = features.shape[1]
    yield torch.ones_like(features[0]), torch.zeros_like(features[0])
    for module in reversed(list(model.modules())):
        own = dict(module.named_parameters(recurse=False))
        gain, shift = own.get("weight"), own.get("bias")
        if gain is None or gain.shape != (width,) or not set(own) <= {"weight", "bias"}:
            continue
        gain = gain.detach().to(WORKING)
        still = torch.zeros_like(gain) if shift is None else shift.detach().to(WORKING)
        yield gain, still
        if shift is None:  # some RMS norms keep their gain less 1
            yield 1 + gain, still
