"""What layers are called with, so that a layer can be called again on its own: by hooks, whole argument lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from geomfeat.activations.layer_selection import modules_by_name
from geomfeat.activations.model_state import same_mode, uncompiled, unfused_attention
from geomfeat.models.functional import unwrapped


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer: its arguments as they were before it, copied, and what it returned, copied."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any = None

    def again(self, module: nn.Module) -> Any:
        """What `module` returns for these arguments; they are left alone, also by layers that work in place."""
        return module(*duplicate(self.args), **duplicate(self.kwargs))


def duplicate(value: Any) -> Any:
    """The same nested value with every tensor copied and cut from its history."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, PackedSequence):
        return value._replace(data=value.data.detach().clone())
    if isinstance(value, Mapping):
        return {k: duplicate(v) for k, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(duplicate(v) for v in value)
    return value


@contextmanager
def recording_layer_calls(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, list[LayerCall]]]:
    """A dictionary that every forward pass inside the block fills anew: layer -> its calls, in order.

    Args:
        layers: names of modules. Those that are not called have no entry.

    After the block, also after an error, no hook is left and every submodule's `.training` is as before. LayerNotFound
    is not raised here: an unknown name is a KeyError of the caller's.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))
    >>> with recording_layer_calls(net, ["2"]) as calls:
    ...     out = net(torch.ones(4, 2))
    >>> torch.equal(calls["2"][0].again(net[2]), out)
    True
    """
    model = unwrapped(model)
    modules = modules_by_name(model)
    calls: dict[str, list[LayerCall]] = {}
    with ExitStack() as stack:
        stack.enter_context(same_mode(model))
        stack.enter_context(uncompiled())
        stack.enter_context(unfused_attention())
        stack.callback(model.register_forward_pre_hook(lambda *_: calls.clear(), prepend=True).remove)
        for name in layers:
            begin, end = partial(_begin, calls, name), partial(_end, calls, name)
            stack.callback(modules[name].register_forward_pre_hook(begin, with_kwargs=True).remove)
            stack.callback(modules[name].register_forward_hook(end, with_kwargs=True).remove)
        yield calls


def _begin(calls: dict[str, list[LayerCall]], name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
    calls.setdefault(name, []).append(LayerCall(duplicate(args), duplicate(kwargs)))


def _end(calls: dict[str, list[LayerCall]], name: str, _module: nn.Module, _args: Any, _kwargs: Any, out: Any) -> None:
    begun = calls[name][-1]
    calls[name][-1] = LayerCall(begun.args, begun.kwargs, duplicate(out))


def innermost_layers(model: nn.Module, fired: Sequence[str]) -> tuple[list[str], list[str]]:
    """(alone, around): called modules with parameters that call no other, and those with their own that do.

    Attention with a projection that it uses without calling it is alone. Parametrizations are part of their module.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 1)))
    >>> innermost_layers(net, ["0", "1", "2", "2.0"])
    (['0', '2.0'], [])
    """
    modules = modules_by_name(model)
    names = [name for name in fired if ".parametrizations" not in f".{name}"]
    alone, around = [], []
    for name in names:
        module = modules[name]
        calls_others = any(other.startswith(f"{name}.") for other in names)
        if not calls_others and any(True for _ in module.parameters()):
            alone.append(name)
        elif calls_others and any(True for _ in module.parameters(recurse=False)):
            around.append(name)
    return alone, around
