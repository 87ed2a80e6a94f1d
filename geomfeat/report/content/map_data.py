"""Matrices and embeddings of a study, as both renderers draw them."""

from __future__ import annotations

import numpy as np

from geomfeat.report.content.study_view import View, thinned

MOST_LAYERS = 40
MOST_POINTS = 1200
MOST_CLASSES = 20
PAIRS = (
    ("initial", "initial", "initial with initial"),
    ("trained", "trained", "trained with trained"),
    ("initial", "trained", "initial with trained"),
)


def shown_matrix(view: View, first: str, second: str) -> tuple[np.ndarray, list[str]] | None:
    """(matrix, layers) as it is shown, limited in size; None if the study lacks it or it does not fit its layers."""
    matrix = view.array("cka", first, second)
    if matrix is None or np.ndim(matrix) != 2 or 0 in np.shape(matrix):
        return None
    matrix = np.asarray(matrix, dtype=float)
    names = list(view.layers) if len(view.layers) == len(matrix) else [str(i + 1) for i in range(len(matrix))]
    keep = thinned(len(matrix), MOST_LAYERS)
    return matrix[np.ix_(keep, thinned(matrix.shape[1], MOST_LAYERS))], [names[i] for i in keep]


def embedding_parts(view: View, at: str, layer: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(points (m, 2), labels (m,)) as they are shown, at most MOST_POINTS of them; None if the study has none."""
    points = view.array("umap", at, layer)
    if points is None or np.ndim(points) != 2 or len(points) == 0:
        return None
    points = np.asarray(points, dtype=float)[:, :2]
    labels = view.array("umap", "labels")
    labels = np.zeros(len(points), dtype=int) if labels is None or len(labels) != len(points) else np.asarray(labels)
    keep = thinned(len(points), MOST_POINTS)
    return points[keep], labels[keep]
