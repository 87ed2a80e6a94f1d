"""Whether samples have in the run the features that they had in a small batch, which costs no further forward pass.

A forward pass that sorts its batch, or reads other samples of it, can leave a handful of samples alone by chance, or
because none of them takes the branch that does; in a whole batch they are among others.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations._feature_sites import OUTPUTS, Sites, Survey, name_of
from geomfeat.activations._network_input import Feed
from geomfeat.activations._row_block import Block
from geomfeat.activations.checks.small_batches import (
    AMPLIFIED,
    Rows,
    batch_statistics,
    gap,
    limit_of,
    loose,
    nudged_inputs,
    precision_of_model,
    random_keys,
    sampled,
    size_of,
)
from geomfeat.activations.hidden_layers import home
from geomfeat.activations.model_state import evaluating
from geomfeat.errors import BadInput

_log = logging.getLogger(__name__)


def require_same_rows(survey: Survey, found: Sites, block: Block, start: int, *, strict: bool) -> None:
    """Drops from a block the layers in which checked samples have other features than in a small batch, with a warning.

    Args:
        block: the features of samples `start` to the end of the block.

    Raises BadInput for a layer that was asked for by name, for the outputs, where no other layer is left, and for any
    where `strict`.
    """
    inside = ((found.rows >= start) & (found.rows < start + block.rows)).nonzero().flatten()
    if not found.checked or not len(inside):
        return
    seen = _Seen(found.rows[inside] - start, {key: rows[inside] for key, rows in found.checked.items()})
    eps = precision_of_model(survey.model)
    largest = max((size_of(rows) for rows in found.checked.values()), default=0.0)
    displaced = [
        key
        for key in seen.features
        if (now := _of_run(block, key, seen.places)) is not None
        and gap(seen.features[key], now) > limit_of(found.checked[key], largest, eps)
    ]
    if not displaced or batch_statistics(survey.model):
        return
    with evaluating(survey.model, home(survey.model)[0], survey.wish.seed), torch.no_grad(), survey.passes():
        certain = _certain(survey, found, block, seen, displaced, eps)
    for key in certain:
        problem = BadInput(f"{name_of(key)}: {_what(block, key, seen, eps)}")
        if strict or key == OUTPUTS or survey.is_named(key) or len(block.features) == 1:
            raise problem
        _log.warning("left out: %s", problem)
        del block.features[key]


@dataclass(frozen=True, eq=False)
class _Seen:
    """Places in the block of the samples that were checked, and the features that they had in a small batch."""

    places: Tensor
    features: Rows


def _certain(survey: Survey, found: Sites, block: Block, seen: _Seen, keys: list[str], eps: float) -> list[str]:
    """Those of the layers that are neither random nor moved as far by the rounding of the inputs."""
    group = survey.feed.head().take(found.rows)
    random = random_keys(found.checked, survey.rows_of(group, found), eps)
    nudge = nudged_inputs(group.inputs, eps)
    nudged = None if nudge is None else survey.rows_of(Feed(nudge, group.mask, group.batch_dim), found)

    def by_rounding(key: str) -> bool:
        moved = 0.0 if nudged is None else gap(found.checked[key], nudged.get(key))
        return gap(seen.features[key], _of_run(block, key, seen.places)) <= AMPLIFIED * moved

    return [key for key in keys if key not in random and not by_rounding(key)]


def _of_run(block: Block, key: str, places: Tensor | slice) -> Tensor | None:
    """What `rows` compares of the samples at these places of a block; None where its rows are laid out otherwise."""
    x: Any = block.outputs if key == OUTPUTS else block.features.get(key)
    if x is None or key in block.tokens or (key != OUTPUTS and block.sites[key].tokens is not None):
        return None
    return sampled(x[places])


def _what(block: Block, key: str, seen: _Seen, eps: float) -> str:
    """What the rows are instead, for the sample that is farthest from what it was, and what to do."""
    here = _of_run(block, key, seen.places)
    every = _of_run(block, key, slice(None))
    if here is None or every is None:
        return "its rows are not the samples"
    worst = int((here - seen.features[key]).norm(dim=1).argmax())
    expected = seen.features[key][worst]
    near = ((every - expected).norm(dim=1) <= loose(eps) * size_of(seen.features[key])).nonzero().flatten()
    what = f"sample {int(seen.places[worst])} has other features in a whole batch than in a small one"
    if len(near):
        what += f": they stand in row {int(near[0])}, so the forward pass sorts or reorders its batch"
    else:
        what += ", so they depend on the other samples in it"
    return (
        f"{what}. Pass ExtractOptions(batch_size=1) for each sample by itself, sort the inputs beforehand, or take "
        "another layer (one after the order is restored)"
    )
