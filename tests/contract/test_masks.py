"""Every public function of features refuses masked entries and sparse matrices: what a mask hides decides nothing."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.types import Kernel, Representation

N = 24
X = np.random.default_rng(0).standard_normal((N, 5))
MASKED = np.ma.masked_array(X, copy=True)
MASKED[3, 2] = 1e3
MASKED[3, 2] = np.ma.masked
GRAM = np.ma.masked_array(X @ X.T)
GRAM[3, 2] = GRAM[2, 3] = np.ma.masked
# What functions want beside their first argument.
BESIDE = {
    "labels": np.arange(N) % 3, "b": X, "other": X, "outputs": X[:, :2], "conditions": np.arange(N) // 2, "share": 0.5,
    "k": 3, "k0": X @ X.T, "l": X @ X.T, "targets": np.arange(N) % 3, "after": X, "old": X, "measure": "shape_angle",
    "radii": [0.5, 1.0], "stimulus": np.arange(N) // 2, "time": np.arange(N), "width": 1.0,
    "voxels": np.ones((1, 1, 5)), "runs": np.arange(N) // 12,
}  # fmt: skip
FIRST = ("x", "a", "points", "features", "residuals", "new", "reps", "layers", "before", "kernel", "train")
# Their first argument is what another function of the package made, or a Kernel or tensor.
INNER = {
    "project_on_cones", "margins", "separability", "capacity_difference", "compare_rdms", "what_changed",
    "kernel_alignment", "kernel_regression", "target_alignment",
}  # fmt: skip


def entrances() -> dict[str, Callable[[Any], Any]]:
    found: dict[str, Callable[[Any], Any]] = {}
    for module in map(importlib.import_module, ("geomfeat", "geomfeat.geometry", "geomfeat.tangent")):
        for name in module.__all__:
            function = getattr(module, name)
            if not inspect.isroutine(function) or name in INNER:
                continue
            parameters = inspect.signature(function).parameters.values()
            required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
            if not required or required[0] not in FIRST:
                continue
            beside = {p.name: BESIDE[p.name] for p in parameters if p.name == "labels" or p.name in required[1:]}

            def call(value: Any, function: Any = function, first: str = required[0], beside: Any = beside) -> Any:
                value = [value, X] if first in ("reps", "layers") else value
                return function(value, **beside)

            found[name] = call
    return found


ENTRANCES: dict[str, Callable[[Any], Any]] = {
    **entrances(),
    "Representation": Representation,
    "Kernel": lambda x: Kernel(x),
    "RDMs": gf.RDMs,
    "extract": lambda x: gf.extract(torch.nn.Sequential(torch.nn.Linear(5, 2)), x, progress=False),
}


def test_the_list_is_of_many_functions() -> None:
    assert len(ENTRANCES) > 40
    assert {"cka", "capacity", "participation_ratio", "two_nn", "rdm", "shape_angle", "linear_probe"} <= set(ENTRANCES)


@pytest.mark.parametrize("name", ENTRANCES)
def test_masked_entries_are_refused_everywhere(name: str) -> None:
    value = GRAM if name == "Kernel" else MASKED
    with pytest.raises(BadInput, match="masked of"):
        ENTRANCES[name](value)


@pytest.mark.parametrize(
    "name", ["Representation", "Kernel", "RDMs", "capacity", "cka", "rdm", "cka_matrix", "extract"]
)
def test_sparse_matrices_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"sparse matrix.*toarray"):
        ENTRANCES[name](scipy.sparse.csr_matrix(X))
