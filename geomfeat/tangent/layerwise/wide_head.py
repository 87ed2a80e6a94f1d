"""The trace over very many outputs of a last linear layer, from as many gradients as it has inputs.

Where the outputs are y_pv = W_v . a_p + b_v (positions p, V entries of a vocabulary v, d features a_p, W and b used
nowhere else), the sum over outputs of products of gradients is, with any R such that R R' = W'W,

    K(x, x') = V sum_p a_p(x) . a_p(x')                             (of W)
             + P V                                                  (of b)
             + sum_pj grad (R' a_p)_j(x) . grad (R' a_p)_j(x')      (of the other parameters)

since sum_v (W_v . g)(W_v . g') = g' W'W g'. The last term is the trace over the P d outputs of the same network with
R' in the place of W, and 0 in that of b. Outputs less their mean over the vocabulary are those of W and b less theirs,
whose own kernels are (V - 1) / V as large.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, n_samples, take
from geomfeat.models.readouts.reading import Reading
from geomfeat.numerics import WORKING, safe_eigh
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence
from geomfeat.tangent.layerwise.autograd_graph import Use, uses

FEWEST = 256  # outputs below which gradients one output at a time are as good
EVALUATE_AT_ONCE = 256  # samples per pass where features alone are wanted
_LOOKS = (
    "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "CloneBackward", "AliasBackward",
    "IndexBackward", "SelectBackward", "SliceBackward", "WhereBackward", "SumBackward", "DivBackward",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class WideHead:
    """A last linear layer with more outputs than inputs.

    Attributes:
        weight, bias: names of its parameters that count. free: V, or V - 1 for outputs less their mean. positions: P.
        features: the network that returns all a_p, (n, P d).
        rest: the network with R' in the place of W, in the other parameters; None where there are none.
    """

    weight: str | None
    bias: str | None
    free: int
    positions: int
    features: Functional
    rest: Functional | None

    def own(self, x: Any, x2: Any) -> dict[str, Tensor]:
        """The kernels (n, n2) of its own parameters."""
        out = {}
        if self.weight is not None:
            a = self._features(x)
            out[self.weight] = self.free * (a @ (a if x2 is None else self._features(x2)).T)
        if self.bias is not None:
            f = self.features
            shape = n_samples(x), n_samples(x if x2 is None else x2)
            out[self.bias] = torch.full(shape, self.positions * self.free, dtype=f.dtype, device=f.device)
        return out

    def own_diagonal(self, x: Any) -> Tensor:
        """(n,) the diagonal of the sum of these kernels."""
        f = self.features
        total = torch.zeros(n_samples(x), dtype=f.dtype, device=f.device)
        if self.weight is not None:
            total += self.free * self._features(x).square().sum(1)
        return total + (self.positions * self.free if self.bias is not None else 0)

    def _features(self, x: Any) -> Tensor:
        f = self.features
        with torch.no_grad():
            return torch.cat([f(f.theta, part) for _, part in batches(x, EVALUATE_AT_ONCE)])


def wide_head(f: Functional, x: Any, n_outputs: int) -> WideHead | None:
    """The network's last linear layer, if it is one whose trace is worth taking so; None else.

    What the graph says is verified by values: the features, from the network with the identity in the place of W,
    must give the outputs by W and b.
    """
    if n_outputs < FEWEST:
        return None
    few = take(x, slice(0, 2))
    parameters = {name for name, _ in f.model.named_parameters()}
    every = {n: t.detach() for n, t in {**f.fixed, **f.theta}.items() if n in parameters and t.is_floating_point()}
    leaves = {name: t.detach().requires_grad_() for name, t in every.items()}
    read, f = f, _uncentred(f)
    with torch.enable_grad(), differentiable_recurrence(f):
        outputs = f(leaves, few)
    found = {use.position: use for use in _last_uses(outputs, leaves)}
    matrix = found.get(2 if 0 in found or 2 in found else 1)
    if matrix is None or every[matrix.parameter].shape != matrix.view.T.shape or matrix.parameter in f.pairs:
        return None
    weight = every[matrix.parameter]
    size, width = weight.shape
    if size < 2 * width or n_outputs % size:
        return None
    bias = found[0].parameter if 0 in found else None
    with_identity = _with(f, matrix.parameter, bias, torch.eye(width, dtype=f.dtype, device=f.device))
    if not _gives(with_identity, few, outputs.detach(), weight, None if bias is None else every[bias]):
        return None
    centred = _centres(read, f, few, outputs.detach(), size)
    if centred is None:
        return None
    seen = weight.to(WORKING)
    seen = seen - seen.mean(0) if centred else seen
    values, vectors = safe_eigh(seen.mT @ seen)
    root = (vectors * values.clamp_min(0).sqrt()).to(f.dtype)
    rest = _with(f, matrix.parameter, bias, root.mT)
    return WideHead(
        matrix.parameter if matrix.parameter in f.theta else None,
        bias if bias in f.theta else None,
        size - 1 if centred else size,
        n_outputs // size,
        with_identity,
        rest if rest.theta else None,
    )


def _uncentred(f: Functional) -> Functional:
    """The network whose outputs keep their mean, where what reads them by name may take it."""
    return replace(f, readout=replace(f.readout, centred="never")) if isinstance(f.readout, Reading) else f


def _centres(read: Functional, f: Functional, few: Any, outputs: Tensor, size: int) -> bool | None:
    """Whether the outputs that are read are those of `f` less their mean over `size` entries; None for neither."""
    if read is f:
        return False
    with torch.no_grad():
        found = read(read.theta, few)
    if torch.equal(found, outputs):
        return False
    by_entry = outputs.unflatten(1, (-1, size))
    return True if torch.equal(found, (by_entry - by_entry.mean(-1, keepdim=True)).flatten(1)) else None


def _last_uses(outputs: Tensor, leaves: dict[str, Tensor]) -> Iterator[Use]:
    """The parameters in the matrix product whose entries the outputs are."""
    node: Any = outputs.grad_fn
    while node is not None and node.name().rstrip("0123456789") in _LOOKS:
        node = node.next_functions[0][0]
    if node is not None and node.name().rstrip("0123456789") in ("AddmmBackward", "MmBackward"):
        yield from (use for use in uses(outputs, leaves) if use.node is node)


def _with(f: Functional, weight: str, bias: str | None, matrix: Tensor) -> Functional:
    """The network with another matrix in the last layer, and no bias there, in its other parameters."""
    fixed = {**f.fixed, weight: matrix}
    if bias is not None:
        fixed[bias] = matrix.new_zeros(len(matrix))
    return replace(f, theta={n: t for n, t in f.theta.items() if n not in (weight, bias)}, fixed=fixed)


def _gives(f: Functional, few: Any, outputs: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the features of `f` give the outputs by the weight and the bias."""
    try:
        with torch.no_grad():
            a = f(f.theta, few)
    # A network that depends on the number of its outputs, or uses the weight in another place too.
    except (RuntimeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return False
    size, width = weight.shape
    if a.shape[1] * size != outputs.shape[1] * width:
        return False
    again = a.view(len(a), -1, width) @ weight.mT + (0 if bias is None else bias)
    near = torch.finfo(f.precision).eps ** 0.6
    return bool((again.flatten(1) - outputs).abs().max() <= near * outputs.abs().max())
