"""Whether weights are those of a network: equal names and shapes, and finite values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from geomfeat.errors import BadInput, CheckpointMismatch

SHOWN = 5  # names in a message
Shapes = Mapping[str, tuple[int, ...]]


def require_same(there: Shapes, here: Shapes, where: str, made_by: str) -> None:
    """CheckpointMismatch that lists the first names that differ, with their shapes in the files and in the network.

    >>> require_same({"fc.weight": (2, 3)}, {"fc.weight": (2, 4)}, "'a'", "its config")
    Traceback (most recent call last):
    ...
    geomfeat.errors.CheckpointMismatch: the weights in 'a' are not those of its config: 1 differs, fc.weight (2, 3) in \
the files, (2, 4) by its config: give the config and the weights of one model
    """
    wrong = [
        f"{name} {there.get(name, 'missing')} in the files, {here.get(name, 'none')} by {made_by}"
        for name in dict.fromkeys([*here, *there])
        if there.get(name) != here.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise CheckpointMismatch(
            f"the weights in {where} are not those of {made_by}: {len(wrong)} differ{'s' if len(wrong) == 1 else ''}, "
            f"{'; '.join(wrong[:SHOWN])}{more}: give the config and the weights of one model"
        )


def require_finite_weights(model: nn.Module, where: str) -> None:
    """BadInput that names the layers with NaN or infinite weights, in the order of the network.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.bias.data.fill_(float("nan"))
    >>> require_finite_weights(nn.Sequential(layer), "'a'")
    Traceback (most recent call last):
    ...
    geomfeat.errors.BadInput: 'a' holds NaN or infinite weights in 1 layer: 0 (bias: 1 of 1): the file is damaged or \
training diverged; use an earlier checkpoint
    """
    bad: dict[str, list[str]] = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_meta or not (value.is_floating_point() or value.is_complex()):
            continue
        wide = value.float() if value.element_size() == 1 else value
        wrong = int((~torch.isfinite(wide)).sum())
        if wrong:
            layer, _, own = name.rpartition(".")
            bad.setdefault(layer or type(model).__name__, []).append(f"{own}: {wrong} of {value.numel()}")
    if bad:
        listed = ", ".join(f"{layer} ({', '.join(parts)})" for layer, parts in list(bad.items())[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise BadInput(
            f"{where} holds NaN or infinite weights in {len(bad)} layer{'s' if len(bad) > 1 else ''}: {listed}{more}: "
            "the file is damaged or training diverged; use an earlier checkpoint"
        )
