"""The arrays behind the pictures: spectra of layers, and a layer's samples in the plane (UMAP)."""

from __future__ import annotations

import numpy as np
import torch

from geomfeat._numba.umap_points import umap_points
from geomfeat.errors import BadInput
from geomfeat.numerics import numpy_stream, spectrum_of_rows, stream
from geomfeat.types import Representation

FEWEST_SAMPLES, MOST_SAMPLES = 15, 1000
NEIGHBOURS = 15


def spectrum(rep: Representation) -> np.ndarray:
    """Eigenvalues (descending) of the covariance of a layer's features, float64."""
    return spectrum_of_rows(rep.x).cpu().numpy()


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
