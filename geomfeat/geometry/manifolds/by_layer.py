"""Capacity of every layer of a store or a mapping, one layer in memory at a time, under common random numbers."""

import fnmatch
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from geomfeat.activations import ActivationStore
from geomfeat.activations.stored_representations import OUTPUTS
from geomfeat.errors import BadInput, GeomfeatError, LayerNotFound, near
from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds.paired_difference import common_draws
from geomfeat.geometry.manifolds.per_manifold import PerManifold
from geomfeat.geometry.manifolds.per_pair import PerPair
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.memory import is_out_of_memory
from geomfeat.types import Representation


def capacity_by_layer(
    layers_of: Any,
    labels: Any = None,
    *,
    checkpoint: str | int = "trained",
    layers: str | Sequence[str] = "*",
    n_draws: int = 200,
    dichotomies: Any = "random",
    seed: int = 0,
    **options: Any,
) -> dict[str, Capacity]:
    """Capacity of each layer, loaded one after the other.

    Args:
        layers_of: the path of a store, an `ActivationStore`, or a mapping of layer to Representation (what `extract`
            returns, with or without store=).
        labels: (n,) classes of the samples; None: those of the Representations (a store on disk has none).
        checkpoint: which of a path's checkpoints. layers: a name or glob, or several.
        n_draws, dichotomies, seed: as for `capacity`, the same for every layer. The draws are those of `common_draws`,
            so the errors of layers of any widths are correlated and `capacity_difference` is precise. Other options:
        `capacity`.

    Returns a Capacity per layer, in the store's (alphabetical) or the mapping's order. A layer that fails (NaN, every
    point at the origin, out of memory) has NaN in every number and the reason in `notes`; the others are measured.

    Raises LayerNotFound for a pattern that matches nothing; BadInput if no layer at all gives a number, with the
    reason of the first.

    >>> eye = torch.eye(12, dtype=torch.float64)
    >>> found = capacity_by_layer({"fc1": Representation(eye, torch.arange(12) // 3)}, n_draws=400)
    >>> abs(found["fc1"].capacity - 2 / 3) < 4 * found["fc1"].capacity_se
    True
    """
    if "draws" in options:
        raise BadInput(
            "draws= belongs to one layer: capacity_by_layer makes the draws that all layers share from seed="
        )
    if options.get("target_se") is not None:
        raise BadInput("target_se= would give each layer other draws: choose n_draws=, the same for all layers")
    if options.get("weights") is not None:
        raise BadInput("weights= are for one set of points: take them with capacity(), layer by layer")
    names, load = _source(layers_of, labels, checkpoint)
    kind = dichotomies if isinstance(dichotomies, str) else "given"

    def measured(name: str) -> Capacity:
        rep = load(name)
        draws = common_draws(rep, labels, n_draws=n_draws, dichotomies=dichotomies, seed=seed)
        return replace(capacity(rep, labels, draws=draws, seed=seed, **options), dichotomies=kind, through_samples=True)

    found, reasons = {}, {}
    for name in _matching(names, layers):
        try:
            found[name] = measured(name)
        except (GeomfeatError, ArithmeticError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            # The text alone is kept: the error would keep the layer in memory through its traceback.
            reasons[name] = (str(error) or "out of memory").splitlines()[0]
            found[name] = _failed(f"layer {name!r} failed: {reasons[name]}", kind, options.get("center"), seed)
    if len(reasons) == len(found):
        first = next(iter(reasons))
        raise BadInput(f"no layer could be measured; layer {first!r}: {reasons[first]}")
    return found


def _source(layers_of: Any, labels: Any, checkpoint: str | int) -> tuple[list[str], Callable[[str], Representation]]:
    """Names of the layers, and what loads one."""
    if isinstance(layers_of, Mapping):
        return list(layers_of), layers_of.__getitem__
    if isinstance(layers_of, str | os.PathLike):
        layers_of = ActivationStore(layers_of, checkpoint)
    if not isinstance(layers_of, ActivationStore):
        raise BadInput(
            f"cannot read layers of a {type(layers_of).__name__}: give a store's path, an ActivationStore or a mapping "
            "of layer to Representation"
        )
    if labels is None:
        raise BadInput(f"{layers_of!r} holds no labels: pass labels=, one class per sample in the order of extraction")
    names = [name for name in layers_of.layers() if name != OUTPUTS]
    if not names:
        raise BadInput(f"{layers_of!r} holds no complete layer: check the path and checkpoint=, or run the extraction")
    return names, layers_of.load


def _matching(names: list[str], patterns: str | Sequence[str]) -> list[str]:
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    chosen = set()
    for pattern in wanted:
        # "rnn[0]" is a name, though it reads like a glob.
        matched = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not matched:
            raise LayerNotFound(f"no layer matches {pattern!r}; near: {near(pattern, names)}. All: {', '.join(names)}")
        chosen.update(matched)
    return [name for name in names if name in chosen]


def _failed(note: str, dichotomies: str, center: str | None, seed: int) -> Capacity:
    """A Capacity without numbers, that says why."""
    nothing: dict[Any, Any] = {float: math.nan, int: 0, bool: False}
    empty: dict[str, Any] = {f.name: nothing[f.type] for f in fields(Capacity) if f.type in nothing} | {"seed": seed}
    none = torch.zeros(0, dtype=torch.float64)
    values = [none] * (len(fields(PerManifold)) - 1), [none.reshape(0, 0)] * (len(fields(PerPair)) - 1)
    return Capacity(
        **empty, norms2=none, faces=none.long(), certified=none.bool(), inside=none.bool(), strata=None,
        dichotomies=dichotomies, center=center, classes=(), per_manifold=PerManifold((), *values[0]),
        per_pair=PerPair((), *values[1]), notes=(note,),
    )  # fmt: skip
