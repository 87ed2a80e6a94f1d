"""The linear layer whose outputs are those of the network, found in the graph: a classifier, a language model's head.

Its weight may be used in other places too, as that of a tied embedding is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.models.functional import Functional
from geomfeat.models.readouts.reading import Reading
from geomfeat.numerics import WORKING
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence
from geomfeat.tangent.layerwise.autograd_graph import Use, uses

_LOOKS = (
    "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "CloneBackward", "AliasBackward",
    "IndexBackward", "SelectBackward", "SliceBackward", "WhereBackward", "SumBackward", "DivBackward",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A last linear layer y = W a + b, as its outputs are read: whole, or less their mean over y.

    Where W is multiplied by a number before it is used, a is what it multiplies, times this number.

    Attributes:
        f: the network whose outputs keep their mean. outputs: (n, P size) of `f`, detached.
        name, bias_name: of W and b, among its parameters. weight, bias: (size, d) and (size,), as the network has them.
        centred: whether outputs are read less their mean.
    """

    f: Functional
    outputs: Tensor
    name: str
    weight: Tensor
    bias_name: str | None
    bias: Tensor | None
    centred: bool

    @property
    def seen(self) -> Tensor:
        """(size, d) W of the outputs as they are read, float64."""
        weight = self.weight.to(WORKING)
        return weight - weight.mean(0) if self.centred else weight

    def features(self) -> Tensor | None:
        """(n, d) a, float64, of networks with one row of outputs a sample; None for others, and where W has no d axes.

        They are the solution of W a = y - b, so what gave them need not be known.
        """
        size, width = self.weight.shape
        if self.outputs.shape[1] != size or width > size:
            return None
        y = self.outputs.to(WORKING) - (0 if self.bias is None else self.bias.to(WORKING))
        found = torch.linalg.lstsq(self.weight.to(WORKING), y.mT).solution.mT
        rest = (found @ self.weight.to(WORKING).mT - y).norm()
        return found if bool(rest <= torch.finfo(self.f.precision).eps ** 0.5 * y.norm()) else None


def last_layer(f: Functional, inputs: Any) -> LastLayer | None:
    """The last linear layer of a network, by its outputs on these inputs; None where they are not those of one."""
    read, f = f, _uncentred(f.unscaled())
    parameters = {name for name, _ in f.model.named_parameters()}
    every = {n: t.detach() for n, t in {**f.fixed, **f.theta}.items() if n in parameters and t.is_floating_point()}
    leaves = {name: t.detach().requires_grad_() for name, t in every.items()}
    with torch.enable_grad(), differentiable_recurrence(f):
        outputs = f(leaves, inputs)
    found = {use.position: use for use in _last_uses(outputs, leaves)}
    matrix = found.get(2 if 0 in found or 2 in found else 1)
    if matrix is None or every[matrix.parameter].shape != matrix.view.T.shape or matrix.parameter in f.pairs:
        return None
    outputs, size = outputs.detach(), matrix.view.shape[1]
    centred = None if outputs.shape[1] % size else _centres(read, inputs, outputs, size)
    if centred is None:
        return None
    bias = found[0].parameter if 0 in found else None
    return LastLayer(
        f, outputs, matrix.parameter, every[matrix.parameter], bias, None if bias is None else every[bias], centred
    )


def _uncentred(f: Functional) -> Functional:
    """The network whose outputs keep their mean, where what reads them by name may take it."""
    return replace(f, readout=replace(f.readout, centred="never")) if isinstance(f.readout, Reading) else f


def _centres(read: Functional, few: Any, outputs: Tensor, size: int) -> bool | None:
    """Whether outputs are read less their mean over `size` entries; None where they are read otherwise."""
    if not isinstance(read.readout, Reading):
        return False
    with torch.no_grad():
        found = read(read.theta, few)
    near = torch.finfo(read.precision).eps ** 0.6 * float(outputs.abs().max())
    centred = outputs.unflatten(1, (-1, size))
    centred = (centred - centred.mean(-1, keepdim=True)).flatten(1)
    for value, said in ((outputs, False), (centred, True)):
        if found.shape == value.shape and float((found - value).abs().max()) <= near:
            return said
    return None


def _last_uses(outputs: Tensor, leaves: dict[str, Tensor]) -> Iterator[Use]:
    """The parameters in the matrix product whose entries the outputs are."""
    node: Any = outputs.grad_fn
    while node is not None and node.name().rstrip("0123456789") in _LOOKS:
        node = node.next_functions[0][0]
    if node is not None and node.name().rstrip("0123456789") in ("AddmmBackward", "MmBackward"):
        yield from (use for use in uses(outputs, leaves) if use.node is node)
