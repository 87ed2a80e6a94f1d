"""Whether the rows of a layer are the samples: a few samples in a batch, in the reverse order, and one of them alone.

A layer that computes each row from its sample gives the reversed rows for the reversed batch, and for a sample by
itself (twice, since some networks cannot take one) the row that it had in the batch. A forward pass that sorts its
batch fails the first, one that mixes samples (time or tokens taken for samples, statistics of the batch) the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.hidden_layers import home
from geomfeat.models.nested_inputs import map_inputs
from geomfeat.numerics import stream

# Features of a sample that are compared; more of them, evenly spread, would find nothing else.
MOST = 4096
# Cancellation leaves this share of the largest features in the network as rounding noise.
NOISE = 64
# A difference that is not this many times the answer to a nudge of the inputs by their rounding is rounding itself.
AMPLIFIED = 100
NUDGE = 8

Rows = Mapping[str, Tensor]


def sampled(features: Tensor) -> Tensor:
    """At most `MOST` of the features (n, d), evenly spread, copied, in float64, on the CPU like those of the run."""
    step = math.ceil(features.shape[1] / MOST)
    # A copy in float64 too: the next layer may work in place on what it is given.
    return features[:, ::step].cpu().to(torch.float64, copy=True)


def differing(batch: Rows, backwards: Rows, alone: Rows, eps: float) -> set[str]:
    """Keys whose rows do not follow their samples.

    Args:
        batch: key -> (k, d) features of k samples; backwards: of the same in reverse order; alone: (2, d) of the last
            of them by itself, twice. eps: of the precision in which the network runs.
    """
    largest = max((size_of(rows) for rows in batch.values()), default=0.0)
    found = set()
    for key, rows in batch.items():
        limit = limit_of(rows, largest, eps)
        if gap(rows.flip(0), backwards.get(key)) > limit or gap(rows[-1:], alone.get(key)) > limit:
            found.add(key)
    return found


def limit_of(rows: Tensor, largest: float, eps: float) -> float:
    """Distance between rows that rounding may make: of the layer's own, and of the largest features in the network."""
    return max(loose(eps) * size_of(rows), NOISE * eps * largest)


def loose(eps: float) -> float:
    """Relative difference that rounding may make between batches: half of the digits."""
    return max(math.sqrt(eps), 1e-6)


def size_of(rows: Tensor) -> float:
    """Norm of the largest row."""
    return float(rows.norm(dim=1).max())


def gap(rows: Tensor, other: Tensor | None) -> float:
    """Largest distance between rows; 0 where the widths differ (padding to the longest, which is refused elsewhere)."""
    if other is None or other.shape[1:] != rows.shape[1:]:
        return 0.0
    return float((rows - other).norm(dim=1).max())


def random_keys(batch: Rows, again: Rows, eps: float) -> set[str]:
    """Keys that differ between two passes of the same batch."""
    return {key for key, rows in batch.items() if gap(rows, again.get(key)) > loose(eps) * size_of(rows)}


def only_rounding(key: str, batch: Rows, backwards: Rows, alone: Rows, nudged: Rows | None) -> bool:
    """Whether inputs that differ by their rounding move the rows about as far: a chaotic network, or a cancellation."""
    if nudged is None:
        return False
    found = max(gap(batch[key].flip(0), backwards.get(key)), gap(batch[key][-1:], alone.get(key)))
    return found <= AMPLIFIED * gap(batch[key], nudged.get(key))


def nudged_inputs(inputs: Any, eps: float) -> Any:
    """Floating inputs changed by a few units in their last place; None where there are none."""
    generator, changed = stream(0, "rows", "nudge"), []

    def nudge(t: Tensor) -> Tensor:
        if not t.is_floating_point():
            return t
        changed.append(True)
        noise = torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device)
        wide = t.double()
        return (wide + NUDGE * eps * noise * (wide.abs() + wide.square().mean().sqrt())).to(t.dtype)

    made = map_inputs(inputs, nudge)
    return made if changed else None


def batch_statistics(model: nn.Module) -> str:
    """What in a model takes statistics of the batch, also in evaluation, by its nature; "" for nothing."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            return "a norm without running statistics"
        if ".quantized.dynamic" in type(module).__module__:
            return "dynamic quantisation, whose scale is that of the batch"
    return ""


def follow_order(key: str, batch: Rows, backwards: Rows, eps: float) -> bool:
    """Whether the reversed batch gives the reversed rows, whatever a sample gives alone."""
    return gap(batch[key].flip(0), backwards.get(key)) <= loose(eps) * size_of(batch[key])


def what_is_seen(rows: Tensor, alone: Tensor, eps: float, padded: bool) -> str:
    """What the rows of a layer are instead of the samples, and what to do."""
    near = (rows - alone[:1]).norm(dim=1) <= loose(eps) * size_of(rows)
    if bool(near.any()) and not bool(near[-1]):
        return (
            f"its rows are not in the order of the samples: of {len(rows)} samples in a batch, the features of the "
            f"last stand in row {int(near.nonzero()[0])} (the forward pass sorts or reorders its batch). Sort the "
            "inputs beforehand instead, take a layer after the order is restored, or pass ExtractOptions(batch_size=1)"
        )
    if padded:
        return (
            "its length, and so its features, depend on the longest sample of the batch: padding is taken for data. "
            "Pass ExtractOptions(mask=...), (n, tokens)"
        )
    return (
        "the features of a sample depend on the order of its batch, or on the other samples in it. Either the samples "
        "are not on the axis that the layer takes for them (time or tokens first: batch_first=False; batch_dim= "
        "of ExtractOptions says where), or the forward pass sorts, compares or normalises over the batch: pass "
        "ExtractOptions(batch_size=1) for each sample by itself, or take another layer"
    )


def some_rows(rows: int, n: int) -> str:
    """What is wrong where a layer has fewer or more rows than there are samples."""
    return (
        f"it has {rows} rows for {n} samples, so it sees some of them only (an expert that samples are sent to), or "
        "parts of them: take a layer where they are together again, or pass ExtractOptions(batch_size=1)"
    )


def precision_of_model(model: nn.Module) -> float:
    """Rounding of the model's arithmetic: that of its weights, or of TensorFloat32 where torch may use it."""
    device, dtype = home(model)
    coarse = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    if device.type == "cuda" and coarse and dtype in (None, torch.float32):
        return 2.0**-10
    return torch.finfo(dtype or torch.float32).eps
