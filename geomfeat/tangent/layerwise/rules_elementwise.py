"""Parameters that act entry by entry: biases, the scale and shift of normalisations, and parameters used directly.

The gradient of a sample is the sum of slope * delta over the entries that share a parameter's entry.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.tangent.layerwise.sample_axis import SampleAxis


@dataclass(frozen=True, eq=False)
class ElementwiseTerm:
    """out = slope * weight + ..., with `shape` the weight's own, stretched to the axes of the output."""

    weight: Tensor
    shape: tuple[int, ...]
    slope: Tensor | float

    def scaled(self, number: float) -> "ElementwiseTerm":
        """See `rules`."""
        return replace(self, slope=self.slope * number)

    def oriented(self, delta: Tensor) -> Tensor:
        """As it is."""
        return delta

    def deltas(self, delta: Tensor, samples: SampleAxis) -> Tensor:
        """(n, p) gradients."""
        slope = self.slope
        parts = samples.split(delta if isinstance(slope, float) and slope == 1 else delta * slope)
        sizes = [1, 1, *(size for i, size in enumerate(self.shape) if i != samples.axis)]
        summed = [i for i in range(1, parts.ndim) if sizes[i] == 1]
        return (parts.sum(summed) if summed else parts).reshape(parts.shape[0], -1)


def _stretched(view: Tensor, ndim: int, axis: int | None = None, slope: Tensor | float = 1.0) -> ElementwiseTerm:
    """A weight along one axis (or, by the rule of broadcasting, the last ones) of an output with `ndim` axes."""
    behind = 0 if axis is None else ndim - axis - view.ndim
    before = ndim - view.ndim - behind
    return ElementwiseTerm(view, (*(1,) * before, *view.shape, *(1,) * behind), slope)


def _ndim(node: Any) -> int:
    return len(node._input_metadata[0].shape)


def addmm_bias(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """bias + a @ W."""
    return _stretched(view, 2) if position == 0 and node._saved_beta == 1 else None


def convolution_bias(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """One number a channel."""
    return _stretched(view, _ndim(node), 1) if position == 2 else None


def add(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """A sum by broadcasting: biases, position embeddings."""
    return _stretched(view, _ndim(node)) if node._saved_alpha == 1 else None


def subtract(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """A difference by broadcasting."""
    return _stretched(view, _ndim(node), slope=1.0 if position == 0 else -1.0) if node._saved_alpha == 1 else None


def multiply(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """A product by broadcasting: RMSNorm, layer scales, gains."""
    other = node._saved_other if position == 0 else node._saved_self
    return None if other is None else _stretched(view, _ndim(node), slope=other.detach())


def expand(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """The same for every sample: class tokens."""
    return _stretched(view, _ndim(node))


def _normalised(node: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Input, mean and inverse standard deviation, which all carry a gradient that has no place in a kernel."""
    return node._saved_input.detach(), node._saved_result1.detach(), node._saved_result2.detach()


def layer_norm(node: Any, position: int, view: Tensor) -> ElementwiseTerm:
    """Scale and shift of LayerNorm."""
    x, mean, inverse = _normalised(node)
    return _stretched(view, x.ndim, slope=1.0 if position == 2 else (x - mean) * inverse)


def group_norm(node: Any, position: int, view: Tensor) -> ElementwiseTerm:
    """Scale and shift of GroupNorm."""
    x, mean, inverse = _normalised(node)
    if position == 2:
        return _stretched(view, x.ndim, 1)
    grouped = x.reshape(x.shape[0], mean.shape[1], -1)
    return _stretched(view, x.ndim, 1, ((grouped - mean[..., None]) * inverse[..., None]).reshape(x.shape))


def batch_norm(node: Any, position: int, view: Tensor) -> ElementwiseTerm | None:
    """Scale and shift of BatchNorm in evaluation mode."""
    x = node._saved_input.detach()
    if node._saved_training:
        return None
    if position == 2:
        return _stretched(view, x.ndim, 1)
    mean, variance = node._saved_running_mean, node._saved_running_var
    along = (-1, *(1,) * (x.ndim - 2))
    normal = (x - mean.view(along)) * torch.rsqrt(variance + node._saved_eps).view(along)
    return _stretched(view, x.ndim, 1, normal)
