"""Gradients by plain backward passes: what every other way of taking a derivative is measured against."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.models.functional import Functional


def differentiable_recurrence(f: Functional) -> AbstractContextManager[Any]:
    """cuDNN's recurrent kernels refuse a backward pass in evaluation mode: leave them out where there are any."""
    recurrent = f.device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m in f.model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


def plain_gradient(value: Tensor, theta: Mapping[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """Gradient of a scalar by a backward pass, dense; zero for parameters that it does not depend on."""
    if not value.requires_grad:
        return {name: torch.zeros_like(t) for name, t in theta.items()}
    grads = torch.autograd.grad(value, list(theta.values()), allow_unused=True, **options)
    return {name: _dense(g, t) for (name, t), g in zip(theta.items(), grads, strict=True)}


def _dense(gradient: Tensor | None, like: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(like)
    return gradient.to_dense() if gradient.layout is not torch.strided else gradient
