"""Matrix products with a weight: the gradient of sample i is the sum over its positions t of delta_it a_it'.

Covers Linear on any leading dimensions, x @ W and W @ x, recurrent cells (one use a step), and the projections of
multi-head attention, whose packed weight is used whole or in three slices.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from geomfeat.tangent.layerwise.sample_axis import SampleAxis


@dataclass(frozen=True, eq=False)
class LinearTerm:
    """out = a weight' (rows, out), or its transpose."""

    weight: Tensor
    a: Tensor
    transposed: bool

    def scaled(self, number: float) -> "LinearTerm":
        """See `rules`."""
        return replace(self, a=self.a * number)

    def oriented(self, delta: Tensor) -> Tensor:
        """(rows, out)."""
        return delta.T if self.transposed else delta

    def deltas(self, delta: Tensor, samples: SampleAxis) -> Tensor:
        """(n, 1, out, positions)."""
        return samples.split(delta).transpose(1, 2)[:, None]

    def inputs(self, samples: SampleAxis) -> Tensor:
        """(n, 1, in, positions)."""
        return samples.split(self.a).transpose(1, 2)[:, None]


def addmm(node: Any, position: int, view: Tensor) -> LinearTerm | None:
    """The second matrix of bias + a @ W; the bias has its own rule."""
    if node._saved_alpha != 1:
        return None
    return LinearTerm(view.T, node._saved_mat1.detach(), False) if position == 2 else None


def mm(node: Any, position: int, view: Tensor) -> LinearTerm | None:
    """Either matrix of a product."""
    if position == 1:
        return LinearTerm(view.T, node._saved_self.detach(), False)
    return LinearTerm(view, node._saved_mat2.detach().T, True)
