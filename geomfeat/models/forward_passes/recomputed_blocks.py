"""Networks whose repeated blocks keep their inputs alone for a backward pass, and are computed once more for it.

The activations of a long context take more memory than a machine has: every layer keeps a number for each pair of
tokens. With recomputed blocks a backward pass holds those of one block at a time, for one more forward pass.

torch's own checkpoints recompute after the pass, when a model has its own weights again, while a pass here may have had
others (`call_with`); and a block that adds to a cache of keys would do so twice. Here blocks are computed again at the
weights that the pass had and without caches, and what comes out must be what came out before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from geomfeat.models.forward_passes.contexts import (
    NOTHING,
    differentiable_attention,
    eager,
    holding,
    own_checkpoints,
    without_checkpoints,
)
from geomfeat.models.streamed_inputs import leaves_of

# By names: modules in the values would keep their own network alive.
_blocks: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()


class ComputedOtherwise(RuntimeError):
    """A block gave something else the second time."""


def recompute(model: nn.Module, blocks: Sequence[str]) -> None:
    """Recompute these parts of a network in all later backward passes through `call_with`; none of them to stop it.

    Passes in forward mode and torch.func's transforms keep nothing that could be spared, and stay as they are.
    """
    _blocks[model] = tuple(blocks)


def recomputed_blocks(model: nn.Module) -> tuple[str, ...]:
    """Names of the parts of a network that are recomputed.

    >>> recomputed_blocks(nn.Linear(1, 1))
    ()
    """
    return _blocks.get(model, ())


def recomputing(model: nn.Module) -> AbstractContextManager[object]:
    """Within, a pass with gradients keeps the inputs of the blocks alone that are to be recomputed."""
    names = recomputed_blocks(model) if _blocks and torch.is_grad_enabled() else ()
    return _recomputing(model, names) if names else NOTHING


@contextmanager
def _recomputing(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for name in names:
            block = model.get_submodule(name)
            before = block.__dict__.get("forward")  # some libraries put a forward of their own on a module
            block.__dict__["forward"] = _twice(block, block.forward)
            stack.callback(_put_back, block, before)
        yield


def _put_back(block: nn.Module, before: Any) -> None:
    if before is None:
        del block.__dict__["forward"]
    else:
        block.__dict__["forward"] = before


def _twice(block: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
    """A forward of the block that is computed again when a backward pass asks for what it would have kept."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            return own(*args, **kwargs)
        modules, sizes = dict(block.named_modules()), []
        weights = _tensors_in(modules)

        def run(*args: Any, **kwargs: Any) -> Any:
            # A backward pass runs outside of the contexts of the forward pass.
            with (
                differentiable_attention(), eager(modules.values()), without_checkpoints(), holding(modules, weights)
            ):  # fmt: skip
                out = own(*args, **kwargs)
            _require_same(sizes, out)
            return out

        # The whole block, so that its output can be compared; else torch stops at the last tensor that is asked for.
        with own_checkpoints(), checkpoint.set_checkpoint_early_stop(False):
            args = tuple(_without_cache("", value) for value in args)
            kwargs = {name: _without_cache(name, value) for name, value in kwargs.items()}
            return checkpoint.checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return forward


def _without_cache(name: str, value: Any) -> Any:
    """An argument as a block takes it that is to remember no keys: transformers hand a cache to each, which it adds to.

    >>> _without_cache("use_cache", True), _without_cache("scale", 2.0)
    (False, 2.0)
    """
    if name == "use_cache":
        return False
    return None if hasattr(value, "get_seq_length") else value


def _tensors_in(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What the modules compute with now, by their path and its name."""
    return {
        f"{path}.{name}" if path else name: value
        for path, module in modules.items()
        for name, value in (*module._parameters.items(), *module._buffers.items())
        if value is not None
    }


def _require_same(sizes: list[tuple[float, float]], out: Any) -> None:
    """Keep sum and norm of each output of a block the first time; compare them the second time."""
    with torch.no_grad():
        found = [(float(t.sum()), float(t.norm()), t) for _, t in leaves_of(out) if t.is_floating_point()]
    if not sizes:
        sizes.extend((total, norm) for total, norm, _ in found)
    elif len(sizes) != len(found):
        raise ComputedOtherwise(f"a block gave {len(found)} tensors the second time, {len(sizes)} the first time")
    for (before, size), (total, norm, t) in zip(sizes, found, strict=True):
        near = torch.finfo(t.dtype).eps ** 0.5 * size * t.numel() ** 0.5
        if abs(total - before) > near or abs(norm - size) > near:
            raise ComputedOtherwise(
                "a block of the network gives another output when it is computed again: it is random, or keeps "
                "something from one call to the next"
            )
