"""Layers of models ranked by the similarity of their geometry to that of brain data, with the noise ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from geomfeat.comparison.models.members import BRAIN, Member, each_layer
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, RSARanking, rank_by_rsa, rdm

RANKING_COLUMNS = (
    "brain", "rank", "model", "layer", "depth", "similarity", "stderr", "low", "high", "p_zero", "p_ceiling",
    "ceiling_lower", "ceiling_upper", "comparator", "ok", "note",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Matrices:
    """found: (model, layer) -> RDM of its rows. broken: (model, layer) -> why it has none."""

    found: dict[tuple[str, str], RDMs] = field(default_factory=dict)
    broken: dict[tuple[str, str], str] = field(default_factory=dict)

    def stacked(self, members: list[Member]) -> np.ndarray:
        """(layers, pairs) of all layers in order, NaN where there is none; (0, 0) without any."""
        if not self.found:
            return np.zeros((0, 0))
        pairs = next(iter(self.found.values())).vectors.shape[1]
        keys = [(member.name, layer) for member, layer, _ in each_layer(members)]
        nothing = np.full(pairs, np.nan)
        return np.stack([self.found[key].vectors[0].numpy() if key in self.found else nothing for key in keys])


def matrices_of(members: list[Member]) -> Matrices:
    """The RDM of every layer: correlation distances between rows, or the matrices that were given."""
    found: dict[tuple[str, str], RDMs] = {}
    broken: dict[tuple[str, str], str] = {}
    for member, layer, value in each_layer(members):
        key = (member.name, layer)
        try:
            made = value if isinstance(value, RDMs) else rdm(value, dissimilarity="correlation")
            spread = made.vectors[~made.vectors.isnan()]
            if member.kind != BRAIN and bool((spread == spread[0]).all()):
                raise BadInput("all pairs of samples are equally dissimilar")
            found[key] = replace(made, vectors=made.vectors.cpu(), names=(layer,))
        except BadInput as error:
            broken[key] = str(error)
    return Matrices(found, broken)


def brain_ranking(
    members: Sequence[Member],
    targets: Mapping[str, RDMs],
    matrices: Matrices,
    *,
    owners: Mapping[str, str] | None = None,
    comparator: str,
    n_bootstrap: int,
    seed: int,
) -> tuple[pd.DataFrame, list[str]]:
    """(one row per brain or area and layer, best first; notes). Other brains are ranked too, by their mean RDM.

    targets: name -> RDMs of subjects (or runs). matrices: of all layers, from `matrices_of`. owners: target ->
    the recording that it is an area of, whose own areas are not ranked, since they share the noise of its trials.

    `similarity` is the mean over subjects of that between the correlation-distance RDM of the layer and the subject's;
    stderr, low and high (95 %) are for new stimuli and new subjects, where there are several. Layers without an RDM
    (patterns without variance over units) come last, with ok False and the reason in `note`.
    """
    layers, broken = matrices.found, matrices.broken
    parts, notes = [], []
    for target, data in targets.items():
        own = (owners or {}).get(target, target)
        usable = {key: found for key, found in layers.items() if key[0] != own}
        if not usable:
            raise BadInput(f"no layer has an RDM to compare with {target!r}: {next(iter(broken.values()))}")
        named = {str(i): replace(found, conditions=data.conditions) for i, found in enumerate(usable.values())}
        try:
            found = rank_by_rsa(named, data, comparator, n_bootstrap=n_bootstrap, seed=seed)
        except BadInput as cause:
            if target not in (owners or {}):
                raise
            notes.append(f"{target}: layers are not ranked by likeness to it, {cause}")  # nobody asked for this ranking
            continue
        depths = {(m.name, layer): m.depth(layer) for m in members for layer in m.layers}
        parts += _rows(target, list(usable), depths, found)
        parts += [_failed(target, key, depths[key], found, why) for key, why in broken.items() if key[0] != own]
        # The table holds no pairwise p values.
        notes += [f"{target}: {note}" for note in found.notes if not note.startswith("p_pairwise")]
    return pd.DataFrame(parts, columns=list(RANKING_COLUMNS)), notes


def _rows(
    target: str, keys: list[tuple[str, str]], depths: Mapping[tuple[str, str], float], found: RSARanking
) -> list[tuple[object, ...]]:
    columns = [v.tolist() for v in (found.mean, found.stderr, found.low, found.high, found.p_zero, found.p_ceiling)]
    return [
        (target, i + 1, *keys[int(name)], depths[keys[int(name)]], *numbers, *_ceiling(found), True, "")
        for i, (name, *numbers) in enumerate(zip(found.names, *columns, strict=True))
    ]


def _failed(target: str, key: tuple[str, str], depth: float, found: RSARanking, why: str) -> tuple[object, ...]:
    nothing = [float("nan")] * 6
    return (target, 0, *key, depth, *nothing, *_ceiling(found), False, why)


def _ceiling(found: RSARanking) -> tuple[float, float, str]:
    return found.ceiling.lower, found.ceiling.upper, found.comparator
