"""One batch of a loader: which part of it the network takes, and which part is labels."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped
from geomfeat.models.nested_inputs import as_inputs

LABELS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class Arguments:
    """What a forward pass takes: how many positional arguments at least and at most, and names.

    names: of all arguments; None where it takes any. needed: those without a default.
    """

    least: int = 1
    most: float = 1
    names: frozenset[str] | None = None
    needed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: Any) -> Arguments:
        """Those of a module's `forward`; one argument if that is unknown."""
        model = unwrapped(model) if isinstance(model, nn.Module) else model
        try:
            parameters = list(inspect.signature(model.forward).parameters.values())
        except (AttributeError, TypeError, ValueError):
            return cls()
        named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = [p.name for p in named if p.default is p.empty]
        any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        names = None if any_name else frozenset(p.name for p in parameters)
        return cls(max(1, len(needed)), math.inf if any_number else len(named), names, frozenset(needed))


def split(batch: Any, arguments: Arguments) -> tuple[Any, Any]:
    """(inputs, labels or None) of a batch.

    A tuple or list holds the arguments, then the labels: what goes beyond the arguments that the model must have. What
    comes after the labels (indices, paths) is left out. In a mapping the labels have one of the names in `LABELS`, and
    what the model takes no argument for is left out.

    >>> inputs, labels = split([torch.ones(2, 3), torch.tensor([0, 1])], Arguments())
    >>> inputs.shape, labels.tolist()
    (torch.Size([2, 3]), [0, 1])
    """
    if isinstance(batch, Mapping):
        return _of_mapping(batch, arguments)
    if not isinstance(batch, tuple | list):
        return as_inputs(batch), None
    if len(batch) == 2 and isinstance(batch[0], tuple | list | Mapping):
        return as_inputs(batch[0]), batch[1]
    if len(batch) <= arguments.least:
        return _alone(batch), None
    taken = int(arguments.most) if len(batch) > arguments.most else len(batch) - 1
    return _alone(batch[:taken]), batch[taken]


def _alone(parts: Sequence[Any]) -> Any:
    """Positional arguments; a single one as it is."""
    return as_inputs(parts[0]) if len(parts) == 1 else as_inputs(tuple(parts))


def _of_mapping(batch: Mapping[str, Any], arguments: Arguments) -> tuple[Any, Any]:
    key = next((key for key in LABELS if key in batch and key not in arguments.needed), None)
    kept = {
        name: value
        for name, value in batch.items()
        if name != key and (arguments.names is None or name in arguments.names)
    }
    if not kept:
        raise BadInput(
            f"batches hold {', '.join(map(str, batch))}, and the model takes none of these: name them as the arguments "
            f"of its forward pass ({', '.join(sorted(arguments.names or ()))})"
        )
    return as_inputs(kept), None if key is None else batch[key]


def joined(parts: Sequence[Any]) -> Any:
    """Batches of inputs as one; BadInput where their samples have several shapes."""
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined([part[i] for part in parts]) for i in range(len(first)))
    if not isinstance(first, Tensor):
        return first
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        raise BadInput(
            f"batches hold samples of several shapes, {', '.join(map(str, shapes[:4]))}, which cannot be looked at "
            "together: pad all to one length (collate_fn=)"
        )
    return torch.cat(list(parts))
