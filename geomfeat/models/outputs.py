"""What a model returns as one matrix: a row a sample, a column an output; and the readout that picks it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.models.weights.checkpoints import load_object

Readout = Callable[[Any, Any], Tensor]
CALLED = "readout(output, inputs)"
RETURNS = "it must return a tensor (n, ...) with a row for each sample"


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
        return _checked(_read(readout, output, inputs), f"the readout, called as {CALLED}, returned", RETURNS)
    found = output if isinstance(output, Tensor) else _main_tensor(output, inputs)
    return _checked(output if found is None else found, "the model returns", "pass readout= to pick one")


def _read(readout: Readout, output: Any, inputs: Any) -> Any:
    """What the readout returns; BadInput with what it was given where it fails.

    Errors of torch's own pass through: where one comes of a precision or of a way to take derivatives, another is
    tried.
    """
    try:
        return readout(output, inputs)
    except (GeomfeatError, RuntimeError, MemoryError):
        raise
    except Exception as cause:
        raise BadInput(
            f"the readout, called as {CALLED} with output a {described(output)}, failed "
            f"({type(cause).__name__}: {cause}): {RETURNS}"
        ) from cause


def described(output: Any) -> str:
    """Type of a model's output, with the shape of a tensor, or the keys of a mapping.

    >>> described(torch.ones(2, 3)), described({"logits": 0})
    ('Tensor (2, 3)', "dict with keys 'logits'")
    """
    name = type(output).__name__
    if isinstance(output, Tensor):
        return f"{name} {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"{name} with keys {', '.join(map(repr, output))}" if output else f"empty {name}"
    return f"{name} of {len(output)}" if isinstance(output, tuple | list) else name


def _checked(output: Any, who: str, remedy: str) -> Tensor:
    """A tensor of real floating-point numbers, or BadInput."""
    if not isinstance(output, Tensor):
        raise BadInput(f"{who} {described(output)}, not a tensor: {remedy}")
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


def as_readout(readout: Readout | str | None) -> Any:
    """The readout itself, or the function that "pkg.module:function" or "path/file.py:function" names.

    It is called as readout(output, inputs) with what the model returned and was given, and returns (n, C).

    Raises BadInput for a missing module, file or attribute, or something that cannot be called so.

    >>> as_readout("operator:getitem")([7.0, 8.0], 1)
    8.0
    """
    if readout is None or (callable(readout) and not isinstance(readout, str)):
        _require_two_arguments(readout)
        return readout
    if not isinstance(readout, str):
        raise BadInput(
            f"readout={readout!r} must be a function of (output, inputs), or its name as 'pkg.module:function'"
        )
    found = load_object(readout, "readout")
    if not callable(found):
        raise BadInput(
            f"readout={readout!r} is a {type(found).__name__}, not a function: name one of (output, inputs) that "
            "returns a tensor of (samples, outputs)"
        )
    _require_two_arguments(found)
    return found


def _require_two_arguments(readout: Any) -> None:
    try:
        signature = inspect.signature(readout) if readout is not None else None
    except (TypeError, ValueError):  # functions in C may not say what they take
        return
    try:
        if signature is not None:
            signature.bind(None, None)
    except TypeError as cause:
        raise BadInput(f"readout={readout!r} is called as {CALLED} ({cause}): {RETURNS}") from cause
