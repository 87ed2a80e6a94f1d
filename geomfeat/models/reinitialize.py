"""Fresh initial weights for a model whose own are lost, and BatchNorm statistics that fit them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import ParametrizationList

from geomfeat.errors import BadInput
from geomfeat.models.effective_weights import (
    inside_parametrization,
    is_reparametrised,
    set_weights,
    without_reparametrisation,
)
from geomfeat.models.functional import call, copied, differentiable_attention, unwrapped
from geomfeat.models.nested_inputs import as_inputs, moved, take
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.numerics import stream

Factory = Callable[[], nn.Module]


def fresh(factory: Factory, seed: int, number: int) -> nn.Module:
    """`factory()` under separate random states (seed, number) of torch, numpy and Python.

    The global generators are as before afterwards, also when the factory raised. Raises BadInput when what it returns
    is not a module.

    >>> make = lambda: nn.Linear(2, 1)
    >>> torch.equal(fresh(make, 0, 0).weight, fresh(make, 0, 0).weight)
    True
    """
    with random_state(stream(seed, "reinitialise", number).initial_seed()):
        model = factory()
    if not isinstance(model, nn.Module):
        raise BadInput(f"the factory returned {type(model).__name__}, not a torch.nn.Module")
    return model


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Inside, the global generators of torch, numpy and Python start from `seed`; afterwards they are as before.

    A user's factory may draw from any of them.
    """
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


def resetting(model: nn.Module, keep: Collection[str] = ()) -> Factory:
    """A factory from the model alone: a copy on which every module's own `reset_parameters` was called.

    Parts before the modules that hold them, as constructors run: attention, for one, resets its projections itself.
    A weight that is made of others (weight norm, spectral norm, parametrizations) is drawn as the plain one would be,
    and what it is made of follows. `keep`: parameters that need no reset, see `keeping`.

    BadInput names the modules that hold parameters but offer no such method: then only the user knows how they start.
    """
    model = unwrapped(model)
    mute = {}
    for name, module in model.named_modules():
        held = [own for own, _ in module.named_parameters(prefix=name, recurse=False) if own not in keep]
        of_another = isinstance(module, ParametrizationList)
        if held and not of_another and _reset(module) is None:
            mute[name or type(module).__name__] = held
    if mute:
        bare = [own for held in mute.values() for own in held]
        raise BadInput(
            f"neither initial= nor factory= is given, and {len(mute)} modules cannot reset their parameters "
            f"({', '.join(list(mute)[:5])}): pass factory=, a function that returns the model with fresh weights, or "
            f"give their class a method reset_parameters() that draws {', '.join(bare[:5])}"
        )

    def factory() -> nn.Module:
        clone = copied(model)
        for module in reversed(list(clone.modules())):
            _reset_module(module)
        return clone

    return factory


def keeping(factory: Factory, model: nn.Module, names: Collection[str]) -> Factory:
    """`factory` with the parameters `names` as they are in `model`: those that training is known to have left alone."""
    if not names:
        return factory
    values = {name: p.detach() for name, p in unwrapped(model).named_parameters() if name in names}

    def kept() -> nn.Module:
        made = factory()
        with torch.no_grad():
            for name, p in unwrapped(made).named_parameters():
                if name in values and values[name].shape == p.shape:
                    p.copy_(values[name])
        return made

    return kept


def _reset_module(module: nn.Module) -> None:
    reset = _reset(module)
    if reset is None:
        return
    if not is_reparametrised(module):
        reset()
        return
    # A reset writes into the weight, which is computed anew at the next use: it is drawn on a plain twin.
    plain = without_reparametrisation(module)
    _reset(plain)()  # type: ignore[misc]
    drawn, state = dict(plain.named_parameters(recurse=False)), plain.state_dict()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name in state and not inside_parametrization(name):
                tensor.copy_(state[name])
    set_weights(module, {name: p.detach() for name, p in drawn.items()})


def _reset(module: nn.Module) -> Callable[[], Any] | None:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def batchnorm_modules(model: nn.Module) -> list[_BatchNorm]:
    """BatchNorm modules that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def never_estimated(model: nn.Module) -> bool:
    """True when BatchNorm statistics are still those of construction: means 0, variances 1, no batch counted.

    The count alone does not decide: converted weights come without one.
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

    A network that subtracts its own start (`at_richness`) holds that as `held_networks`: its statistics are too. Inputs
    that are read in batches are read whole, since deeper layers see what earlier statistics make of all samples.

    Raises BadInput where a layer has too few values per channel for a variance (one sample).
    """
    inputs = take(inputs, slice(None)) if isinstance(inputs, LazyInputs) else as_inputs(inputs)
    clone = copied(model).eval()
    held = [net for module in clone.modules() for net in getattr(module, "held_networks", ())]
    kept = [(m, m.momentum) for net in (clone, *held) for m in batchnorm_modules(net)]
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
            call(clone, moved(inputs, anchor.device, anchor.dtype))
    except ValueError as cause:
        raise BadInput(f"BatchNorm statistics cannot be estimated: {cause} (give more samples)") from cause
    for module, momentum in kept:
        module.momentum = momentum
    return clone.eval()
