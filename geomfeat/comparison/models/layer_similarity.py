"""Similarity of all layers of all models with each other; a dissimilarity matrix counts as a layer too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension import participation_ratio_unbiased
from geomfeat.geometry.rsa import RDMs
from geomfeat.geometry.similarity import CkaMatrix, cka_matrix
from geomfeat.numerics import double_centred
from geomfeat.statistics.group_errors import common_groups, grouped_stderr, jackknife_over_groups
from geomfeat.types import Kernel, Representation

# Name -> estimator of CKA with a linear kernel.
SIMILARITIES = {"cka_linear_unbiased": "unbiased", "cka_linear_biased": "biased"}
DISTANCES = ("euclidean", "mahalanobis")


def similarity_of_all(values: Sequence[Any], similarity: str) -> tuple[np.ndarray, np.ndarray, dict[int, str], str]:
    """(similarity (L, L), jackknife standard errors, notes by index, note on all layers).

    It is NaN, with a note, for layers that have none.

    An RDM takes part through -D/2, which holds, but for terms that centring removes, the inner products of patterns
    whose squared distances are D: distances "euclidean" and "mahalanobis" are squared first; a correlation distance is
    half the squared distance of z-scored patterns. Where layers have groups of samples, errors are over these. Raises
    BadInput for an unknown similarity, and for layers whose groups differ.
    """
    if similarity not in SIMILARITIES:
        raise BadInput(f"similarity={similarity!r}: use one of {', '.join(map(repr, SIMILARITIES))}")
    notes = {
        i: f"{int(v.vectors.isnan().sum())} pairs were not measured: the similarity with features is undefined"
        for i, v in enumerate(values)
        if isinstance(v, RDMs) and bool(v.vectors.isnan().any())
    }
    kept = [i for i in range(len(values)) if i not in notes]
    found, errors = np.full((2, len(values), len(values)), np.nan)
    note = ""
    if kept:
        layers = {str(i): _kernel(v) if isinstance(v := values[i], RDMs) else v for i in kept}
        layers, groups = _together(layers), common_groups(*(values[i] for i in kept))
        made = cka_matrix(layers, estimator=SIMILARITIES[similarity], stderr=groups is None)
        found[np.ix_(kept, kept)] = made.values.cpu().numpy()
        stderr = made.stderr if groups is None else _over_groups(layers, made, groups)
        assert stderr is not None
        errors[np.ix_(kept, kept)] = stderr.cpu().numpy()
        notes |= {int(i): why for i, why in made.notes.items()}
        note = made.note
    return found, errors, notes, note


def _over_groups(layers: dict[str, Any], whole: CkaMatrix, groups: torch.Tensor) -> torch.Tensor:
    """Errors (L, L) over groups of samples; NaN where a similarity is undefined, or groups are too few."""

    def without(rows: torch.Tensor) -> torch.Tensor:
        kept = {
            k: replace(v, gram=v.gram[rows.to(v.gram.device)][:, rows.to(v.gram.device)]) if isinstance(v, Kernel)
            else v.take(rows.to(v.x.device))
            for k, v in layers.items()
        }  # fmt: skip
        return cka_matrix(kept, estimator=whole.estimator).values

    try:
        values, sizes = jackknife_over_groups(without, groups)
    except BadInput:
        return torch.full_like(whole.values, torch.nan)
    return grouped_stderr(whole.values, torch.stack(values), sizes.to(whole.values.device))


def projection_loss(rep: Representation) -> float:
    """Share by which a random projection lowers the CKA between layers like this one: PR / d, 0 where there was none.

    A projection to d features keeps the Gram matrix on average, but adds noise to it: tr K^2 grows by the factor
    1 + (1 + PR) / d with PR = (tr K)^2 / tr K^2, while the product with another layer's Gram matrix does not. As the PR
    of the projected layer counts the grown tr K^2, the share of the growth in it is PR / d.
    """
    ratio = participation_ratio_unbiased(rep) if rep.meta.get("project") else 0.0
    return min(max(ratio / rep.d, 0.0), 1.0) if isfinite(ratio) else 0.0


def _kernel(rdms: RDMs) -> Kernel:
    dissimilarities = rdms.matrices[0]
    if rdms.dissimilarity in DISTANCES:
        dissimilarities = dissimilarities.square()
    return Kernel(double_centred(-dissimilarities / 2), rdms.names[0])


def _together(layers: dict[str, Any]) -> dict[str, Any]:
    """All on one device: the first one's, unless that would move features off an accelerator."""
    places = {(v.gram if isinstance(v, Kernel) else v.x).device for v in layers.values()}
    if len(places) == 1:
        return layers
    place = next((p for p in places if p.type != "cpu"), torch.device("cpu"))
    return {
        k: replace(v, gram=v.gram.to(place)) if isinstance(v, Kernel) else v.with_(x=v.x.to(place))
        for k, v in layers.items()
    }
