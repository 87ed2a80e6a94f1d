"""UMAP changes nothing around it: threads stay as they were, and its loops are stored."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from geomfeat._numba.umap_points import LOOPS, umap_points

DRAW = """
import importlib
import numpy as np, torch
from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat._numba.umap_points import LOOPS, umap_points
with libraries_on_one_thread():
    umap_points(np.random.default_rng(0).normal(size=(40, 5)), random_state=0, n_neighbors=10, init="pca")
    within = torch.get_num_threads()
compiled, stored = 0, 0
for module, names in LOOPS.items():
    for loop in (getattr(importlib.import_module(module), name) for name in names):
        compiled += sum(loop.stats.cache_misses.values())
        stored += sum(loop.stats.cache_hits.values())
print(within, torch.get_num_threads(), compiled, stored)
"""


def test_threads_stay_as_they_were_and_the_next_process_compiles_nothing() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    umap_points(np.random.default_rng(1).normal(size=(40, 5)), random_state=0, n_neighbors=10, init="pca")
    found = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"1 1 0 {sum(map(len, LOOPS.values()))}\n"


def test_one_random_state_gives_one_map() -> None:
    x = np.random.default_rng(2).normal(size=(30, 4))
    a, b = (umap_points(x, random_state=3, n_neighbors=8, init="pca") for _ in range(2))
    assert a.dtype == np.float32
    assert a.shape == (30, 2)
    assert np.array_equal(a, b)
