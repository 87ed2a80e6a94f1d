"""GLUE analysis in the shapes of the GLUE tool: (P, N, M), with the features BEFORE the points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import Capacity, capacity, capacity_by_layer
from geomfeat.numerics import WORKING, as_tensor
from geomfeat.types import Representation

if TYPE_CHECKING:
    import pandas

BACKENDS = ("auto", "cpu", "cuda", "numpy")
# The tool's name for a quantity, and geomfeat's.
QUANTITIES = {
    "capacity": "capacity",
    "dimension": "dimension",
    "radius": "radius",
    "center_alignment": "center_alignment",
    "axes_alignment": "axis_alignment",
    "center_axes_alignment": "center_axis_alignment",
    "utility": "utility",
}
# Names of its other versions.
ALSO_NAMED = {"axis_alignment": "axes_alignment", "center_axis_alignment": "center_axes_alignment"}


@dataclass(frozen=True, eq=False)
class GlueAnalysis(Mapping[str, Any], BaseResult):
    """Capacity and geometry of P manifolds under the GLUE tool's names: as attributes, and as a mapping of the numbers.

    Attributes:
        capacity, dimension, radius, utility: see `geomfeat.geometry.manifolds.Capacity`.
        center_alignment, axes_alignment, center_axes_alignment: mean absolute cosines, 0 to 1.
        details: everything else, with standard errors and per-draw values.
        notes: what limits these numbers, in sentences; also a suspicion that features and points changed places.

    `to_frame()`: one row for each number: quantity, value.
    """

    capacity: float
    dimension: float
    radius: float
    center_alignment: float
    axes_alignment: float
    center_axes_alignment: float
    utility: float
    details: Capacity
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        known = ALSO_NAMED.get(name, name)
        if known not in {field.name for field in fields(self)}:
            raise KeyError(f"{name!r}: there are {', '.join(QUANTITIES)}, details and notes")
        return getattr(self, known)

    def __iter__(self) -> Iterator[str]:
        return iter(QUANTITIES)

    def __len__(self) -> int:
        return len(QUANTITIES)

    def _columns(self) -> dict[str, Any]:
        return {"quantity": list(QUANTITIES), "value": [self[name] for name in QUANTITIES]}


def glue_analysis(
    X: Any,
    backend: str = "auto",
    *,
    n_t: int = 200,
    dichotomies: Any = "random",
    center: str | None = None,
    seed: int = 0,
) -> GlueAnalysis:
    """GLUE analysis of P manifolds.

    Args:
        X: a (P, N, M) array of P manifolds with N features and M points, or a list or a mapping (by class) of P arrays
            (N, M_i); numpy or torch. The features come first: `geomfeat.capacity` takes (P, M, N).
        backend: where to compute: "auto" (where the data are), "cpu" or "cuda"; "numpy" is the tool's name for the CPU.
        n_t: number of random directions. dichotomies, center, seed: see `geomfeat.capacity`.

    Returns `GlueAnalysis`, to be read as `found.dimension` or `found["dimension"]`. Fewer features than points get a
    note, since (P, M, N) would look like that.

    Raises BadInput for other shapes, an unknown backend, or a missing device.

    >>> X = torch.eye(12, dtype=torch.float64).reshape(4, 3, 12).mT            # 4 simplices of 3 orthonormal points
    >>> found = glue_analysis(X, n_t=400)
    >>> abs(found.capacity - 2 / 3) < 0.1, found["capacity"] == found.capacity
    (True, True)
    """
    device = _device(backend)
    parts = manifolds_of(X)
    found = capacity(parts, n_draws=n_t, dichotomies=dichotomies, center=center, seed=seed, device=device)
    numbers = {name: getattr(found, ours) for name, ours in QUANTITIES.items()}
    return GlueAnalysis(**numbers, details=found, notes=(*transposed(parts), *found.notes))


def glue_analysis_dataframe(
    X: Any,
    backend: str = "auto",
    *,
    n_t: int = 200,
    dichotomies: Any = "random",
    center: str | None = None,
    seed: int = 0,
) -> pandas.DataFrame:
    """GLUE analysis of one or several inputs, a row each.

    Args:
        X: as for `glue_analysis`, or a mapping of names (layers, checkpoints, models) to such inputs; a mapping of
            single manifolds (N, M_i) is one input. Rows of inputs with the same samples, in the same order, have their
            random draws in common (`common_draws`), so that their differences are sharper than the standard errors
            say. `glue_analysis` draws t itself: its numbers differ from these within their errors.
        The rest: as for `glue_analysis`.

    Returns a pandas DataFrame, index "layer" (0 for a single input), with every number of `GlueAnalysis`, its standard
    error `*_se`, n_manifolds, n_features, n_points (of all manifolds together) and note. An input that fails is NaN
    with the reason in note.

    Raises BadInput as `glue_analysis`, and if no input at all gives a number.

    >>> X = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0))
    >>> glue_analysis_dataframe({"fc1": X, "fc2": X[:, :10]}, n_t=20).index.tolist()
    ['fc1', 'fc2']
    """
    import pandas

    device = _device(backend)
    several = isinstance(X, Mapping) and not is_by_class(X)
    inputs = {str(name): value for name, value in X.items()} if several else {"0": X}
    if isinstance(X, Mapping) and not X:
        raise BadInput("X is an empty mapping: give at least one input")
    layers = _Layers(inputs)
    found = capacity_by_layer(
        layers, n_draws=n_t, dichotomies=dichotomies, center=center, seed=seed, device=device
    )  # fmt: skip
    rows = []
    for name, value in found.items():
        numbers = {column: getattr(value, ours) for column, ours in QUANTITIES.items()}
        errors = {f"{column}_se": getattr(value, f"{ours}_se") for column, ours in QUANTITIES.items()}
        sizes, caveats = layers.facts.get(name, ({}, ()))
        rows.append({**numbers, **errors, **sizes, "note": "; ".join((*caveats, *value.notes))})
    index = list(X) if several else [0]
    return pandas.DataFrame(rows, index=pandas.Index(index, name="layer"))


class _Layers(Mapping[str, Representation]):
    """Inputs of the GLUE tool as Representations, made at access; their shapes are cached."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.facts: dict[str, tuple[dict[str, int], tuple[str, ...]]] = {}

    def __getitem__(self, name: str) -> Representation:
        parts = manifolds_of(self.inputs[name])
        sizes = torch.tensor([len(p) for p in parts])
        facts = {"n_manifolds": len(parts), "n_features": parts[0].shape[1], "n_points": int(sizes.sum())}
        self.facts[name] = facts, transposed(parts)
        return Representation(torch.cat(parts), torch.repeat_interleave(sizes), layer=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)


