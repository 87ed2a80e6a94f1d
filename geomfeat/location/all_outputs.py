"""A linearised task of very many outputs, solved over all of them with a guess at their kernel.

A few directions of the outputs read R too high: the others are free to change, so hidden layers need not leave them
alone. Through all of them a solution takes over a hundred products with the kernel, and some ten with a good guess at
it: see `KroneckerKernel`. H is known, from the features of the last layer; theta is fitted to the kernel of the few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.location.demand import LinearisedTask
from geomfeat.models.functional import Functional
from geomfeat.numerics import WORKING, safe_eigh
from geomfeat.regimes.linearization.guided_response import GuidedSearch, KernelGuess
from geomfeat.regimes.linearization.kronecker_kernel import KroneckerKernel
from geomfeat.regimes.linearization.normed_kernel import NormedKernel
from geomfeat.tangent import jvp
from geomfeat.tangent.jacobians.products import pullback
from geomfeat.tangent.layerwise.last_layer import LastLayer, last_layer
from geomfeat.tangent.layerwise.last_norm import norm_of


def through_all_outputs(few: LinearisedTask, f: Functional, change: Tensor) -> LinearisedTask | None:
    """The task over all outputs, with `few` in it for resamples; None where the outputs are not of one linear layer.

    Args:
        few: through some directions of the outputs, with their kernel. f: the network. change: (n, C).
    """
    if few.gram is None or few.projection is None:
        return None
    last = last_layer(f, few.inputs)
    guess = None if last is None else _guess(few, last, f)
    if guess is None:
        return None
    change = change.to(few.change.device, WORKING)
    search = GuidedSearch(_products(f, few.inputs), change, guess)
    return replace(few, f=f, change=change, gram=None, projection=None, energy=1.0, rows=None, search=search, few=few)


def _products(f: Functional, inputs: Any) -> Callable[[Tensor], Tensor]:
    """v (n, C) -> J J' v, float64."""
    pulled: list[Callable[[Tensor], dict[str, Tensor]]] = []

    def product(v: Tensor) -> Tensor:
        if not pulled:  # not before it is needed, since its graph takes memory
            pulled.append(pullback(f, inputs))
        return jvp(f, inputs, pulled[0](v)).to(WORKING)

    return product


def _guess(few: LinearisedTask, last: LastLayer, f: Functional) -> KernelGuess | None:
    features = last.features()
    if features is None or few.gram is None or few.projection is None:
        return None
    n, k = few.change.shape
    own = torch.zeros(n, n, dtype=WORKING, device=few.change.device)
    if last.name in f.theta:
        own += (features * _rates(f, last.name)) @ features.mT
    if last.bias_name is not None and last.bias_name in f.theta:
        own += float(torch.as_tensor(_rates(f, last.bias_name)).mean())
    # The sum over the few directions p of p' K p is k H + (sum of p' W P_i P_j W' p) theta_ij.
    others = torch.einsum("icjc->ij", few.gram.view(n, k, n, k)) - k * own
    norm = norm_of(features, f.model)
    weight = last.seen if norm is None else norm.before(last.seen)
    pulled = few.projection.mT @ weight
    seen = pulled.square().sum().expand(n, n)
    if norm is not None:
        along = norm.units @ pulled.mT
        seen = seen - along.square().sum(1) - along.square().sum(1)[:, None]
        seen = seen + (norm.units @ norm.units.mT) * (along @ along.mT)
    if not bool((seen.diagonal() > 0).all()):
        return None
    values, vectors = safe_eigh(others / seen.clamp_min(float(seen.diagonal().min())))
    # What is left over is no exact kernel: the metric of the last layer differs between outputs.
    plain = KroneckerKernel(own, (vectors * values.clamp_min(0)) @ vectors.mT, weight)
    return plain if norm is None else NormedKernel(plain, norm.units)


def _rates(f: Functional, name: str) -> Tensor | float:
    """The squared factors of a parameter's metric, their mean over outputs: (d,), or a number."""
    scale = f.scale.get(name, 1.0)
    return scale**2 if not isinstance(scale, Tensor) else scale.to(WORKING).square().mean(0)
