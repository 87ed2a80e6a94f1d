"""How similar two models are, and which of their layers correspond, from the similarity of all their layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

MATCH_COLUMNS = ("model", "layer", "depth", "other", "match", "match_depth", "similarity", "stderr")


def best(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column, value) of the largest entry of each row; column -1 and NaN in rows without a number."""
    known = ~np.isnan(similarity)
    filled = np.where(known, similarity, -np.inf)
    column = filled.argmax(1)
    some = known.any(1)
    return np.where(some, column, -1), np.where(some, filled.max(1), np.nan)


def model_similarity(similarity: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Similarity between models (M, M) from that between all layers (L, L) and the model (L,) each layer is of.

    s(a -> b) is the mean, over the layers of a, of the similarity with the most similar layer of b; the result is
    (s(a -> b) + s(b -> a)) / 2, 1 on the diagonal. Layers without a number are left out; NaN where none is left.

    >>> layers = np.array([[1, .2, .9, .1], [.2, 1, .3, .5], [.9, .3, 1, .2], [.1, .5, .2, 1]])
    >>> model_similarity(layers, np.array([0, 0, 1, 1])).round(3).tolist()
    [[1.0, 0.7], [0.7, 1.0]]
    """
    n = int(owner.max()) + 1
    one_way = np.full((n, n), np.nan)
    for a in range(n):
        for b in range(n):
            values = best(similarity[np.ix_(owner == a, owner == b)])[1]
            if not np.isnan(values).all():
                one_way[a, b] = np.nanmean(values)
    return (one_way + one_way.T) / 2


def best_matches(similarity: np.ndarray, stderr: np.ndarray, layers: pd.DataFrame) -> pd.DataFrame:
    """For every layer, the most similar layer of every other model, in both directions.

    `layers` has the columns model, layer and depth, one row for each row of the matrices. The largest of many estimates
    is a little too large; `stderr` is that of the pair, not of the choice. A layer without a number has match "".
    """
    names: Sequence[str] = list(dict.fromkeys(layers["model"]))
    rows = []
    for a in names:
        mine = np.flatnonzero(layers["model"] == a)
        for b in names:
            if a == b:
                continue
            theirs = np.flatnonzero(layers["model"] == b)
            columns, values = best(similarity[np.ix_(mine, theirs)])
            for i, column, value in zip(mine, columns, values, strict=True):
                own = layers.iloc[i]
                found = None if column < 0 else layers.iloc[theirs[column]]
                match, depth = ("", np.nan) if found is None else (found["layer"], found["depth"])
                error = np.nan if found is None else stderr[i, theirs[column]]
                rows.append((a, own["layer"], own["depth"], b, match, depth, value, error))
    return pd.DataFrame(rows, columns=list(MATCH_COLUMNS))
