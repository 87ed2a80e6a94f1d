"""One model of a comparison, by the layers that it is compared through."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FEWEST = 4  # samples, below which unbiased CKA is undefined
NETWORK, RECORDING, MATRICES, BRAIN = "network", "recording", "RDMs", "brain"


@dataclass(frozen=True, eq=False)
class Member:
    """One model. kind: "network", "recording" (features that were given), "RDMs" or "brain" (given by RDMs alone).

    `layers`, from input to output: of a network or recording Representations, else RDMs of one matrix each.
    `has_areas`: the layers are areas of a Recording, which have no order from input to output.
    """

    name: str
    kind: str
    layers: dict[str, Any]
    has_areas: bool = False

    def depth(self, layer: str) -> float:
        """Place among the layers: first 0, last 1; 0.5 where there is only one, NaN for areas."""
        if self.has_areas:
            return math.nan
        last = len(self.layers) - 1
        return list(self.layers).index(layer) / last if last else 0.5


def each_layer(members: list[Member]) -> Iterator[tuple[Member, str, Any]]:
    """(model, layer, Representation or RDMs) of all layers of all models, in order."""
    for member in members:
        for layer, value in member.layers.items():
            yield member, layer, value
