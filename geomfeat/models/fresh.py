"""Fresh initial weights for a model whose own are lost, and BatchNorm statistics that fit them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from geomfeat.errors import BadInput
from geomfeat.models.functional import as_inputs, call, copied, differentiable_attention, moved, unwrapped
from geomfeat.numerics import stream

Factory = Callable[[], nn.Module]


def fresh(factory: Factory, seed: int, number: int) -> nn.Module:
    """`factory()` under random states of its own (seed, number), those of torch, numpy and Python.

    The global generators are as before afterwards, also when the factory raised. Raises BadInput when what it returns
    is not a module.

    >>> make = lambda: nn.Linear(2, 1)
    >>> torch.equal(fresh(make, 0, 0).weight, fresh(make, 0, 0).weight)
    True
    """
    with _random_state(stream(seed, "reinitialise", number).initial_seed()):
        model = factory()
    if not isinstance(model, nn.Module):
        raise BadInput(f"the factory returned {type(model).__name__}, not a torch.nn.Module")
    return model


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    # A factory may draw from any of the global generators.
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def resetting(model: nn.Module) -> Factory:
    """A factory from the model alone: a copy on which every module's own `reset_parameters` was called.

    Parts before the modules that hold them, as constructors run: attention, for one, resets its projections itself.
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
        clone = copied(model)
        for module in reversed(list(clone.modules())):
            reset = _reset(module)
            if reset is not None:
                reset()
        return clone

    return factory


def _reset(module: nn.Module) -> Callable[[], Any] | None:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def batchnorm_modules(model: nn.Module) -> list[_BatchNorm]:
    """BatchNorm modules that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def never_estimated(model: nn.Module) -> bool:
    """True when BatchNorm statistics are still those of construction: means 0, variances 1, no batch counted.

    The count alone does not tell: weights that were converted from elsewhere come without one.
    """
    norms = batchnorm_modules(model)
    return bool(norms) and all(_as_constructed(m) for m in norms)


def _as_constructed(norm: _BatchNorm) -> bool:
    counted = norm.num_batches_tracked
    if counted is not None and int(counted) > 0:
        return False
    return bool((norm.running_mean == 0).all()) and bool((norm.running_var == 1).all())


def with_batchnorm_statistics(model: nn.Module, inputs: Any) -> nn.Module:
    """A copy, in evaluation mode, whose BatchNorm statistics are those of one pass over `inputs` as a single batch.

    Raises BadInput where a layer has too few values per channel for a variance (one sample).
    """
    clone = copied(model).eval()
    kept = [(m, m.momentum) for m in batchnorm_modules(clone)]
    if not kept:
        return clone
    anchor = next(clone.parameters(), kept[0][0].running_mean)
    assert anchor is not None
    for module, _ in kept:
        module.reset_running_stats()
        module.momentum = None  # counts batches evenly: with one batch, its own statistics
        module.train()
    try:
        with torch.no_grad(), differentiable_attention():
            call(clone, moved(as_inputs(inputs), anchor.device, anchor.dtype))
    except ValueError as cause:
        raise BadInput(f"BatchNorm statistics cannot be estimated: {cause} (give more samples)") from cause
    for module, momentum in kept:
        module.momentum = momentum
    return clone.eval()
