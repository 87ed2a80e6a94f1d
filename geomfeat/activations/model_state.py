"""Run a model without side effects: its mode, weights and the global random state are restored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from geomfeat.activations.parameter_state import same_parameters
from geomfeat.models.forward_passes.contexts import without_checkpoints
from geomfeat.numerics import whole_seed


@contextmanager
def same_mode(model: nn.Module) -> Iterator[None]:
    """Puts back every submodule's own `.training` flag, also after an error."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Puts back every buffer: the same tensor with the same values, also where a forward pass in eval mode counts."""
    held = [
        (module, name, b, b.clone())
        for module in model.modules()
        for name, b in module._buffers.items()
        if b is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in held:
                module._buffers[name] = buffer
                if buffer.shape != value.shape or not _same(buffer, value):
                    buffer.data = value


def _same(a: Tensor, b: Tensor) -> bool:
    if a.layout is not torch.strided and not a.is_nested:
        a, b = (t.to_sparse_coo().coalesce() for t in (a, b))
        return torch.equal(a.indices(), b.indices()) and _same(a.values(), b.values())
    return bool(((a == b) | ((a != a) & (b != b))).all())


@contextmanager
def with_gradients(model: nn.Module) -> Iterator[None]:
    """Inside, every floating parameter requires gradients; afterwards only those that did before. Leaves `.grad` alone.

    Not `functional_call`, which leaves shared modules with the tensors it was given (torch 2.13).
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(parameter.is_floating_point())
        with torch.enable_grad():
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def unfused_attention() -> Iterator[None]:
    """torch's fast path for transformer layers skips the submodules and so their hooks; off here, then as before."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Everything runs its eager code, which hooks can see: a compiled function or method leaves no mark on a module.

    Nothing is done (or imported) where the compiler is not loaded.
    """
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def evaluating(model: nn.Module, device: torch.device, seed: int = 0) -> Iterator[None]:
    """Evaluation mode without trace: flags, parameters, buffers, the fast-path switch, random states are put back.

    Flags are set on each module rather than by `.eval()`, which some modules use to merge or change weights. A model
    that draws random numbers even in evaluation mode draws those of `seed`.
    """
    gpus = [device] if device.type == "cuda" else []
    with (
        same_mode(model), same_buffers(model), same_parameters(model), uncompiled(), unfused_attention(),
        without_checkpoints(), torch.random.fork_rng(devices=gpus),
    ):  # fmt: skip
        torch.set_rng_state(torch.Generator().manual_seed(whole_seed(seed)).get_state())
        if gpus:
            torch.cuda.manual_seed(seed)
        for module in model.modules():
            module.training = False
        yield
