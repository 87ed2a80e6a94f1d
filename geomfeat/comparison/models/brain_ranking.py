"""Layers of models ranked by the similarity of their geometry to that of brain data, with the noise ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from geomfeat.comparison.models.members import BRAIN, Member, each_layer
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, RSARanking, rank_by_rsa, rdm

RANKING_COLUMNS = (
    "brain", "rank", "model", "layer", "depth", "similarity", "stderr", "low", "high", "p_zero", "p_ceiling",
    "ceiling_lower", "ceiling_upper", "comparator", "ok", "note",
)  # fmt: skip


def brain_ranking(
    members: Sequence[Member],
    targets: Mapping[str, RDMs],
    *,
    comparator: str,
    n_bootstrap: int,
    seed: int,
) -> tuple[pd.DataFrame, list[str]]:
    """(one row per brain and layer, best first; notes). Other brains are ranked with the models, by their mean RDM.

    `similarity` is the mean over subjects of that between the correlation-distance RDM of the layer and the subject's;
    stderr, low and high (95 %) are for new stimuli and new subjects, where there are several. Layers without an RDM
    (patterns without variance over units) come last, with ok False and the reason in `note`.
    """
    layers, broken = _matrices(list(members))
    parts, notes = [], []
    for target, data in targets.items():
        usable = {key: found for key, found in layers.items() if key[0] != target}
        if not usable:
            raise BadInput(f"no layer has an RDM to compare with {target!r}: {next(iter(broken.values()))}")
        named = {str(i): replace(found, conditions=data.conditions) for i, found in enumerate(usable.values())}
        found = rank_by_rsa(named, data, comparator, n_bootstrap=n_bootstrap, seed=seed)
        depths = {(m.name, layer): m.depth(layer) for m in members for layer in m.layers}
        parts += _rows(target, list(usable), depths, found)
        parts += [_failed(target, key, depths[key], found, why) for key, why in broken.items() if key[0] != target]
        # The table holds no pairwise p values.
        notes += [f"{target}: {note}" for note in found.notes if not note.startswith("p_pairwise")]
    return pd.DataFrame(parts, columns=list(RANKING_COLUMNS)), notes


def _matrices(members: list[Member]) -> tuple[dict[tuple[str, str], RDMs], dict[tuple[str, str], str]]:
    """({(model, layer): RDM}, {(model, layer): why it has none})."""
    found, broken = {}, {}
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
    return found, broken


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
