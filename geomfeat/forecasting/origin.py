"""The network of a forecast and what was asked about it: what advice starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped
from geomfeat.numerics import WORKING


@dataclass(frozen=True, eq=False)
class Origin:
    """The network itself, not a copy, and the arguments of `forecast`.

    Attributes:
        model, inputs, targets: as given. arguments: the others by name.
        marks: parameter -> (sum, sum of squares) when it was forecasted, which show whether it was trained since.
    """

    model: nn.Module
    inputs: Any
    targets: Any
    arguments: Mapping[str, Any]
    marks: Mapping[str, tuple[float, float]] = field(repr=False)

    @classmethod
    def of(cls, model: nn.Module, inputs: Any, targets: Any, **arguments: Any) -> Origin:
        """The origin of a forecast of the model as it is now."""
        return cls(model, inputs, targets, arguments, _marks(model))

    @property
    def optimizer(self) -> Any:
        """What will train it, as given to `forecast`."""
        return self.arguments["optimizer"]

    def require_untrained(self) -> None:
        """BadInput where the weights are not those that were forecasted.

        >>> net = nn.Linear(2, 1)
        >>> origin = Origin.of(net, None, None)
        >>> origin.require_untrained()
        """
        now = _marks(self.model)
        changed = next((name for name, mark in self.marks.items() if now.get(name) != mark), None)
        if changed is not None:
            raise BadInput(
                f"the weights of the model are not those that were forecasted ({changed!r} differs): advice is for a "
                "network before its training, so forecast and advise on its initial weights"
            )


def _marks(model: nn.Module) -> dict[str, tuple[float, float]]:
    return {name: _mark(p.detach()) for name, p in unwrapped(model).named_parameters()}


def _mark(value: Tensor) -> tuple[float, float]:
    parts = torch.view_as_real(value) if value.is_complex() else value
    wide = parts.to(WORKING) if parts.numel() <= 1_000_000 else parts.float()
    return float(wide.sum()), float(wide.square().sum())
