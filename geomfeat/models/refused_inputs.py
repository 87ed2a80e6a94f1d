"""What to say where a network does not take its inputs: which layer refused them, what it was given, and what to do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.memory import is_out_of_memory
from geomfeat.models.streamed_inputs import leaves_of

_SAME = "Give inputs of the shape and type it was trained on, samples first (a lone sample as x[None])"
_FLOATS = (
    "it computes with floating numbers, and was given {given}: give inputs.float(), scaled as in training (images of "
    "bytes often / 255)"
)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_OF_TYPES = re.compile(r"dtype|scalar type|Input type|same type", re.IGNORECASE)
# Whom a module was entered by, and with what.
_Entered = tuple[str, nn.Module, tuple[Any, ...]]


def is_refusal(error: BaseException) -> bool:
    """Whether torch raised this since shapes or types do not fit; a subclass is the model's own error."""
    return type(error) in (RuntimeError, TypeError, IndexError, ValueError) and not is_out_of_memory(error)


def explained(
    model: nn.Module, run: Callable[[], Any], inputs: Any, *, reader: str = "", remedy: Callable[[], str] = lambda: ""
) -> Any:
    """`run()`, a call of the model on these inputs; BadInput, with their shapes and the cause, where it refuses them.

    Args:
        reader: what else takes part, for the message. remedy: what to add to it.
    """
    try:
        return run()
    except (RuntimeError, TypeError, IndexError, ValueError) as cause:
        if not is_refusal(cause):
            raise
        leaves = [t for _, t in leaves_of(inputs)]
        shapes = ", ".join(f"{tuple(t.shape)} {_name(t)}" for t in leaves) or "no tensors"
        names = f" under {', '.join(map(repr, inputs))}" if isinstance(inputs, dict) else ""
        samples = f" for {len(leaves[0])} samples" if leaves and leaves[0].ndim else ""
        raise BadInput(
            f"{type(model).__name__} cannot be called on these inputs{reader} ({shapes}{names}{samples}): "
            f"{why_refused(model, run, inputs, cause)}{remedy()}"
        ) from cause


def why_refused(model: nn.Module, again: Callable[[], Any], inputs: Any, error: BaseException) -> str:
    """Where and why a network refused its inputs, and the remedy, in one sentence each.

    Args:
        again: the call that failed; it is made once more, watched. inputs: what it is made on. error: what it raised.

    >>> net = nn.Sequential(nn.Linear(5, 2))
    >>> print(why_refused(net, lambda: net(torch.ones(3, 4)), torch.ones(3, 4), RuntimeError("shapes")))
    layer '0' (Linear of 5 features) was given (3, 4) float32: give inputs of shape (samples, ..., 5), as it was \
trained on
    """
    words = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
    found = _refusing(model, again)
    leaves = [t for _, t in leaves_of(inputs)]
    if found is None:
        return _without_layer(leaves, words)
    name, module, args = found
    given = [t for _, t in leaves_of(args)]
    shown = ", ".join(f"{tuple(t.shape)} {_name(t)}" for t in given) or "no tensors"
    where = f"layer {name!r} ({_described(module)}) was given {shown}: " if name else ""
    known = _remedy(module, given, leaves) if given else ""
    if known:
        return f"{where}{known}"
    if isinstance(error, TypeError) and "argument" in words and not name:
        return f"{words}. Its forward takes {_signature(module)}: give as many inputs, or a mapping of these names"
    return f"{where}{_without_layer(leaves, words)}"


def _refusing(model: nn.Module, again: Callable[[], Any]) -> _Entered | None:
    """The innermost module that was entered and not left; None where the call succeeds, or none was entered."""
    entered: list[_Entered] = []

    def enter(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered.append((name, module, (*args, *kwargs.values())))

    def leave(*_: Any) -> None:
        entered.pop()

    with torch.no_grad(), ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        try:
            again()
        except Exception:  # noqa: BLE001 - it is the error that is being explained
            return entered[-1] if entered else None
    return None


def _described(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Linear):
        return f"{kind} of {module.in_features} features"
    if isinstance(module, _CONVOLUTIONS):
        return f"{kind} of {module.in_channels} channels"
    return f"{kind} of {module.num_embeddings} rows" if isinstance(module, _EMBEDDINGS) else kind


def _remedy(module: nn.Module, given: Sequence[Tensor], inputs: Sequence[Tensor]) -> str:
    """What to do for a layer of torch's that does not take its first tensor; "" where that is not known."""
    t = given[0]
    if isinstance(module, _EMBEDDINGS):
        return _for_tokens(module, t)
    if not t.is_floating_point() and not t.is_complex() and any(p.is_floating_point() for p in module.parameters()):
        return _FLOATS.format(given=_name(t))
    raw = any(t.shape == part.shape for part in inputs)
    if isinstance(module, nn.Linear) and t.shape[-1:] != (module.in_features,):
        if not raw:
            return "give inputs of the size (height, width, length) that it was trained on"
        lone = ", a lone sample as x[None]" if t.ndim == 1 else ""
        return f"give inputs of shape (samples, ..., {module.in_features}){lone}, as it was trained on"
    return _for_images(module, t, raw) if isinstance(module, _CONVOLUTIONS) else ""


def _for_tokens(module: nn.Embedding | nn.EmbeddingBag, t: Tensor) -> str:
    if t.dtype not in (torch.int64, torch.int32):
        return "give token ids as integers, inputs.long()"
    rows = module.num_embeddings
    if t.numel() and (int(t.min()) < 0 or int(t.max()) >= rows):
        return (
            f"token ids run from {int(t.min())} to {int(t.max())} where it has 0 to {rows - 1}: give token ids as "
            "integers below the number of embeddings, of the vocabulary it was trained on"
        )
    return ""


def _for_images(module: Any, t: Tensor, raw: bool) -> str:
    axes = len(module.kernel_size)
    shape = f"(samples, {module.in_channels}, {', '.join(('depth', 'height', 'width')[-axes:])})"
    if t.ndim == axes + 2 and t.shape[1] != module.in_channels and t.shape[-1] == module.in_channels:
        return f"channels come before the space: give inputs.movedim(-1, 1), of shape {shape}"
    if t.ndim != axes + 2 or t.shape[1] != module.in_channels:
        return f"it takes {shape}: give inputs of the {'shape' if raw else 'size'} it was trained on"
    return ""


def _without_layer(inputs: Sequence[Tensor], words: str) -> str:
    whole = [t for t in inputs if not t.is_floating_point() and not t.is_complex()]
    if whole and _OF_TYPES.search(words) and len(whole) == len(inputs):
        return _FLOATS.format(given=_name(whole[0]))
    return f"{words}. {_SAME}"


def _signature(module: nn.Module) -> str:
    try:
        return str(inspect.signature(module.forward))
    except (TypeError, ValueError):
        return "other arguments"


def _name(t: Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")


def flat_bags(parts: Sequence[Tensor]) -> Iterator[str]:
    """What to give in place of token ids laid end to end with offsets, which have no row for each sample."""
    for i, ids in enumerate(parts):
        for starts in parts[i + 1 :]:
            flat = all(t.ndim == 1 and t.dtype in (torch.int64, torch.int32) for t in (ids, starts))
            if flat and 0 < len(starts) < len(ids) and int(starts[0]) == 0 and bool((starts.diff() >= 0).all()):
                yield (
                    f". These are token ids end to end, ({len(ids)},), with offsets, ({len(starts)},), which have no "
                    "row for each sample: give ids padded to (samples, length), with padding_idx= in the EmbeddingBag, "
                    "and None in place of the offsets"
                )
                return
