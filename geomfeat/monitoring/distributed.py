"""What a monitor needs of a training on several processes: which one measures, and weights that are whole."""

from __future__ import annotations

import torch
from torch import nn

from geomfeat.errors import BadInput

SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def is_first() -> bool:
    """Whether this process measures: the first of those that train together, or the only one."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not together or torch.distributed.get_rank() == 0


def require_whole(model: nn.Module) -> None:
    """BadInput for parameters of which this process holds a part only (FSDP, tensor parallelism, DeepSpeed's stage 3).

    >>> require_whole(nn.Linear(2, 1))
    """
    names = [name for name, p in model.named_parameters() if hasattr(p, "placements") or hasattr(p, "ds_id")]
    sharded = [base.__name__ for module in model.modules() for base in type(module).__mro__ if base.__name__ in SHARDED]
    if names or sharded:
        what = f"parameter {names[0]!r}" if names else f"a module is wrapped by {sharded[0]}, and its weights"
        raise BadInput(
            f"{what} is spread over several processes, so no process can measure alone: save checkpoints and give two "
            "of them to geomfeat.movement or geomfeat.locate, or train with DistributedDataParallel"
        )
