"""What a network is given: tensors, or tuples and mappings of them, with samples first; taken, moved and cut as one."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.refused_inputs import flat_bags
from geomfeat.models.streamed_inputs import LazyInputs, in_batches
from geomfeat.numerics import as_tensor

Inputs = Any  # Tensor | ndarray | tuple | list | Mapping[str, ...]


def as_inputs(inputs: Inputs) -> Any:
    """Tensors in the shape the model takes them: arrays and lists of numbers become tensors, mappings dicts.

    Other lists and tuples become tuples, one entry per positional argument. Inside of them, None, switches (bool) and
    words (str) stay as they are, to be handed to the model with every batch.

    >>> as_inputs({"tokens": [[1, 2], [3, 4]], "mask": None})
    {'tokens': tensor([[1, 2],
            [3, 4]]), 'mask': None}
    """
    if isinstance(inputs, LazyInputs):
        return inputs
    if isinstance(inputs, Mapping):
        return {k: _as_argument(v) for k, v in inputs.items()}
    if isinstance(inputs, tuple | list) and inputs and not _is_array(inputs):
        return tuple(_as_argument(v) for v in inputs)
    if in_batches(inputs):
        raise BadInput(
            f"inputs is a {type(inputs).__name__}, which extract, analyze and compare read batch by batch, but this "
            "call takes tensors: stack a few hundred samples (torch.cat of the inputs of some batches)"
        )
    return as_tensor(inputs, "inputs")


def _as_argument(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | str) else as_inputs(value)


def _is_array(inputs: Sequence[Any]) -> bool:
    """Whether a sequence stands for one array: numbers, or lists of numbers. A tuple of lists is several arguments."""
    first = inputs[0]
    if isinstance(inputs, list) and isinstance(first, list) and first:
        return _is_array(first)
    return isinstance(first, numbers.Number)


def _leaves(inputs: Any) -> list[Tensor]:
    if isinstance(inputs, Mapping):
        return [t for v in inputs.values() for t in _leaves(v)]
    if isinstance(inputs, tuple | list):
        return [t for v in inputs for t in _leaves(v)]
    return [inputs] if isinstance(inputs, Tensor) else []


def map_inputs(inputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` applied to every tensor of nested inputs."""
    if isinstance(inputs, LazyInputs):
        return inputs.map(lambda part: map_inputs(part, function))
    if isinstance(inputs, Mapping):
        return {k: map_inputs(v, function) for k, v in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(map_inputs(v, function) for v in inputs)
    return function(inputs) if isinstance(inputs, Tensor) else inputs


def n_samples(inputs: Inputs) -> int:
    """Number of samples; BadInput when the tensors of the inputs disagree or hold none."""
    if isinstance(inputs, LazyInputs):
        return inputs.n
    leaves = _leaves(as_inputs(inputs))
    sizes = {t.shape[0] if t.ndim else 0 for t in leaves}
    if len(sizes) != 1 or 0 in sizes:
        raise BadInput(
            f"inputs must hold the same positive number of samples along the first dimension of every tensor, "
            f"got {sorted(sizes)}{next(flat_bags(leaves), batches_remedy(inputs))}"
        )
    return sizes.pop()


def batches_remedy(inputs: Any) -> str:
    """What to give in place of a list of batches, for a message; "" for inputs that do not look like one.

    >>> batches_remedy([(torch.ones(2, 3), torch.ones(2)), (torch.ones(1, 3), torch.ones(1))])[:32]
    '. If this is a list of batches, '
    """
    listed = inputs if isinstance(inputs, tuple | list) else ()
    parts = [part if isinstance(part, tuple | list) else (part,) for part in listed]
    kinds = {tuple((t.shape[1:], t.dtype) if isinstance(t, Tensor) else None for t in part) for part in parts}
    if len(kinds) != 1 or None in next(iter(kinds)):
        return ""
    return (
        ". If this is a list of batches, give DataLoader(batches, batch_size=None), or one tensor (torch.cat of their "
        "inputs)"
    )


def shapes_of(inputs: Any) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Shape and type of every tensor of nested inputs."""
    return tuple((tuple(t.shape), t.dtype) for t in _leaves(inputs))


def take(inputs: Any, rows: Tensor | slice) -> Any:
    """The samples `rows` of nested inputs."""
    if isinstance(inputs, LazyInputs):
        return inputs.take(rows)
    return map_inputs(inputs, lambda t: t[rows])


def moved(inputs: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Inputs on `device`; floating tensors also in `dtype`, integer ones (token ids, masks) as they are."""
    return map_inputs(inputs, lambda t: t.to(device, dtype if dtype is not None and t.is_floating_point() else t.dtype))


def batches(inputs: Any, size: int) -> Iterator[tuple[slice, Any]]:
    """(rows, inputs of these rows) in order, `size` at a time."""
    if isinstance(inputs, LazyInputs):
        yield from inputs.batches(max(1, size))
        return
    n = n_samples(inputs)
    for start in range(0, n, max(1, size)):
        rows = slice(start, min(n, start + max(1, size)))
        yield rows, take(inputs, rows)
