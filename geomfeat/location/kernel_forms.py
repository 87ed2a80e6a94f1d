"""The forms in which tangent kernels are compared: formed, as a sketch, or as products with vectors.

All are linear in the kernel, so that the size of a difference of two is that of the kernels' difference, exactly for a
formed kernel and in the mean for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.location.kernel_by_layer import Grams, grams_by_module
from geomfeat.location.kernel_interval import pair_squares
from geomfeat.location.kernel_sketch import SUMS, kernel_sketch, n_outputs_of
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import WORKING, stream
from geomfeat.tangent import ntk, vjp
from geomfeat.tangent.jacobians.products import value_and_jvp, value_and_vjp
from geomfeat.tangent.jacobians.small_steps import once

# Vectors in place of the whole kernel: |K v| over 8 random v is |K|_F within 4 % (standard deviation, measured).
VECTORS = 8
FEW_VECTORS = 2  # in its place where only its spread over resamples is asked for


@dataclass(frozen=True, eq=False)
class KernelForm:
    """One form of the kernels of a network at any weights, on the same probes.

    Attributes:
        by_module: parts that sum to the kernel: those of every module's own parameters, or one, "".
        whole: their sum. squares: of such a kernel, sums over the outputs: (n, n) by pairs of probes, or (n,).
        rough: the kernel with less work, for its spread over resamples. Its second argument is the probes that count
            in a resample, or None for all; of others it may hold zeros. rough_squares: as `squares`.
        start, first: `whole` and `by_module` at the weights before training, where they are known already.
    """

    by_module: Callable[[Functional], Grams]
    whole: Callable[[Functional], Tensor]
    squares: Callable[[Tensor], Tensor]
    rough: Callable[[Functional, Tensor | None], Tensor]
    rough_squares: Callable[[Tensor], Tensor]
    start: Tensor | None = None
    first: Grams | None = None

    @property
    def is_formed(self) -> bool:
        """Whether it is the kernel itself and no estimate."""
        return self.start is not None and self.first is None

    @property
    def is_sketch(self) -> bool:
        """Whether it is an estimate by few sums of the outputs, as a large network's is."""
        return self.first is not None


def formed_kernel(f: Functional, inputs: Any, n_outputs: int, start: Tensor, seed: int) -> KernelForm:
    """All (n C)^2 entries."""
    rough = vectors_of(f, inputs, FEW_VECTORS, seed)
    return KernelForm(
        lambda at: grams_by_module(at, inputs),
        lambda at: ntk(at, inputs, outputs="full").gram.to(WORKING),
        lambda kernel: pair_squares(kernel, n_outputs),
        lambda at, _: rough(at),
        _by_probe,
        start,
    )


def compact_kernel(f: Functional, inputs: Any, seed: int, *, sketched: bool = True) -> KernelForm:
    """A sketch, where the rules for layers cover the network, else, or for `sketched=False`, products with vectors."""
    sketch = kernel_sketch(f, inputs, seed) if sketched else None
    if sketch is None:
        every, few = (vectors_of(f, inputs, count, seed) for count in (VECTORS, FEW_VECTORS))
        return KernelForm(lambda at: {"": every(at)}, every, _by_probe, lambda at, _: few(at), _by_probe)
    of_samples, first = sketch
    squares = lambda kernel: pair_squares(kernel, SUMS)  # noqa: E731

    def by_module(at: Functional) -> Grams:
        return of_samples(at, None)

    def of_some(at: Functional, some: Tensor | None) -> Tensor:
        if some is None:
            return whole_of(by_module(at))
        places = (some[:, None] * SUMS + torch.arange(SUMS, device=some.device)).flatten()
        found = torch.zeros_like(whole_of(first))
        if len(places):  # a resample may have drawn none of the probes on which kernels are compared
            found[places[:, None], places] = whole_of(of_samples(at, some))
        return found

    return KernelForm(by_module, lambda at: of_some(at, None), squares, of_some, squares, whole_of(first), first)


def whole_of(parts: Grams) -> Tensor:
    """The sum of a kernel's parts."""
    return torch.stack(list(parts.values())).sum(0)


def vectors_of(f: Functional, inputs: Any, count: int, seed: int) -> Callable[[Functional], Tensor]:
    """(count, n, C) K v for a few random v of unit variance, the same at all weights: their norms estimate |K|_F."""
    inputs = f.inputs(inputs)
    n, c = n_samples(inputs), n_outputs_of(f, inputs)
    draws = torch.randn(count, n, c, generator=stream(seed, "kernel demand"), dtype=WORKING).to(f.device, f.dtype)
    return lambda at: torch.stack([kernel_product(at, inputs, v) for v in draws])


def kernel_product(f: Functional, inputs: Any, v: Tensor, *, rough: bool = False) -> Tensor:
    """K v = J J' v, (n, C); `rough`: see `jvp`."""
    values, pulled = value_and_vjp(f, inputs, v)
    anew = once(pulled, lambda: vjp(f, inputs, v))
    del pulled
    return value_and_jvp(f, inputs, anew, rough=rough, values=values)[1].to(WORKING)


def _by_probe(products: Tensor) -> Tensor:
    return products.square().sum((0, 2))
