"""Recurrent and attention layers that are given the samples where they expect time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import modules_by_name
from geomfeat.activations.model_state import evaluating
from geomfeat.errors import BadInput
from geomfeat.models.functional import call


def require_samples_off_the_time_axis(model: nn.Module, probe: Callable[[int], Any], device: torch.device) -> None:
    """BadInput where a recurrent or attention layer of torch's runs over the samples as if they were time.

    `probe(k)` gives k samples, ready for the model. Nothing runs where there are no such layers.
    """
    layers = {
        name: module
        for name, module in {"": model, **modules_by_name(model)}.items()
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention)
    }
    if not layers:
        return
    two, three = (_given_shapes(model, layers, probe(k), device) for k in (2, 3))
    for name, shape in two.items():
        time = 1 if layers[name].batch_first and len(shape) == 3 else 0
        grown = [i for i, sizes in enumerate(zip(shape, three.get(name, ()), strict=False)) if sizes == (2, 3)]
        if grown == [time]:
            kind = type(layers[name]).__name__
            word = "time" if isinstance(layers[name], nn.RNNBase) else "tokens"
            what = f"layer {name!r}" if name else "the model"
            raise BadInput(
                f"{what} is an {kind} with batch_first={layers[name].batch_first}, which takes axis {time} for "
                f"{word}, but the samples lie there: it would run over the samples. Build it with batch_first="
                f"{not layers[name].batch_first} (the weights stay the same), or give samples on the other axis; "
                "extract takes inputs of shape (time, samples, ...) with options=ExtractOptions(batch_dim=1)"
            )


def _given_shapes(
    model: nn.Module, layers: Mapping[str, nn.Module], inputs: Any, device: torch.device
) -> dict[str, tuple[int, ...]]:
    """Layer -> shape of the first thing that it is given, where that is a plain tensor of 2 or 3 dimensions."""
    shapes: dict[str, tuple[int, ...]] = {}
    with evaluating(model, device), torch.no_grad(), ExitStack() as stack:
        for name, module in layers.items():
            note = partial(_note_shape, shapes, name)
            stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        call(model, inputs)
    return shapes


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
    given = next(iter([*args, *kwargs.values()]), None)
    if isinstance(given, Tensor) and not given.is_nested and given.ndim in (2, 3):
        shapes.setdefault(name, tuple(given.shape))
