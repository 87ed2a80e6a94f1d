"""The one mechanism that reads a network: forward hooks, in a context manager that leaves no trace.

Hooks only look: they always return None, so the forward pass computes what it would have computed without them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from geomfeat.activations.layer_selection import Patterns, inside, modules_by_name, select_layers, split_key
from geomfeat.activations.model_state import same_mode, uncompiled, unfused_attention
from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped

Calls = int | Literal["last", "all"]
Transform = Callable[[str, Tensor], Any]


def tensors_by_path(value: Any) -> dict[str, Tensor]:
    """Every tensor of a nested value by its path; "" for a tensor by itself.

    Tuples and lists give "[1]", mappings "[key]", dataclasses "[field]", chained where they are nested. A structure
    that holds one tensor only has the path "" too: (out, None) of an attention module is just its output. A packed
    sequence is unpacked to (n, length, ...), padded with zeros, in the order of the samples.

    >>> import torch
    >>> list(tensors_by_path((torch.ones(1), (torch.ones(1), None))))
    ['[0]', '[1][0]']
    """
    found = dict(leaves_by_path(value))
    return {"": next(iter(found.values()))} if len(found) == 1 else found


def leaves_by_path(value: Any) -> Iterator[tuple[str, Tensor]]:
    """(path, tensor) of every tensor of a nested value, in order; a single one has its path too."""
    for path, leaf in _leaves(value):
        yield path, padded(leaf)[0] if isinstance(leaf, PackedSequence) else leaf


def padded(sequence: PackedSequence) -> tuple[Tensor, Tensor]:
    """A packed sequence as (n, length, ...), padded with zeros, and the lengths (n,), in the order of the samples."""
    return pad_packed_sequence(sequence, batch_first=True)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Tensor | PackedSequence]]:
    if isinstance(value, Tensor | PackedSequence):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}[{key}]")
    elif isinstance(value, tuple | list):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from _leaves(getattr(value, f.name), f"{path}[{f.name}]")


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What to keep of one module: a call (None: as `calls` says) and the paths ("" all of them)."""

    call: int | None
    path: str


class _Recorder:
    """Counts the calls of each module in a forward pass and stores what is wanted."""

    def __init__(
        self, calls: Calls, transform: Transform | None, detach: bool, lengths: dict[str, Tensor] | None
    ) -> None:
        self.calls = calls
        self.lengths = {} if lengths is None else lengths
        self.transform = transform
        self.detach = detach
        self.recorded: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def restart(self) -> None:
        self.recorded.clear()
        self.lengths.clear()
        self.counts.clear()

    def see(self, name: str, wanted: list[_Wanted], value: Any) -> None:
        call = self.counts.get(name, 0)
        self.counts[name] = call + 1
        for want in wanted:
            calls = self.calls if want.call is None else want.call
            if isinstance(calls, int) and calls != call:
                continue
            prefix = name if calls == "last" else f"{name}@{call}"
            found = tensors_by_path(value) if not want.path else dict(leaves_by_path(value))
            lengths = {where: padded(leaf)[1] for where, leaf in _leaves(value) if isinstance(leaf, PackedSequence)}
            for path, tensor in found.items():
                if want.path in ("", path):
                    if lengths and (path in lengths or len(found) == 1):
                        self.lengths[prefix + path] = lengths.get(path, next(iter(lengths.values())))
                    self.keep(prefix + path, tensor)

    def keep(self, key: str, tensor: Tensor) -> None:
        tensor = tensor.detach() if self.detach else tensor
        # Cloned here and now: a following in-place operation overwrites the tensor that the module returned.
        value = tensor.clone() if self.transform is None else self.transform(key, tensor)
        if value is not None:
            self.recorded[key] = value


@contextmanager
def recording(
    model: nn.Module,
    layers: Patterns,
    *,
    io: Literal["output", "input"] = "output",
    calls: Calls = "last",
    transform: Transform | None = None,
    detach: bool = True,
    lengths: dict[str, Tensor] | None = None,
) -> Iterator[dict[str, Any]]:
    """A dictionary that every forward pass inside the block fills with the outputs of the layers.

    Keys: "layer"; "layer[1][0]" for the tensors of nested outputs (see `tensors_by_path`); "layer@2" where a call is
    asked for by number or `calls="all"`. A key can itself be given as a layer, to record only that tensor.

    Args:
        layers: patterns, see `select_layers`; "" is the model itself.
        io: what a layer returns, or what it is given (before it can change it in place).
        calls: of a module that is called several times in a forward pass: the last call, all, or the k-th from 0.
        transform: (key, tensor) -> what to store, applied at once. It must copy or reduce: the tensor may be
            overwritten by the next layer. None stores nothing. Default: a copy.
        detach: False keeps the tensors differentiable, also under torch.func transforms (record and use them inside
            the transformed function then).
        lengths: a dictionary to be filled with the number of steps (n,) of every sample, by key, for what comes as a
            packed sequence, before `transform` is called.

    After the block, also after an error: no hook is left and every submodule's `.training` is as before. The recording
    itself touches neither buffers nor random state. Inside, modules run eagerly, also compiled ones, and transformer
    layers without torch's fused fast path, which would pass the hooks by.

    Raises LayerNotFound, or BadInput for a TorchScript model.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    >>> with recording(net, "*") as seen:
    ...     out = net(torch.ones(4, 2))
    >>> {name: tuple(tensor.shape) for name, tensor in seen.items()}
    {'0': (4, 3), '1': (4, 3)}
    """
    layers, model = inside(model, layers), unwrapped(model)
    if io not in ("output", "input"):
        raise BadInput(f"io={io!r} must be 'output' or 'input'")
    if calls not in ("last", "all") and not (isinstance(calls, int) and calls >= 0):
        raise BadInput(f"calls={calls!r} must be 'last', 'all' or the number of a call, from 0")
    modules = {"": model, **modules_by_name(model)}
    wanted: dict[str, list[_Wanted]] = {}
    for key in select_layers(model, layers):
        name, call, path = split_key(key)
        wanted.setdefault(name, []).append(_Wanted(call, path))
    recorder = _Recorder(calls, transform, detach, lengths)
    with ExitStack() as stack:
        stack.enter_context(same_mode(model))
        stack.enter_context(uncompiled())
        stack.enter_context(unfused_attention())
        restart = model.register_forward_pre_hook(lambda *_: recorder.restart(), prepend=True)
        stack.callback(restart.remove)
        for name, wants in wanted.items():
            stack.callback(_attach(modules[name], name, wants, recorder, io).remove)
        yield recorder.recorded


def _attach(module: nn.Module, name: str, wants: list[_Wanted], recorder: _Recorder, io: str) -> Any:
    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        recorder.see(name, wants, _given(args, kwargs))

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        recorder.see(name, wants, output)

    if io == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    return {**dict(enumerate(args)), **kwargs}