def _device(backend: str) -> str | None:
    if backend not in BACKENDS:
        raise BadInput(f"backend={backend!r}: use one of {', '.join(map(repr, BACKENDS))}")
    return {"auto": None, "numpy": "cpu"}.get(backend, backend)


def manifolds_of(X: Any) -> list[Tensor]:
    """The manifolds as (M_i, N) arrays, in the precision they came in."""
    if isinstance(X, Mapping):
        if not is_by_class(X):
            raise BadInput(
                f"X is a mapping ({', '.join(map(str, list(X)[:5]))}) of other things than manifolds (features, "
                "points): give one input here, or all of them to glue_analysis_dataframe"
            )
        X = list(X.values())
    if isinstance(X, np.ndarray) and X.dtype == object:
        X = list(X)
    if isinstance(X, Sequence) and not isinstance(X, str):
        parts = [as_tensor(part, f"X[{i}]") for i, part in enumerate(X)]
    else:
        x = as_tensor(X, "X")
        if x.ndim != 3:
            raise BadInput(f"X must be (P, N, M), manifolds x features x points, got shape {tuple(x.shape)}")
        parts = list(x)
    shapes = [tuple(part.shape) for part in parts]
    if not parts or any(part.ndim != 2 or 0 in part.shape for part in parts):
        raise BadInput(f"every manifold must be (features, points) with at least one of each, got shapes {shapes[:5]}")
    if len({n for n, _ in shapes}) > 1:
        same_features = len({m for _, m in shapes}) == 1
        remedy = (
            "these are (points, features): transpose each" if same_features else "give all manifolds the same features"
        )
        raise BadInput(f"manifolds are (features, points), but their first sizes differ, {shapes[:5]}: {remedy}")
    return [(part if part.is_floating_point() else part.to(WORKING)).mT for part in parts]


def is_by_class(X: Mapping[Any, Any]) -> bool:
    """Whether a mapping holds one manifold (N, M_i) for each class, and no inputs of several manifolds each.

    >>> is_by_class({"cat": np.zeros((5, 3)), "dog": np.zeros((5, 4))}), is_by_class({"fc1": np.zeros((2, 5, 3))})
    (True, False)
    """
    arrays = [value if isinstance(value, Tensor | np.ndarray) else None for value in X.values()]
    return bool(arrays) and all(array is not None and array.ndim == 2 for array in arrays)


def transposed(parts: list[Tensor]) -> tuple[str, ...]:
    """A note where every manifold has more points than features, as it would if the two had changed places."""
    n, fewest = parts[0].shape[1], min(len(p) for p in parts)
    if n >= fewest:
        return ()
    return (f"read as {n} features and {fewest} or more points: if it is the other way round, X must be (P, N, M)",)
