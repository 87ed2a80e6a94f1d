"""UMAP (McInnes et al. 2018) on one thread, with its compiled loops stored for the next process."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import torch

from geomfeat._numba.threads import libraries_on_one_thread

# The large loops of a run with a fixed random state: the library stores small ones of its own, but not these.
LOOPS = {
    "umap.distances": ("euclidean",),
    "umap.umap_": ("fast_knn_indices", "smooth_knn_dist", "compute_membership_strengths"),
    "umap.layouts": ("_nb_optimize_layout_euclidean_single_epoch",),
}


def umap_points(x: np.ndarray, **options: Any) -> np.ndarray:
    """(n, 2) coordinates of the rows of x, float32, with the options of umap.UMAP; a fixed `random_state` is one.

    Threads of torch and BLAS stay as they were: numba's first parallel loop in a process would give torch all cores,
    whatever the caller or OMP_NUM_THREADS said, and each small product then waits for all of them.
    """
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), libraries_on_one_thread():
        warnings.simplefilter("ignore", ImportWarning)  # umap offers a part that would need tensorflow
        warnings.filterwarnings("ignore", message="using precomputed metric")
        try:
            # With a fixed random state UMAP runs on one job anyway, and warns unless n_jobs says so.
            return np.asarray(_umap()(n_jobs=1, **options).fit_transform(x), dtype=np.float32)
        finally:
            # A caller that is on one thread already is left so at once: the end of this block restores nothing for it.
            torch.set_num_threads(threads)


@cache
def _umap() -> Any:
    """The class UMAP. Its loops take seconds to compile in every process that finds none stored."""
    from importlib import import_module

    umap = import_module("umap")
    for module, names in LOOPS.items():
        for name in names:
            # Another version of the library may lack the loop; a folder may not be writable.
            with suppress(AttributeError, RuntimeError):
                getattr(import_module(module), name).enable_caching()
    return umap.UMAP
