"""Pairs of snapshots for the tests of diagnostics."""

from __future__ import annotations

from typing import Any

from torch import nn

from geomfeat.activations import hidden_weight_layers
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Snapshot


def pair_of(initial: nn.Module, trained: nn.Module, inputs: Any, **fields: Any) -> SnapshotPair:
    """A pair with the hidden weight layers of the model, unless layers= says others."""
    if "layers" not in fields:
        fields["layers"] = tuple(hidden_weight_layers(initial, inputs))
    return SnapshotPair(Snapshot(initial, "init"), Snapshot(trained, "trained"), inputs, **fields)
