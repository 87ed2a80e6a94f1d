"""How far weights moved, |w' - w| / |w|, from two ends that are read tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.location.movement_only.ends import End
from geomfeat.numerics import WORKING

# Numbers in float64 at a time: a tensor may be larger than the memory that is left, and so few stay in the cache.
CHUNK = 1 << 16


def weight_change(before: End, after: End, layers: Iterable[str]) -> tuple[float, dict[str, float]]:
    """|w' - w| / |w| of all weights, a tied one once, and of those inside of each layer; NaN for a layer without any.

    The layer of a tied weight is the first that has it. Sums are in float64, whatever the weights are stored in.

    Raises BadInput for NaN or infinite weights, by layer, and where no weight moved.
    """
    sums = {name: squares(before.read(name), after.read(name)) for name in after.shapes}
    for name, found in sums.items():
        if not all(map(math.isfinite, found)):
            _refuse(name, before, after)
    if not any(moved for moved, _ in sums.values()):
        raise BadInput(
            f"all weights of {before.name} and {after.name} are equal, so nothing moved: give the checkpoint that "
            "training began from as initial"
        )
    inside = {layer: [n for n in sums if f"{n}.".startswith(f"{layer}.")] for layer in layers}
    return _ratio(sums.values()), {layer: _ratio(sums[n] for n in names) for layer, names in inside.items()}


def squares(old: Tensor, new: Tensor) -> tuple[float, float]:
    """(|new - old|^2, |old|^2) in float64.

    >>> squares(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 6.0]))
    (4.0, 25.0)
    """
    moved = size = 0.0
    for a, b in zip(_in_chunks(old), _in_chunks(new), strict=True):
        b -= a
        moved += float(b @ b)
        size += float(a @ a)
    return moved, size


def _in_chunks(values: Tensor) -> Iterator[Tensor]:
    flat = (torch.view_as_real(values) if values.is_complex() else values).detach().reshape(-1)
    return (part.to("cpu", WORKING, copy=True) for part in flat.split(CHUNK))


def _ratio(sums: Iterable[tuple[float, float]]) -> float:
    pairs = list(sums)
    moved, size = (sum(part) for part in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    return math.sqrt(moved / size) if size > 0 else math.nan


def _refuse(name: str, before: End, after: End) -> None:
    layer, _, own = name.rpartition(".")
    for end in (before, after):
        value = end.read(name).to(WORKING)
        wrong = int((~torch.isfinite(value)).sum())
        if wrong:
            raise BadInput(
                f"{end.name} holds NaN or infinite weights in layer {layer!r} ({own}: {wrong} of {value.numel()}): the "
                "file is damaged or training diverged; use an earlier checkpoint"
            )
    raise BadInput(f"weights {name!r} are so large that their squares are infinite: training diverged")
