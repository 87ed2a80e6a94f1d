"""The tangent kernel of very many outputs through random sums of them, each sample's its own.

With v_ia standard normal, a = 1 .. k for each sample i, the numbers v_ia' K_ij v_jb have mean square |K_ij|_F^2
wherever (i, a) and (j, b) differ. The sketch holds these, with those of one sample weighted for the pairs that are left
out, so that its squares sum to k^2 |K|_F^2 in the mean: relative changes of the kernel are those of the sketch. It
takes one forward pass and k backward passes, whatever the number of outputs, and knows the part of every module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import WORKING, stream
from geomfeat.tangent.layerwise.factored_jacobian import FactoredJacobian, factored_jacobian
from geomfeat.tangent.layerwise.structured_kernel import Changed

SUMS = 2  # of outputs, for each sample


Sketched = Callable[[Functional, Tensor | None], dict[str, Tensor]]


def kernel_sketch(f: Functional, inputs: Any, seed: int, sums: int = SUMS) -> tuple[Sketched, dict[str, Tensor]] | None:
    """Weights -> module -> (n k, n k) sketch of the kernel of its parameters, float64; and that at the weights of `f`.

    Its second argument are the samples to take, of the n, or None for all: the sketch is then of these alone. The sums
    are the same at all weights. None where the rules for layers do not cover the network; at weights where it computes
    in another way than at the first, so that they do not hold there, the sketch raises Changed.
    """
    inputs = f.inputs(inputs)
    n, c = n_samples(inputs), n_outputs_of(f, inputs)
    draws = torch.randn(n, c, sums, generator=stream(seed, "kernel sketch"), dtype=WORKING).to(f.device, f.dtype)

    def sketched(rows: FactoredJacobian) -> dict[str, Tensor]:
        weights = _weights(rows.n, sums).to(f.device)
        return {name: weights * gram.to(WORKING) for name, gram in rows.kernel_by_module().items()}

    def at(other: Functional, some: Tensor | None) -> dict[str, Tensor]:
        part = (inputs, draws) if some is None else (take(inputs, some), draws[some])
        rows = factored_jacobian(other, *part)
        if rows is None:
            raise Changed("the rules for layers do not hold at other weights")
        return sketched(rows)

    first = factored_jacobian(f, inputs, draws)
    return None if first is None else (at, sketched(first))


def n_outputs_of(f: Functional, inputs: Any) -> int:
    """Number of outputs, from a pass of two samples."""
    with torch.no_grad():
        return f(f.theta, take(inputs, slice(0, 2))).shape[1]


def _weights(n: int, k: int) -> Tensor:
    """(n k, n k) 1 for pairs of samples; within one, 0 for a sum with itself and more for the others in its place."""
    own = torch.eye(n, dtype=WORKING).repeat_interleave(k, 0).repeat_interleave(k, 1)
    others = 0.0 if k == 1 else math.sqrt(k / (k - 1))
    return 1 - own + others * (own - torch.eye(n * k, dtype=WORKING))
