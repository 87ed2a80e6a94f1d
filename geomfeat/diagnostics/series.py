"""What a diagnostic over time takes: one network at several steps of its training, with what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geomfeat.models.functional import Readout
from geomfeat.types import Snapshot


@dataclass(frozen=True, eq=False)
class SnapshotSeries:
    """One network at several steps, in order, and its training samples.

    Args:
        snapshots: `at` their steps ("init" is step 0), the first of them the start.
        inputs, targets: training samples (first dimension); (n,) integer classes, or (n, C) values.
        test: (inputs, targets) that were not trained on, or None: then only the training side is judged.
        loss: "mse", "cross-entropy" or a function, if it is known; values are judged by "mse" without it.
        gamma: where training was of f = (net(w) - net(w0)) / gamma, as `train_at_gamma` does; w0 is the first snapshot.
    """

    snapshots: Sequence[Snapshot]
    inputs: Any
    targets: Tensor | None
    test: tuple[Any, Any] | None = None
    loss: Any = None
    gamma: float | None = None
    readout: Readout | None = None
    device: str | None = None
