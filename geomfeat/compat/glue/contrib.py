"""GLUE analysis as a table with an index of the caller's own, as scripts collect it over conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.compat.glue.analysis import glue_analysis_dataframe as by_layer, is_by_class, manifolds_of, transposed
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import Capacity, capacity, shuffled_control

if TYPE_CHECKING:
    import pandas

QUANTITIES = (
    "capacity", "dimension", "radius", "utility", "center_alignment", "axis_alignment", "center_axis_alignment",
)  # fmt: skip
MATRICES = {"center_alignment": "center_cosine", "axis_alignment": "", "center_axis_alignment": ""}
KINDS = {"RANDOM": "random", "ONE_VERSUS_REST": "one-vs-rest", "BALANCED": "balanced", "FIRST_VERSUS_REST": ""}


def glue_analysis_dataframe(
    manifolds: Any,
    indices: Sequence[Any] = (),
    indices_name: Sequence[str] = (),
    analysis_type: Any = "RANDOM",
    n_hyperplanes: int = 200,
    shuffle: bool = False,
    gaussianize: bool = False,
    bias: bool = False,
    return_matrix: bool = False,
    seed: int = 0,
) -> Any:
    """GLUE analysis of one input as a row (with its control, two) under an index that says what it is of.

    Args:
        manifolds: a list or a mapping (by class) of P arrays (N, M_i), features before points, or a (P, N, M) array; a
            mapping of layers goes to `geomfeat.compat.glue.glue_analysis_dataframe`.
        indices, indices_name: what the rows are of, and names for that: the index of the table.
        analysis_type: "RANDOM" labels, "ONE_VERSUS_REST", "FIRST_VERSUS_REST" (the first manifold against the others,
            the same labels in every draw) or "BALANCED".
        n_hyperplanes: number of random directions.
        shuffle: also a row for the same points with shuffled classes, marked in the column `shuffle`.
        gaussianize: only False is supported.
        bias: read-outs with an offset, which do not depend on the origin: it is set to the mean of all points.
        return_matrix: also return {"center_alignment", "axis_alignment", "center_axis_alignment": (rows, P, P) arrays},
            absolute cosines, NaN on the diagonal.

    Returns a pandas DataFrame with columns shuffle, seed, the quantities of `glue_analysis` (here axis_alignment and
    center_axis_alignment, as the tool's tables have them), their standard errors `*_se`, and note.

    Raises BadInput for what does not fit. Names and argument order are those of public code that calls the tool; what
    its options do beyond that is not documented anywhere, and is stated here.

    >>> X = [torch.randn(12, 5, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    >>> table = glue_analysis_dataframe(X, (7,), ["repeat"], n_hyperplanes=20, shuffle=True)
    >>> table.index.tolist(), table["shuffle"].tolist()
    ([7, 7], [False, True])
    """
    import pandas

    if isinstance(manifolds, Mapping) and not is_by_class(manifolds):
        return by_layer(manifolds, n_t=n_hyperplanes, seed=seed)
    if gaussianize:
        raise BadInput("gaussianize=True is not supported: replace the points yourself, and leave it False")
    if len(indices) != len(indices_name):
        raise BadInput(f"indices has {len(indices)} values for {len(indices_name)} names: give as many names as values")
    parts = manifolds_of(manifolds)
    options: dict[str, Any] = {
        "n_draws": n_hyperplanes, "dichotomies": _dichotomies(analysis_type, len(parts)),
        "center": "global" if bias else None, "seed": seed,
    }  # fmt: skip
    found = [capacity(parts, **options), *([shuffled_control(parts, **options)] if shuffle else [])]
    rows = [_row(c, shuffled, seed, transposed(parts)) for c, shuffled in zip(found, (False, True), strict=False)]
    table = pandas.DataFrame(rows, index=_index(indices, indices_name, len(rows)))
    return (table, _matrices(found)) if return_matrix else table


def _dichotomies(analysis_type: Any, n_manifolds: int) -> Any:
    name = str(getattr(analysis_type, "name", analysis_type)).upper()
    if name not in KINDS:
        raise BadInput(f"analysis_type={analysis_type!r}: use one of {', '.join(map(repr, KINDS))}")
    if name == "FIRST_VERSUS_REST":
        return torch.tensor([[1.0, *[-1.0] * (n_manifolds - 1)]])
    return KINDS[name]


def _row(found: Capacity, shuffled: bool, seed: int, notes: tuple[str, ...]) -> dict[str, Any]:
    numbers = {name: getattr(found, name) for name in QUANTITIES}
    errors = {f"{name}_se": getattr(found, f"{name}_se") for name in QUANTITIES}
    return {"shuffle": shuffled, "seed": seed, **numbers, **errors, "note": "; ".join((*notes, *found.notes))}


def _index(values: Sequence[Any], names: Sequence[str], n: int) -> pandas.Index:
    import pandas

    if not len(values):
        return pandas.RangeIndex(n)
    if len(values) == 1:
        return pandas.Index([values[0]] * n, name=names[0])
    return pandas.MultiIndex.from_tuples([tuple(values)] * n, names=list(names))


def _matrices(found: list[Capacity]) -> dict[str, np.ndarray]:
    def of(c: Capacity, name: str) -> Tensor:
        return getattr(c.per_pair, MATRICES[name] or name).abs().cpu()

    return {name: torch.stack([of(c, name) for c in found]).numpy() for name in MATRICES}
