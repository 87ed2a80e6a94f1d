"""What a monitor needs of a training on several processes: whether weights are whole, and how they are spread."""

from __future__ import annotations

from typing import Any

from torch import nn

from geomfeat.errors import BadInput

# torch's own: a wrapper around a module, and what `fully_shard` mixes into a module's class.
WRAPPED, MIXED_IN = "FullyShardedDataParallel", "FSDPModule"


def is_a(module: nn.Module, name: str) -> bool:
    """Whether a module is of the class of this name, which need not be imported.

    >>> is_a(nn.Linear(2, 1), "Linear"), is_a(nn.Linear(2, 1), "Module"), is_a(nn.ReLU(), "Linear")
    (True, True, False)
    """
    return any(base.__name__ == name for base in type(module).__mro__)


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the weights only, which can be gathered (FSDP, in both of its forms).

    Raises BadInput for weights that are spread in another way (tensor parallelism, DeepSpeed's stage 3).

    >>> is_sharded(nn.Linear(2, 1))
    False
    """
    modules = list(model.modules())
    sharded = any(is_a(module, name) for module in modules for name in (WRAPPED, MIXED_IN))
    split = [name for name, p in model.named_parameters() if hasattr(p, "ds_id") or _shards(p) > int(sharded)]
    split += [name for name, module in model.named_modules() if getattr(module, "_fsdp_extension", None) is not None]
    if split:
        raise BadInput(
            f"{split[0]!r} is spread over several processes by tensor parallelism or DeepSpeed, which a monitor does "
            "not gather: save checkpoints and give two of them to geomfeat.movement or geomfeat.locate, or train "
            "with FSDP or DistributedDataParallel"
        )
    return sharded


def _shards(p: Any) -> int:
    """Along how many dimensions of the processes a parameter is split; copies along others do not count."""
    return sum(not placement.is_replicate() for placement in getattr(p, "placements", ()))
