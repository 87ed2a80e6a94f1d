"""The arrays behind the pictures: spectra of layers, and a layer's samples in the plane (UMAP)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from geomfeat._numba.umap_points import umap_points
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import known_of
from geomfeat.numerics import numpy_stream, spectrum_of_rows, stream
from geomfeat.study.snapshots import INITIAL, TRAINED, Subject
from geomfeat.study.table import Row
from geomfeat.study.tasks import at_of
from geomfeat.types import Representation

FEWEST_SAMPLES, MOST_SAMPLES = 15, 1000
NEIGHBOURS = 15


def spectrum(rep: Representation) -> np.ndarray:
    """Eigenvalues (descending) of the covariance of a layer's features, float64.

    From the singular values that its measures have used, where it was measured last.
    """
    one = known_of(rep)
    if one is None:
        return spectrum_of_rows(rep.x).cpu().numpy()
    return ((one.singular_values * one.spread.unit).square() / max(rep.n - 1, 1)).cpu().numpy()


def cka_matrices(rows: list[Row], subject: Subject, words: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Unbiased linear CKA of all pairs of layers as (L, L) matrices, from the rows; NaN where undefined.

    words: how arrays speak of the moments.

    Within a moment the diagonal is 1 where any other cell of the layer is defined (or it is the only layer).
    """
    layers = {name: i for i, name in enumerate(subject.layers)}
    arrays = {}
    for a, b in ((INITIAL, INITIAL), (TRAINED, TRAINED), (INITIAL, TRAINED)):
        cells = [r for r in rows if r["measure"] == "cka_linear_unbiased" and r["at"] == at_of(a, b)]
        if not cells:
            continue
        matrix = np.full((len(layers), len(layers)), np.nan)
        for r in cells:
            i, j = layers[r["layer"]], layers[r["layer_b"]]
            matrix[i, j] = r["value"] if r["ok"] else np.nan
            if a == b:
                matrix[j, i] = matrix[i, j]
        if a == b:
            np.fill_diagonal(matrix, np.where(np.isfinite(matrix).any(0), 1.0, np.nan))
        arrays[f"cka/{words[a]}/{words[b]}"] = matrix
    return arrays


def umap_rows(n: int, seed: int) -> torch.Tensor:
    """Which samples are drawn, in order: all up to 1000, else a seeded choice, the same for every layer and moment."""
    return torch.randperm(n, generator=stream(seed, "umap", "rows"))[:MOST_SAMPLES].sort().values


def umap_plane(rep: Representation, seed: int) -> np.ndarray:
    """(n, 2) coordinates of a layer's samples by UMAP (McInnes et al. 2018), float32; for looking at, not measuring.

    The start is by principal components, so that a layer that hardly changes has nearly the same map at both times.
    Raises BadInput for fewer than 15 samples, fewer than 2 features, or samples that are all the same.
    """
    if rep.n < FEWEST_SAMPLES:
        raise BadInput(f"UMAP of layer {rep.layer!r} needs at least {FEWEST_SAMPLES} samples, there are {rep.n}")
    x = rep.x.double().cpu().numpy()
    if x.shape[1] < 2 or np.ptp(x, axis=0).max() == 0:
        raise BadInput(f"layer {rep.layer!r} has one feature only, or equal samples: a UMAP needs two dimensions")
    state = int(numpy_stream(seed, "umap", rep.layer).integers(2**31))
    return umap_points(x, n_neighbors=min(NEIGHBOURS, rep.n - 1), init="pca", random_state=state)
