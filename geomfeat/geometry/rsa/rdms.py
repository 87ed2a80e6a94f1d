"""Representational dissimilarity matrices of one set of conditions, as the vectors of their upper triangles."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomfeat.charts import Heat
from geomfeat.display import PlottableResult, matrix_map, pair_columns
from geomfeat.errors import BadInput, near
from geomfeat.geometry.rsa.square_arrays import are_triangles, conditions_of
from geomfeat.numerics import WORKING, as_tensor


class Triangles(NamedTuple):
    """Vectors that are known to be upper triangles, also where they happen to look like a square matrix."""

    vectors: Any


@dataclass(frozen=True, eq=False)
class RDMs(PlottableResult):
    """k dissimilarity matrices of the same n conditions: of subjects, of layers, of models.

    Args:
        vectors: (k, n (n-1) / 2) upper triangles, row by row, in float64; a vector is one matrix. NaN: not measured.
        dissimilarity: what they hold ("squared_euclidean", ...; see `rdm`), where known.
        names: one of each matrix, in any sequence; default "0", "1", ...; stored as a tuple.
        conditions: one of each row of the matrices, in any sequence (a list, array, index); default 0, 1, ...; a tuple.
        stderr: standard errors of the vectors, of their shape, or None; NaN: unknown.
        notes: what limits these numbers, in sentences.

    Raises BadInput for a number of pairs that no number of conditions has, a square matrix, values that resemble
    one (see `are_triangles`), infinite values, and lengths that disagree.

    >>> found = RDMs(torch.tensor([1.0, 2.0, 3.0]), names=("V1",))
    >>> found.n_conditions, found.matrices[0].tolist()
    (3, [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])

    `to_frame()`: one row for each matrix and pair of conditions: rdm, condition_a, condition_b, value, and
    stderr where there are errors.
    """

    vectors: Any
    dissimilarity: str = ""
    names: Any = ()
    conditions: Any = ()
    stderr: Any = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sure = isinstance(self.vectors, Triangles)
        vectors = as_tensor(self.vectors.vectors if sure else self.vectors, "vectors", WORKING)
        vectors = vectors[None] if vectors.ndim == 1 else vectors
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise BadInput(f"vectors must be (matrices, pairs), got shape {tuple(vectors.shape)}; see RDMs.of_matrices")
        pairs = vectors.shape[1]
        n = conditions_of(pairs)
        if n == 0:
            raise BadInput(
                f"{pairs} values are not an upper triangle: n conditions have n (n - 1) / 2 pairs. For square matrices "
                "use RDMs.of_matrices"
            )
        if not (sure or are_triangles(vectors)):
            raise BadInput(f"vectors of shape ({pairs}, {pairs}) are a square matrix: use RDMs.of_matrices")
        if bool(torch.isinf(vectors).any()):
            raise BadInput(
                f"vectors hold {int(torch.isinf(vectors).sum())} infinite values: mark unmeasured pairs by NaN"
            )
        names = tuple(map(str, as_names(self.names) or range(len(vectors))))
        conditions = as_names(self.conditions) or tuple(range(n))
        for what, given, needed in (("names", names, len(vectors)), ("conditions", conditions, n)):
            if len(given) != needed:
                raise BadInput(f"{len(given)} {what} for {needed} of them: give one each")
        stderr = None if self.stderr is None else as_tensor(self.stderr, "stderr", WORKING).to(vectors.device)
        if stderr is not None:
            stderr = stderr[None] if stderr.ndim == 1 else stderr
            if stderr.shape != vectors.shape:
                raise BadInput(f"stderr has shape {tuple(stderr.shape)}, vectors {tuple(vectors.shape)}: give one each")
        found = {"vectors": vectors, "names": names, "conditions": conditions, "stderr": stderr}
        for field, value in found.items():
            object.__setattr__(self, field, value)

    @classmethod
    def of_matrices(cls, matrices: object, dissimilarity: str = "", names: Any = (), conditions: Any = ()) -> RDMs:
        """From square matrices (k, n, n) or (n, n); BadInput unless symmetric with a diagonal of zeros or NaN."""
        full = as_tensor(matrices, "matrices", WORKING)
        full = full[None] if full.ndim == 2 else full
        if full.ndim != 3 or full.shape[1] != full.shape[2] or full.shape[1] < 2:
            raise BadInput(f"matrices must be (matrices, conditions, conditions), got shape {tuple(full.shape)}")
        known = full.nan_to_num()
        slack = 1e-6 * float(known.abs().max())
        if float((known - known.mT).abs().max()) > slack or float(known.diagonal(dim1=1, dim2=2).abs().max()) > slack:
            raise BadInput("matrices must be symmetric with zeros on the diagonal: these are not dissimilarities")
        rows, columns = torch.triu_indices(full.shape[1], full.shape[1], 1, device=full.device)
        return cls(Triangles(full[:, rows, columns]), dissimilarity, names, conditions)

    @property
    def n_rdms(self) -> int:
        """Number of matrices."""
        return self.vectors.shape[0]

    @property
    def n_conditions(self) -> int:
        """Number of conditions (stimuli)."""
        return len(self.conditions)

    @property
    def matrices(self) -> Tensor:
        """(k, n, n) symmetric matrices with zero diagonal."""
        return square(self.vectors, self.n_conditions)

    def select(self, names: Any) -> RDMs:
        """Some of the matrices by name, in the given order; BadInput for a missing or ambiguous name."""
        wanted = [names] if isinstance(names, str) else list(map(str, as_names(names)))
        for name in wanted:
            if name not in self.names:
                raise BadInput(f"no RDM {name!r}; near: {near(name, self.names)}")
            if self.names.count(name) > 1:
                raise BadInput(f"{self.names.count(name)} RDMs are named {name!r}: give each its own name")
        rows = [self.names.index(n) for n in wanted]
        stderr = None if self.stderr is None else self.stderr[rows]
        return replace(self, vectors=Triangles(self.vectors[rows]), names=tuple(wanted), stderr=stderr)

    def take(self, conditions: Any) -> RDMs:
        """The matrices of 2 or more conditions, in the given order; BadInput for a missing or repeated one."""
        conditions = as_names(conditions)
        if len(conditions) < 2:
            raise BadInput(f"{len(conditions)} conditions asked for: an RDM needs at least 2")
        unknown = [c for c in conditions if c not in self.conditions]
        if unknown or len(set(conditions)) < len(conditions):
            raise BadInput(f"conditions must be different ones of the {self.n_conditions}; not there: {unknown[:5]}")
        rows = torch.tensor([self.conditions.index(c) for c in conditions], device=self.vectors.device)
        first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
        vectors, stderr = (
            None if held is None else square(held, self.n_conditions)[:, rows[first], rows[second]]
            for held in (self.vectors, self.stderr)
        )
        return replace(self, vectors=Triangles(vectors), conditions=conditions, stderr=stderr)

    def _columns(self) -> dict[str, Any]:
        pairs = list(combinations(self.conditions, 2))
        numbers = {"value": self.vectors} | ({} if self.stderr is None else {"stderr": self.stderr})
        table = pair_columns(self.names, pairs, **numbers)
        first, second = ([pair[side] for pair in table["column"]] for side in (0, 1))
        return {"rdm": table["row"], "condition_a": first, "condition_b": second} | {n: table[n] for n in numbers}

    def _chart(self) -> Heat:
        title = self.names[0] if self.n_rdms == 1 else f"mean of {self.n_rdms} matrices"
        label = self.dissimilarity or "dissimilarity"
        return matrix_map(title, self.conditions, self.conditions, self.matrices.nanmean(0), label)

    def __str__(self) -> str:
        kind = f" of {self.dissimilarity}" if self.dissimilarity else ""
        head = f"RDMs{kind}: {self.n_rdms} matrices of {self.n_conditions} conditions"
        return "\n".join([head, *(f"  note: {note}" for note in self.notes)])


def stack_rdms(parts: Sequence[RDMs], names: Any = ()) -> RDMs:
    """RDMs of several subjects or layers as one object; they keep their names unless `names` are given.

    Raises BadInput where their conditions or dissimilarities differ.

    >>> stack_rdms([RDMs(torch.ones(3)), RDMs(torch.zeros(3))], ["a", "b"]).names
    ('a', 'b')
    """
    if not parts:
        raise BadInput("parts is empty: give at least one RDMs")
    for part in parts[1:]:
        if part.conditions != parts[0].conditions:
            raise BadInput("the RDMs have different conditions, or another order of them: use take(conditions) first")
        if part.dissimilarity != parts[0].dissimilarity:
            held = f"{part.dissimilarity!r} and {parts[0].dissimilarity!r}"
            raise BadInput(f"the RDMs hold {held}: compute all with one dissimilarity")
    vectors = torch.cat([part.vectors for part in parts])
    own = tuple(name for part in parts for name in part.names)
    stderr = None
    if any(part.stderr is not None for part in parts):
        unknown = [torch.full_like(p.vectors, torch.nan) if p.stderr is None else p.stderr for p in parts]
        stderr = torch.cat(unknown)
    several = len(parts) > 1
    notes = [f"{part.names[0]}: {note}" if several else note for part in parts for note in part.notes]
    return RDMs(
        Triangles(vectors), parts[0].dissimilarity, as_names(names) or own, parts[0].conditions, stderr, tuple(notes)
    )


def as_names(given: Any) -> tuple[Hashable, ...]:
    """Names or conditions from any sequence, as plain Python values: arrays, tensors and indices are lists of theirs.

    >>> as_names(torch.tensor([3, 1])), as_names(None)
    ((3, 1), ())
    """
    if given is None:
        return ()
    return tuple(given.tolist() if hasattr(given, "tolist") else given)


def square(vectors: Tensor, n: int) -> Tensor:
    """(..., n, n) symmetric matrices with zero diagonal from their upper triangles (..., n (n-1) / 2)."""
    out = vectors.new_zeros(*vectors.shape[:-1], n, n)
    rows, columns = torch.triu_indices(n, n, 1, device=vectors.device)
    out[..., rows, columns] = vectors
    return out + out.mT
