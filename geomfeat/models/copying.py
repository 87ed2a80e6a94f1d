"""A deep copy of a module, also of one that holds tensors with a gradient history."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput

# torch's own wrapper, whose class need not be imported.
WRAPPER = "FullyShardedDataParallel"
GATHER = (
    "gather the weights, torch.distributed.checkpoint.state_dict.get_model_state_dict(model, options="
    "StateDictOptions(full_state_dict=True)), and load them into a plain model on every rank"
)


def deep_copy(model: nn.Module) -> nn.Module:
    """A deep copy. Tensors that torch cannot copy deeply are copied as plain values: computed ones, and sparse ones.

    Raises BadInput for a dispatched model, see `is_dispatched`: its copy would take the memory that it was spread for.

    torch.nn.utils.weight_norm and spectral_norm keep the weight that they compute, graph networks a sparse matrix.

    >>> net = nn.Linear(2, 1)
    >>> net.doubled = 2 * net.weight
    >>> deep_copy(net).doubled.requires_grad
    False
    """
    require_whole(model)
    if is_dispatched(model):
        raise BadInput(
            "the model is spread over several devices (a device map), so it is neither moved nor copied, which "
            "derivatives, kernels and training need: load it on one device for these, or measure features alone "
            "(extract)"
        )
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in _tensors({k: v for k, v in vars(module).items() if k != "_modules"})
        if not value.is_leaf or (value.layout is not torch.strided and not isinstance(value, nn.Parameter))
    }
    return copy.deepcopy(model, memo)


def is_dispatched(model: nn.Module) -> bool:
    """Whether a model's parameters are spread: over devices, by a device map, or over processes as distributed tensors.

    Such a model stays where it is. Its inputs go to the device of its first parameter.

    >>> is_dispatched(nn.Linear(2, 1))
    False
    """
    parameters = list(model.parameters())
    maps = [getattr(module, "hf_device_map", None) or {} for module in model.modules()]
    return (
        any(len({str(device) for device in m.values()}) > 1 for m in maps)
        or len({p.device for p in parameters if not p.is_meta}) > 1
        or bool(over_processes(model))
    )


def over_processes(model: nn.Module) -> str:
    """What says that a process holds a part of the weights only, with the first of them; "" where all are whole.

    FSDP (`fully_shard`, and `FullyShardedDataParallel` with its flattened parameters), tensor parallelism, DeepSpeed's
    stage 3. Every forward pass of such a model needs all processes of the group.

    >>> over_processes(nn.Linear(2, 1))
    ''
    """
    for name, module in model.named_modules():
        if any(base.__name__ == WRAPPER for base in type(module).__mro__):
            return f"the weights of {name or type(module).__name__!r} are flattened and spread over processes (FSDP)"
    for name, p in model.named_parameters():
        if hasattr(p, "device_mesh") or hasattr(p, "ds_id"):
            how = "a DTensor, of FSDP or tensor parallelism" if hasattr(p, "device_mesh") else "DeepSpeed's stage 3"
            return f"parameter {name!r} is spread over processes ({how})"
    return ""


def require_whole(model: nn.Module) -> None:
    """BadInput where this process holds a part of the weights only, see `over_processes`; it says how to gather them.

    >>> require_whole(nn.Linear(2, 1))
    """
    split = over_processes(model)
    if split:
        raise BadInput(
            f"{split}, so the model is neither moved nor copied, which derivatives, kernels and training need: "
            f"{GATHER}; or measure features alone (extract without store=)"
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a module's attributes, also in dictionaries, lists and tuples of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        return
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
