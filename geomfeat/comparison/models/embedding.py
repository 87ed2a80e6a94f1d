"""Distances between layers and models from their similarity, their clusters, and their map in the plane."""

from __future__ import annotations

import numpy as np

from geomfeat._numba.umap_points import umap_points
from geomfeat.numerics import numpy_stream

# Optimal order of the leaves takes time with the fourth power of their number.
MOST_ORDERED = 150
FEWEST_FOR_UMAP = 15


def angles(similarity: np.ndarray) -> np.ndarray:
    """arccos of the similarity, in radians, 0 on the diagonal: a metric for CKA.

    CKA, biased or unbiased, is the cosine between two centred Gram matrices as vectors: under the inner product of
    double-centred matrices, or of U-centred ones (Szekely and Rizzo 2014, section 2).
    """
    out = np.arccos(np.clip(similarity, -1, 1))
    out = (out + out.T) / 2
    np.fill_diagonal(out, 0)
    return out


def known_rows(distances: np.ndarray) -> np.ndarray:
    """Indices of the rows that have a distance to others: those of undefined layers are NaN."""
    off = distances + np.diag(np.full(len(distances), np.nan))
    return np.flatnonzero(~np.isnan(off).all(1))


def clusters(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average linkage (scipy's format) of the rows that have distances, and the order (L,) of all rows as leaves.

    Rows without distances come last in the order; the linkage numbers the others from 0.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = known_rows(distances)
    rest = np.setdiff1d(np.arange(len(distances)), known)
    if len(known) < 2:
        return np.zeros((0, 4)), np.concatenate([known, rest])
    flat = squareform(distances[np.ix_(known, known)], checks=False)
    tree = linkage(flat, "average", optimal_ordering=len(known) <= MOST_ORDERED)
    return tree, np.concatenate([known[leaves_list(tree)], rest])


def classical_mds(distances: np.ndarray, dimensions: int = 2) -> tuple[np.ndarray, float]:
    """Coordinates (L, dimensions) whose Euclidean distances fit best in the sense of Torgerson (1952), and their share.

    The share is that of the leading positive eigenvalues of -J D^2 J / 2 in the sum of all absolute ones: 1 where the
    plane holds everything. Signs are fixed. NaN for rows without distances.

    >>> places = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> found, share = classical_mds(np.linalg.norm(places[:, None] - places[None], axis=2))
    >>> round(float(np.linalg.norm(found[1] - found[2])), 6), round(share, 6)
    (5.0, 1.0)
    """
    from sklearn.manifold import ClassicalMDS

    known = known_rows(distances)
    out = np.full((len(distances), dimensions), np.nan)
    if len(known) < 2:
        return out, np.nan
    mds = ClassicalMDS(n_components=len(known), metric="precomputed")
    with np.errstate(invalid="ignore"):  # roots of negative eigenvalues, where no space has these distances
        places = np.nan_to_num(mds.fit_transform(distances[np.ix_(known, known)]))[:, :dimensions]
    out[known] = 0
    out[known, : places.shape[1]] = places
    total = np.abs(mds.eigenvalues_).sum()
    return out, float(mds.eigenvalues_[:dimensions].clip(0).sum() / total) if total > 0 else 1.0


def umap_map(distances: np.ndarray, seed: int) -> np.ndarray | None:
    """(L, 2) coordinates by UMAP (McInnes et al. 2018), for looking at; None for fewer than 15 layers."""
    known = known_rows(distances)
    if len(known) < FEWEST_FOR_UMAP:
        return None
    state = int(numpy_stream(seed, "umap", "layers of models").integers(2**31))
    out = np.full((len(distances), 2), np.nan)
    known_distances = distances[np.ix_(known, known)]
    out[known] = umap_points(
        known_distances, n_neighbors=min(10, len(known) - 1), metric="precomputed", random_state=state
    )
    return out
