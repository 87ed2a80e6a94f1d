"""What a forward pass must leave out to be differentiated in any way, and to be seen by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

NOTHING = nullcontext()
# Whether each kernel of attention may be used, and how that is set: the plain one first, then the fused ones.
_CUDA = torch.backends.cuda  # though they hold for the CPU, too
_KERNELS = (
    (_CUDA.math_sdp_enabled, _CUDA.enable_math_sdp),
    (_CUDA.flash_sdp_enabled, _CUDA.enable_flash_sdp),
    (_CUDA.mem_efficient_sdp_enabled, _CUDA.enable_mem_efficient_sdp),
    (_CUDA.cudnn_sdp_enabled, _CUDA.enable_cudnn_sdp),
)
_PLAIN = [True, False, False, False]


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Attention by plain matrix products: the fused kernels have no forward-mode or second derivative.

    As torch's `sdpa_kernel(SDPBackend.MATH)`, which takes a sixth of the time of a small network.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    before = [allowed() for allowed, _ in _KERNELS]
    if not fast and before == _PLAIN:  # as around a whole training, in which every step asks again
        yield
        return
    torch.backends.mha.set_fastpath_enabled(False)
    _allow(_PLAIN)
    try:
        yield
    finally:
        _allow(before)
        torch.backends.mha.set_fastpath_enabled(fast)


def _allow(kernels: list[bool]) -> None:
    for (_, allow), allowed in zip(_KERNELS, kernels, strict=True):
        allow(allowed)


def eager(modules: Iterable[nn.Module]) -> AbstractContextManager[object]:
    """Compiled parts among the modules run their eager code, which hooks can see and torch.func can transform.

    Nothing is done (or imported) where there are none.
    """
    # torch.compile wraps a module; Module.compile leaves it in place, with a compiled call.
    if any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in modules):
        return torch.compiler.set_stance("force_eager")
    return NOTHING


@contextmanager
def holding(modules: Mapping[str, nn.Module], placed: Mapping[str, Tensor]) -> Iterator[None]:
    """These tensors in the places of parameters and buffers of the modules, by path and name."""
    own: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, value in placed.items():
            path, _, key = name.rpartition(".")
            module = modules[path]
            place: dict[str, Any] = module._parameters if key in module._parameters else module._buffers
            own.append((place, key, place[key]))
            place[key] = value
        yield
    finally:
        for place, key, value in own:
            place[key] = value


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Activation checkpointing stores everything, and recomputes nothing: it changes memory alone.

    A recomputation comes after the pass, when the model has its own tensors again, so it would differentiate at other
    weights than the pass had; and torch's reentrant checkpoints refuse torch.autograd.grad.
    """
    with _checkpoints(_CHECKPOINTS):
        yield


@contextmanager
def own_checkpoints() -> Iterator[None]:
    """Within `without_checkpoints`, checkpoints as torch has them."""
    with _checkpoints(_OWN):
        yield


@contextmanager
def _checkpoints(parts: Mapping[str, Any]) -> Iterator[None]:
    before = {name: getattr(checkpoint, name) for name in _OWN}
    try:
        for name in before:
            setattr(checkpoint, name, parts[name])
        yield
    finally:
        for name, part in before.items():
            setattr(checkpoint, name, part)


class _Reentrant:
    """In the place of the autograd function behind reentrant checkpoints."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve_rng_state: bool, *args: Any) -> Any:
        return function(*args)


def _nothing_before_or_after(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """In the place of what comes before and after the function in other checkpoints."""
    yield


_CHECKPOINTS: dict[str, Any] = {
    "CheckpointFunction": _Reentrant,
    "_checkpoint_without_reentrant_generator": _nothing_before_or_after,
}
_OWN: dict[str, Any] = {name: getattr(checkpoint, name) for name in _CHECKPOINTS if hasattr(checkpoint, name)}
