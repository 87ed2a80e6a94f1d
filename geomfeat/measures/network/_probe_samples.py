"""What the diagnostics share: which probes to use, and failures as rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput, CheckpointMismatch, OutOfMemory
from geomfeat.models.nested_inputs import as_inputs, n_samples, take
from geomfeat.snapshots import SnapshotPair
from geomfeat.tangent import saved_bytes
from geomfeat.types import Estimate

# Bytes of activations to differentiate through, summed over probes (or rows of a Jacobian): some minutes on a laptop.
# A small network does not come near it; of a large one fewer probes are used, and the note of each number says so.
WORK = 2**33


def strided(inputs: Any, most: int) -> tuple[Any, str]:
    """At most `most` of the inputs, evenly spread (so of all classes of sorted data), and a note that says so."""
    inputs = as_inputs(inputs)
    n = n_samples(inputs)
    if n <= most:
        return inputs, ""
    return take(inputs, torch.arange(most) * n // most), f"{most} of {n} probes, evenly spread"


def affordable(pair: SnapshotPair, most: int) -> tuple[Any, str]:
    """As `strided`, with fewer probes (at least 32) where one alone is so heavy that `most` exceed the `WORK`."""
    f = pair.f_initial
    saved, _ = saved_bytes(f, f.inputs(strided(pair.inputs, 1)[0]))
    return strided(pair.inputs, min(most, max(32, WORK // max(saved, 1))))


def attempted(compute: Callable[[], Estimate]) -> Estimate:
    """The estimate, or a failed one with the words of the error that says what to do."""
    try:
        return compute()
    except (BadInput, OutOfMemory) as error:
        return Estimate.failed(str(error))


def noted(estimate: Estimate, *notes: str) -> Estimate:
    """The estimate with more notes."""
    text = "; ".join(note for note in (estimate.note, *notes) if note)
    return Estimate(estimate.value, estimate.stderr, estimate.ok, text)


def trained_parameters(pair: SnapshotPair) -> dict[str, Tensor]:
    """All parameters and buffers of the trained network by name, in float64; CheckpointMismatch when they differ."""
    old = {**pair.f_initial.fixed, **pair.f_initial.theta}
    new = {**pair.f_trained.fixed, **pair.f_trained.theta}
    wrong = sorted({*old} ^ {*new}) + [k for k in old if k in new and old[k].shape != new[k].shape]
    if wrong:
        raise CheckpointMismatch(
            f"initial and trained network differ in names or shapes of {wrong[:5]}: give two checkpoints of one model"
        )
    return new
