"""How far a network moved in its training, from one forward pass of either end: no derivatives, little memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from geomfeat.activations.chosen_layers import choose_hidden_layers
from geomfeat.activations.layer_selection import Patterns, as_list, inside, is_exact, modules_by_name, select_layers
from geomfeat.activations.reduction import Reduction, check_reduction
from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput, LayerNotFound
from geomfeat.labels import as_labels
from geomfeat.location.movement_only.ends import End, InMemory, end_of, require_same_weights
from geomfeat.location.movement_only.features import Features, Pass
from geomfeat.location.movement_only.layer_rows import layer_row
from geomfeat.location.movement_only.result import MOVEMENT_ONLY, Movement
from geomfeat.location.movement_only.weight_change import weight_change
from geomfeat.models.nested_inputs import as_inputs, n_samples
from geomfeat.models.sources.token_limits import require_tokens_fit
from geomfeat.types import Snapshot

FEWEST = 4  # samples of an unbiased CKA
# Movement below so many units in the last place may be the rounding of the two forward passes.
ROUNDINGS = 4
# A participation ratio p of n samples is low by a share of about p / n.
MANY = 10


def movement(
    model: nn.Module | Snapshot | str,
    inputs: Any,
    labels: Any = None,
    *,
    initial: nn.Module | Snapshot | str,
    layers: Patterns | None = None,
    reduce: Reduction | None = None,
    batch_size: int = 8,
    stream: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Movement:
    """How far the features and weights of a network moved, for one that is too large for `locate`.

    One forward pass of either end, in the precision of its weights; of the features of a layer (n, d) are kept. Models
    that are named by their folder are in memory one after the other, never together.

    Args:
        model: the trained network: a module, a Snapshot, or "hf:FOLDER", a folder of `save_pretrained`.
        inputs: samples, at least 4; a tensor, tuple or mapping with samples first, or a DataLoader or Dataset in a
            fixed order.
        labels: (n,) classes, for the capacity before and after; default: those of the inputs, if they hold any.
        initial: the same network before its training, in the same forms.
        layers: which layers, see `select_layers`. Default: the blocks (members of a ModuleList or Sequential that have
            children), or in a network without such the hidden layers with weights, as in `locate`.
        reduce: how a layer's output becomes (n, d), see `geomfeat.activations.reduce`. Default: of sequences
            (n, tokens, features) the mean over the tokens that are no padding; others are flattened. With "flatten" M
            is the movement of `locate` for these layers.
        batch_size: samples per forward pass, no effect on the numbers but for rounding.
        stream: hold the weights of one block in memory at a time, which are read from the files in every batch; both
            ends must be folders.
        seed: of the capacity's random directions.

    Raises CheckpointMismatch, with the first names and shapes, for two architectures; BadInput for equal weights, NaN
    by layer, missing files, too few samples, and networks that cannot run one block at a time.

    >>> start = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> end = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> found = movement(end, torch.randn(40, 8), initial=start, progress=False)
    >>> list(found.layers["layer"])
    ['0']
    """
    if batch_size < 1:
        raise BadInput(f"batch_size={batch_size} must be at least 1")
    if reduce is not None:
        check_reduction(reduce)
    before, after = end_of(initial, "initial"), end_of(model, "model")
    inputs, labels = reread(after.outline, inputs, labels, why="movement")
    inputs = as_inputs(inputs)
    n = n_samples(inputs)
    if n < FEWEST:
        raise BadInput(f"inputs hold {n} samples: movement needs at least {FEWEST}, better 50")
    known = None if labels is None else as_labels(labels, n=n)
    require_tokens_fit(after.outline, inputs)
    require_same_weights(before, after)
    names, named = _layers_of(after, inputs, layers)
    # First, since it finds damaged files and equal weights, and takes far less time than the passes.
    whole, by_layer = weight_change(before, after, names)
    with tqdm(total=2 * n, desc="movement", unit="sample", disable=not progress) as bar:
        look = Pass(inputs, names, named, reduce, batch_size, seed, bar.update)
        old, new = (look.features(end, device, stream) for end in (before, after))
    if lone := sorted(old.values.keys() ^ new.values.keys()):
        raise BadInput(f"layer {lone[0]!r} gives features at one end only: leave it out of layers=")
    rows, flags = list[dict[str, Any]](), [MOVEMENT_ONLY]
    for layer in new.values:
        row, notes = layer_row(layer, old.values[layer], new.values[layer], known, seed)
        rows.append({**row, "weights": by_layer[_asked(layer, names)], "reduce": new.reduced[layer]})
        flags += notes
    table = _table(rows)
    moved = [m for m in table["movement"] if math.isfinite(m)]
    return Movement(
        table, sum(moved) / len(moved) if moved else math.nan, whole, n,
        sum(math.prod(shape) for shape in after.shapes.values()), str(new.dtype).removeprefix("torch."),
        (*flags, *_few_samples(table, n), *_within_rounding(table, new)),
    )  # fmt: skip


def _layers_of(end: End, inputs: Any, layers: Patterns | None) -> tuple[list[str], set[str]]:
    """Names of the layers, and those among them that were asked for by name."""
    outline = end.outline
    if layers is not None:
        listed = inside(outline, as_list(layers))
        modules = modules_by_name(outline)
        exact = {p for p in listed if isinstance(p, str) and is_exact(p, modules)}
        return select_layers(outline, listed), exact
    try:
        return select_layers(outline, "block"), set()
    except LayerNotFound:
        if isinstance(end, InMemory):
            return list(choose_hidden_layers(outline, inputs, "*").names), set()
        return select_layers(outline, "weights"), set()


def _asked(key: str, names: Sequence[str]) -> str:
    """The layer that a tensor is of: "rnn" of "rnn[0]"."""
    return key if key in names else next(name for name in names if key.startswith((f"{name}[", f"{name}@")))


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    first = ["layer", "movement", "weights"]
    return table.reindex(columns=[*first, *(c for c in table.columns if c not in (*first, "reduce")), "reduce"])


def _few_samples(table: pd.DataFrame, n: int) -> list[str]:
    """A sentence where dimensions come near to what so many samples can show."""
    largest = float(table[["dimension_before", "dimension_after"]].max(axis=None))
    if not largest > (n - 1) / MANY:
        return []
    return [
        f"dimensions (up to {largest:.1f}) are participation ratios of {n} samples, at most {n - 1}, and biased low: "
        f"compare them with each other, or give {MANY} samples for each dimension"
    ]


def _within_rounding(table: pd.DataFrame, found: Features) -> list[str]:
    """A sentence on the layers whose movement may be the rounding of a low precision."""
    if found.dtype is None:
        return []
    floor = math.log10(ROUNDINGS * torch.finfo(found.dtype).eps)
    names = [name for name, m in zip(table["layer"], table["movement"], strict=True) if -math.inf < m < floor]
    if not names:
        return []
    return [
        f"M of {len(names)} layers (such as {names[0]!r}) is below {floor:.1f}, where it may be the rounding of "
        f"{str(found.dtype).removeprefix('torch.')}: measure in float32 to know it"
    ]
