"""Convolutions in any number of dimensions: a linear map of patches, one a position, separately in each group."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from geomfeat.tangent.layerwise.sample_axis import SampleAxis


@dataclass(frozen=True, eq=False)
class ConvTerm:
    """weight (out, in / groups, *kernel) slid over x (rows, in, *space)."""

    weight: Tensor
    x: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def scaled(self, number: float) -> "ConvTerm":
        """See `rules`."""
        return replace(self, x=self.x * number)

    def oriented(self, delta: Tensor) -> Tensor:
        """(rows, out, *space)."""
        return delta

    def deltas(self, delta: Tensor, samples: SampleAxis) -> Tensor:
        """(n, groups, out / groups, positions)."""
        return self._by_group(samples.split(delta.flatten(2)))

    def inputs(self, samples: SampleAxis) -> Tensor:
        """(n, groups, entries of a patch, positions)."""
        patches = self._patches()
        rows, channels = patches.shape[:2]
        size = patches[0, 0].numel() // self._positions(patches)
        return self._by_group(samples.split(patches.reshape(rows, channels * size, -1)))

    def _by_group(self, t: Tensor) -> Tensor:
        n, per, channels, positions = t.shape
        return t.transpose(1, 2).reshape(n, self.groups, channels // self.groups, per * positions)

    def _positions(self, patches: Tensor) -> int:
        return patches.shape[2 + len(self.stride) :].numel()

    def _patches(self) -> Tensor:
        """(rows, in, *kernel, *positions), without a copy where there is no padding."""
        around = [p for size in reversed(self.padding) for p in (size, size)]
        x = F.pad(self.x, around) if any(around) else self.x
        kernel = self.weight.shape[2:]
        reach = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
        places = [(s - r - 1) // t + 1 for s, r, t in zip(x.shape[2:], reach, self.stride, strict=True)]
        steps = x.stride()[2:]
        within = [s * d for s, d in zip(steps, self.dilation, strict=True)]
        between = [s * t for s, t in zip(steps, self.stride, strict=True)]
        return x.as_strided((*x.shape[:2], *kernel, *places), (*x.stride()[:2], *within, *between), x.storage_offset())


def convolution(node: Any, position: int, view: Tensor) -> ConvTerm | None:
    """The weight of a convolution; a transposed one has no rule."""
    if position != 1 or node._saved_transposed:
        return None
    return ConvTerm(
        view,
        node._saved_input.detach(),
        tuple(node._saved_stride),
        tuple(node._saved_padding),
        tuple(node._saved_dilation),
        int(node._saved_groups),
    )
