"""What a model returns as one matrix: a row a sample, a column an output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput

Readout = Callable[[Any, Any], Tensor]


def output_matrix(output: Any, inputs: Any = None, readout: Readout | None = None) -> Tensor:
    """A model's output as (n, C).

    `readout(output, inputs)` decides if given. Else: a tensor is flattened per sample; `logits` is taken where there
    is one; `last_hidden_state` is averaged over the tokens of the attention mask, where it is (n, tokens, d); else the
    first tensor is taken, of mappings, sequences and dataclasses in order.
    """
    output = output_tensor(output, inputs, readout)
    if output.ndim == 0:
        raise BadInput("the model returns one number for all samples (a loss?): pass readout= to pick its outputs")
    return output.flatten(1) if output.ndim > 1 else output[:, None]


def output_tensor(output: Any, inputs: Any = None, readout: Readout | None = None) -> Tensor:
    """The tensor that `output_matrix` takes, in the shape that the model gave it."""
    if readout is not None:
        output = readout(output, inputs)
    elif not isinstance(output, Tensor):
        output = _main_tensor(output, inputs)
    if not isinstance(output, Tensor):
        raise BadInput(f"the model returns {type(output).__name__}, not a tensor: pass readout= to pick one")
    if output.is_complex():
        raise BadInput(
            f"the model's output is complex ({output.dtype}): pass readout= that makes real numbers of it, such as "
            "lambda output, inputs: torch.view_as_real(output), or its absolute value"
        )
    if not output.is_floating_point():
        raise BadInput(f"the model's output is {output.dtype}, not floating point: pass readout= to pick logits")
    return output


def _main_tensor(output: Any, inputs: Any) -> Any:
    get = output.get if isinstance(output, Mapping) else lambda key: getattr(output, key, None)
    if isinstance(get("logits"), Tensor):
        return get("logits")
    hidden = get("last_hidden_state")
    if isinstance(hidden, Tensor) and hidden.ndim != 3:
        return hidden
    if isinstance(hidden, Tensor):
        mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
        weight = torch.ones(hidden.shape[:2]) if mask is None else mask
        weight = weight.to(hidden)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp_min(1.0)
    if dataclasses.is_dataclass(output) and not isinstance(output, Mapping):
        output = [getattr(output, f.name) for f in dataclasses.fields(output)]
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else []
    for value in values:
        found = value if isinstance(value, Tensor) else _main_tensor(value, inputs)
        if isinstance(found, Tensor):
            return found
    return None
