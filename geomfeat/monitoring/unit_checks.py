"""Features that no longer say anything: the same for all inputs, or without any effect on the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations import recording
from geomfeat.activations.reduction import plain
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import WORKING, stream
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence
from geomfeat.tangent.jacobians.products import has_rows


def spread(features: Tensor) -> float:
    """|h - mean of h| / |h| of features (n, d): from 0, the same for every sample, to 1.

    >>> spread(torch.tensor([[3.0, 4.0], [3.0, 4.0]])), spread(torch.tensor([[1.0], [-1.0]]))
    (0.0, 1.0)
    """
    h = features.to(WORKING)
    size = float(h.norm())
    return float((h - h.mean(0)).norm()) / size if size > 0 else 0.0


def dead_shares(f: Functional, inputs: Any, layers: Sequence[str], seed: int) -> dict[str, float]:
    """Layer -> share of its features on which no output depends, for any of the n probes.

    A feature is dead if the derivative of a random sum of the outputs with respect to it is 0 for every probe: one
    forward and one backward pass. A feature of another position than those that are read out has no derivative either,
    so shares are to be compared with those at the start. A layer before every trained parameter has no entry.

    >>> from geomfeat.models.functional import functional
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> with torch.no_grad():
    ...     _, _ = net[0].weight.fill_(1.0), net[0].bias.copy_(torch.tensor([0.0, -5.0]))
    >>> dead_shares(functional(net), torch.ones(3, 1), ["0"], 0)
    {'0': 0.5}
    """
    inputs = f.inputs(inputs)
    n = n_samples(inputs)
    slopes: dict[str, Tensor] = {}

    def watch(key: str, tensor: Tensor) -> None:
        # A hook rather than the tensor itself: what follows may overwrite it in place, and the derivative asked for is
        # that at the layer's own output.
        if has_rows(tensor, n) and tensor.requires_grad:
            tensor.register_hook(lambda g, key=key: slopes.__setitem__(key, plain(g).reshape(n, -1)))

    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    with (
        torch.enable_grad(), differentiable_recurrence(f),
        recording(f.model, list(layers), transform=watch, detach=False),
    ):  # fmt: skip
        out = f(theta, inputs)
        v = torch.randn(out.shape, generator=stream(seed, "monitor", "dead units"), dtype=WORKING)
        torch.autograd.grad((out * v.to(out)).sum(), list(theta.values()), allow_unused=True)
    return {key: float((slope == 0).all(0).double().mean()) for key, slope in slopes.items()}


def spreads(features: Mapping[str, Tensor]) -> dict[str, float]:
    """`spread` of every layer."""
    return {name: spread(h) for name, h in features.items()}
