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

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, n_samples, take
from geomfeat.numerics import safe_eigh
from geomfeat.tangent.layerwise.last_layer import last_layer

FEWEST = 256  # outputs below which gradients one output at a time are as good
EVALUATE_AT_ONCE = 256  # samples per pass where features alone are wanted


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
    last = last_layer(f, few)
    if last is None:
        return None
    f, outputs, weight = last.f, last.outputs, last.weight
    size, width = weight.shape
    if size < 2 * width or n_outputs % size:
        return None
    with_identity = _with(f, last.name, last.bias_name, torch.eye(width, dtype=f.dtype, device=f.device))
    if not _gives(with_identity, few, outputs, weight, last.bias):
        return None
    seen = last.seen
    values, vectors = safe_eigh(seen.mT @ seen)
    root = (vectors * values.clamp_min(0).sqrt()).to(f.dtype)
    rest = _with(f, last.name, last.bias_name, root.mT)
    return WideHead(
        last.name if last.name in f.theta else None,
        last.bias_name if last.bias_name in f.theta else None,
        size - 1 if last.centred else size,
        n_outputs // size,
        with_identity,
        rest if rest.theta else None,
    )


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
