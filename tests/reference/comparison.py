"""How alike models are, from the definitions, one layer at a time."""

from __future__ import annotations

import numpy as np

from tests.reference.kernels import cka_by_definition


def similarity_by_pairs(layers: list[np.ndarray], estimator: str) -> np.ndarray:
    """CKA of every layer with every layer; a layer is (n, d) features."""
    grams = [x @ x.T for x in layers]
    return np.array([[cka_by_definition(k, l, estimator) for l in grams] for k in grams])


def model_similarity_by_loops(similarity: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Mean over the layers of either model of the largest similarity in the other, then over both directions."""
    out = np.zeros((len(groups), len(groups)))
    for i, mine in enumerate(groups):
        for j, theirs in enumerate(groups):
            there = [max(similarity[a, b] for b in theirs) for a in mine]
            back = [max(similarity[a, b] for a in mine) for b in theirs]
            out[i, j] = (sum(there) / len(there) + sum(back) / len(back)) / 2
    return out


def average_linkage_heights(distances: np.ndarray) -> list[float]:
    """Heights at which clusters join, each time the two with the smallest mean distance between their members."""
    clusters = [[i] for i in range(len(distances))]
    heights = []
    while len(clusters) > 1:
        means = {
            (a, b): float(np.mean([distances[i, j] for i in clusters[a] for j in clusters[b]]))
            for a in range(len(clusters))
            for b in range(a)
        }
        (a, b), height = min(means.items(), key=lambda item: item[1])
        heights.append(height)
        clusters[b] += clusters.pop(a)
    return heights
