"""Fresh initial weights for a model whose own are lost, and BatchNorm statistics that fit them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import as_inputs, call, moved, unwrapped
from geomfeat.numerics import stream

Factory = Callable[[], nn.Module]
_BATCHNORM = nn.modules.batchnorm._BatchNorm


def fresh(factory: Factory, seed: int, number: int) -> nn.Module:
    """`factory()` under a random state of its own (seed, number); the global generators are as before afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(stream(seed, "reinitialise", number).initial_seed())
        model = factory()
    if not isinstance(model, nn.Module):
        raise BadInput(f"the factory returned {type(model).__name__}, not a torch.nn.Module")
    return model


def resetting(model: nn.Module) -> Factory:
    """A factory from the model alone: a copy on which every module's own `reset_parameters` was called.

    BadInput names the modules that hold parameters but offer no such method: then only the user knows how they start.
    """
    model = unwrapped(model)
    mute = [
        name or type(module).__name__
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False)) and _reset(module) is None
    ]
    if mute:
        raise BadInput(
            f"neither initial= nor factory= is given, and {len(mute)} modules cannot reset their parameters "
            f"({', '.join(mute[:5])}): pass factory=, a function that returns the model with fresh weights"
        )

    def factory() -> nn.Module:
        clone = copy.deepcopy(model)
        for module in clone.modules():
            reset = _reset(module)
            if reset is not None and any(True for _ in module.parameters(recurse=False)):
                reset()
        return clone

    return factory


def _reset(module: nn.Module) -> Callable[[], Any] | None:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def batchnorm_modules(model: nn.Module) -> list[nn.Module]:
    """BatchNorm modules that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BATCHNORM) and m.running_mean is not None]


def never_estimated(model: nn.Module) -> bool:
    """True when BatchNorm statistics are still those of construction (no batch was ever counted)."""
    norms = batchnorm_modules(model)
    return bool(norms) and all(int(m.num_batches_tracked or 0) == 0 for m in norms)  # type: ignore[union-attr]


def with_batchnorm_statistics(model: nn.Module, inputs: Any) -> nn.Module:
    """A copy whose BatchNorm running statistics are those of one pass over `inputs`, with cumulative averages."""
    clone = copy.deepcopy(unwrapped(model)).eval()
    parameter = next(clone.parameters())
    for module in batchnorm_modules(clone):
        assert isinstance(module, _BATCHNORM)
        module.reset_running_stats()
        module.momentum = None
        module.train()
    with torch.no_grad():
        call(clone, moved(as_inputs(inputs), parameter.device, parameter.dtype))
    return clone.eval()
