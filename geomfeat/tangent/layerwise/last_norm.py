"""Whether features were normalised, told by their size: those of a layer norm or an RMS norm lie on a sphere.

What made them is not traced. Of all modules with a gain for each feature one is looked for whose gain and shift, taken
back, leave all samples of one size; before training these are 1 and 0 in most networks, for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geomfeat.numerics import WORKING

# Spread of the sizes, and size of the mean, relative to the size: norms add a small number to the variance.
ROUND = 0.05


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
    for gain, shift in _gains(model, features.shape[1]):
        x = (features - shift) / gain
        sizes = x.norm(dim=1)
        if not bool(torch.isfinite(sizes).all()) or not float(sizes.std()) <= ROUND * float(sizes.mean()):
            continue
        if len(x) > 1 and float(sizes.min()) > 0:
            mean = x.mean(1).abs().max() * x.shape[1] ** 0.5 / sizes.mean()
            return LastNorm(x / sizes[:, None], gain.to(WORKING), bool(mean <= ROUND))
    return None


def _gains(model: nn.Module, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Gain and shift of every module with a gain for each of so many features, the last modules first."""
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
