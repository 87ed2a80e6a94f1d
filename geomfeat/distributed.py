"""Several processes at one task, as `torchrun` starts them: which rank this one is, its share, and what all ranks have.

All of it stands on torch.distributed. Without a process group this process is rank 0 of 1: the same script runs alone.
What is exchanged here is small, sums and facts, and goes over gloo, also where tensors of the model go over NCCL.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, distributed as dist
from torch.utils.data import DataLoader, DistributedSampler

from geomfeat._version import __version__
from geomfeat.errors import BadInput, GeomfeatError, OutputExists, RankLost

Backend = Literal["auto", "gloo", "nccl"]
_PROBE = 7_310_021  # tag of a message that only finds out whether a connection is open


@contextmanager
def process_group(backend: Backend = "auto") -> Iterator[None]:
    """The process group of `torchrun` for the body of a `with`; nothing where the script was started without it.

    A group that exists already is used, and left. Each rank of a machine with GPUs takes the GPU of its local rank.

    Args:
        backend: "auto": NCCL for tensors on GPUs where there are any, and gloo for the rest; or one of both.

    A rank that ends is noticed by the others when they next meet, at once; one that hangs after half an hour.

    Raises BadInput for NCCL where torch lacks it, or without a GPU.

    >>> with process_group():
    ...     rank(), world_size()
    (0, 1)
    """
    if dist.is_available() and (dist.is_initialized() or "RANK" not in os.environ):
        yield
        return
    if not dist.is_available():
        raise BadInput("this build of torch has no torch.distributed: install another, or start one process")
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    if backend == "nccl" and not nccl:
        why = "this build of torch has no NCCL" if not dist.is_nccl_available() else "no GPU is visible"
        raise BadInput(f"backend='nccl': {why}. Use backend='gloo', which needs neither, or 'auto'")
    if backend not in ("auto", "gloo", "nccl"):
        raise BadInput(f"backend={backend!r}: use 'auto', 'gloo' or 'nccl'")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    chosen = backend if backend != "auto" else "cpu:gloo,cuda:nccl" if nccl else "gloo"
    dist.init_process_group(chosen)
    try:
        yield
    finally:
        dist.destroy_process_group()


def together() -> bool:
    """Whether several processes work together, in a process group of torch.distributed."""
    return world_size() > 1


def rank() -> int:
    """The number of this process among those of the group; 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes of the group; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the first of the group, or the only one."""
    return rank() == 0


def share(n: int, *, block: int = 1, of: tuple[int, int] | None = None) -> range:
    """The samples of 0..n-1 that this rank takes: neighbours, whole blocks of `block`, as many as others take.

    Unlike a DistributedSampler it repeats none: `torch.utils.data.Subset(dataset, share(len(dataset)))`.

    Args:
        of: (rank, number of ranks); default this one of the process group.

    >>> [list(share(5, of=(k, 2))) for k in (0, 1)], share(100, block=32, of=(1, 2))
    ([[0, 1], [2, 3, 4]], range(64, 100))
    """
    if n < 0 or block < 1:
        raise BadInput(f"share of n={n} samples in blocks of block={block}: n is at least 0 and block at least 1")
    own, world = (rank(), world_size()) if of is None else of
    if not 0 <= own < world:
        raise BadInput(f"of={of}: give (rank, number of ranks), where ranks count from 0")
    blocks = -(-n // block)
    return range(min(n, blocks * own // world * block), min(n, blocks * (own + 1) // world * block))


def of_all_samples(inputs: Any) -> Any:
    """A DataLoader with a DistributedSampler as one of all samples, in the order of the data set; else what was given.

    For calls that share the samples among the ranks by themselves.

    >>> of_all_samples([1, 2])
    [1, 2]
    """
    if not isinstance(inputs, DataLoader) or not isinstance(inputs.sampler, DistributedSampler):
        return inputs
    if inputs.batch_size is None:
        raise BadInput("inputs is a DataLoader with batch_size=None and a DistributedSampler: leave out sampler=")
    return DataLoader(
        inputs.dataset, inputs.batch_size, collate_fn=inputs.collate_fn, num_workers=inputs.num_workers,
        pin_memory=inputs.pin_memory,
    )  # fmt: skip


def summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sums over all ranks of tensors, which have the same shapes on all: new tensors, equal on all ranks.

    >>> summed([torch.tensor([1.0, 2.0])])
    [tensor([1., 2.])]
    """
    out = [tensor.detach().clone().cpu() for tensor in tensors]
    with _meeting() as group:
        for tensor in out if group is not None else ():
            dist.all_reduce(tensor, group=group)
    return [total.to(tensor.device) for total, tensor in zip(out, tensors, strict=True)]


def stacked(tensor: Tensor) -> Tensor:
    """The tensors of all ranks (ranks, ...), which have one shape on all, on the CPU."""
    own = tensor.detach().cpu().contiguous()
    with _meeting() as group:
        if group is None:
            return own[None].clone()
        parts = [torch.empty_like(own) for _ in range(world_size())]
        dist.all_gather(parts, own, group=group)
    return torch.stack(parts)


def gathered(value: Any) -> list[Any]:
    """The values of all ranks, by rank: anything that JSON can hold.

    >>> gathered({"n": 3})
    [{'n': 3}]
    """
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    sizes = [int(size) for size in stacked(torch.tensor(len(text)))]
    padded = torch.zeros(max(sizes), dtype=torch.uint8)
    padded[: len(text)] = text
    return [json.loads(bytes(row[:size].tolist())) for row, size in zip(stacked(padded), sizes, strict=True)]


def require_alike(facts: Mapping[str, Any], what: str) -> None:
    """BadInput where ranks differ in one of these facts (anything that JSON can hold), or in versions; on all ranks.

    >>> require_alike({"n": 3}, "extract")
    """
    versions = {"the version of geomfeat": __version__, "the version of torch": torch.__version__}
    everyone = gathered({**versions, **facts})
    for number, other in enumerate(everyone):
        for key, value in everyone[0].items():
            if other.get(key) != value:
                raise BadInput(
                    f"{what}: {key} is {value!r} on rank 0 and {other.get(key)!r} on rank {number}: start all ranks "
                    "with the same"
                )


def named(dtype: torch.dtype) -> str:
    """A precision as JSON can hold it.

    >>> named(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")


def require_mergeable(streams: Sequence[Mapping[str, Any]]) -> None:
    """BadInput where streams that are to be put together differ: each says its "settings", and its "shape" or None.

    >>> require_mergeable([{"settings": {"block": 4}, "shape": None}, {"settings": {"block": 4}, "shape": {"d": 3}}])
    """
    for part in ("settings", "shape"):
        known = [stream[part] for stream in streams if stream[part] is not None]
        for other in known[1:]:
            for key, value in known[0].items():
                if other[key] != value:
                    raise BadInput(
                        f"streams cannot be put together: {key} is {value!r} in one, {other[key]!r} in another"
                    )


@contextmanager
def failing_together() -> Iterator[None]:
    """Around work of every rank: at the end all wait for each other, and an error of geomfeat on one is raised by all.

    Raises RankLost where a rank has ended in another way.
    """
    problem: GeomfeatError | None = None
    try:
        yield
    except GeomfeatError as error:
        problem = error
    reported = gathered(None if problem is None else [type(problem).__name__, str(problem)])
    if problem is not None:
        raise problem
    for number, found in enumerate(reported):
        if found is not None:
            kind = OutputExists if found[0] == OutputExists.__name__ else BadInput
            raise kind(f"rank {number} of {world_size()}: {found[1]}")


@contextmanager
def _meeting() -> Iterator[Any]:
    """A group over gloo in which all ranks have met, None for a single process; RankLost where a rank has ended."""
    if not together():
        yield None
        return
    own = dist.get_backend() != "gloo"
    group: Any = dist.new_group(backend="gloo") if own else dist.group.WORLD
    try:
        dist.monitored_barrier(group)
        yield group
    except RuntimeError as cause:
        raise RankLost(_lost(group, str(cause))) from cause
    if own:
        dist.destroy_process_group(group)


def _lost(group: Any, message: str) -> str:
    """Which ranks have ended: those whose connections are closed, or the one that a barrier has waited for too long."""
    closed = []
    for other in set(range(world_size())) - {rank()}:
        try:
            dist.isend(torch.zeros(1), other, group=group, tag=_PROBE)  # which nobody receives
        except RuntimeError:
            closed.append(str(other))
    found = re.search(r"Rank (\d+) failed to pass", message)
    if closed:
        who = f"rank {closed[0]} of {world_size()} has" if len(closed) == 1 else f"ranks {', '.join(closed)} have"
        who += " ended"
    else:
        who = f"rank {found[1]} hangs" if found else f"another rank has failed ({message.partition(chr(10))[0]})"
    return (
        f"{who}, so rank {rank()} ends too; its own messages say why. What was written to disk stays: start all ranks "
        "again to resume"
    )
