"""CKA between all pairs of layers at once: every layer centred once, every entry of its Gram matrix formed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomfeat._numba.threads import in_threads
from geomfeat.charts import Heat
from geomfeat.display import PlottableResult, matrix_map, pair_columns
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._cka import KERNELS, as_gram
from geomfeat.geometry.similarity._cka_sums import Side, products
from geomfeat.geometry.similarity._hsic import Moments, check_estimator
from geomfeat.geometry.similarity.gram import NoWidth, rbf_gram
from geomfeat.statistics.repeated_samples import repeats_once
from geomfeat.types import Kernel, Representation, as_layer

# Below this share of the mean diagonal, differences between the other entries are rounding of single precision.
SINGLE = 1e-5
FEWEST = 6  # samples, for a standard error
DEAD = "constant over the samples (a dead or saturated layer): leave it out"


@dataclass(frozen=True, eq=False, repr=False)
class CkaMatrix(PlottableResult):
    """CKA of every layer (rows) with every layer (columns).

    Attributes:
        values: (rows, columns), in float64; NaN where it is undefined, which `notes` explain, by layer.
        stderr: jackknife standard errors over samples, NaN where there is none; None if they were not requested.
        note: on samples that are copies of others in all layers, if there are any; see `cka`.

    `to_frame()`: one row for each pair of layers: row, column, value, stderr.
    """

    names: tuple[str, ...]
    other_names: tuple[str, ...]
    values: Tensor
    stderr: Tensor | None
    kernel: str
    estimator: str
    notes: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        wide = max(len(name) for name in (*self.names, *self.other_names))
        lines = [
            f"CKA, {self.kernel} kernel, {self.estimator}",
            " " * wide + "".join(f" {n:>7}" for n in self.other_names),
        ]
        for name, row in zip(self.names, self.values.tolist(), strict=True):
            cells = (f" {v:{max(7, len(n))}.3f}" for n, v in zip(self.other_names, row, strict=True))
            lines.append(f"{name:{wide}}" + "".join(cells))
        said = [*([self.note] if self.note else []), *(f"{name}: {why}" for name, why in self.notes.items())]
        return "\n".join([*lines, *(f"  note: {why}" for why in said)])

    __repr__ = __str__

    def _columns(self) -> dict[str, Any]:
        errors = torch.full_like(self.values, torch.nan) if self.stderr is None else self.stderr
        return pair_columns(self.names, self.other_names, value=self.values, stderr=errors)

    def _chart(self) -> Heat:
        title = f"CKA, {self.kernel} kernel, {self.estimator}"
        return matrix_map(title, self.names, self.other_names, self.values, "CKA")


def cka_matrix(
    reps: Mapping[str, Any] | Sequence[Any],
    others: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    kernel: str = "linear",
    estimator: str = "unbiased",
    bandwidth: float = 0.5,
    stderr: bool = False,
) -> CkaMatrix:
    """`cka` of all pairs of layers, within 1e-7 of it and many times faster (Kornblith et al. 2019, eq. 4).

    Args:
        reps: {name: layer}, or a list (named by their layer, or by position); each a Representation or array (n, d) of
            features, of which `kernel` is taken, or a Kernel. All of the same n samples in the same order.
        others: the columns; `reps` again by default.
        kernel, estimator, bandwidth: as in `cka`; never clamped at 0.
        stderr: also the jackknife errors of `cka` over samples; takes about 1.5 times as long.

    A layer that is constant over the samples, up to rounding in the precision it came in, has NaN in its row and column
    and a note; so has one of whose samples most coincide, for "rbf". Samples that are copies of each other in all
    layers count once within a group. Raises BadInput for different numbers of samples, too few of them, or no layers.

    >>> x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    >>> found = cka_matrix({"a": x, "b": 2 * x + 1, "flat": 0 * x})
    >>> round(float(found.values[0, 1]), 6), bool(found.values[0, 2].isnan()), list(found.notes)
    (1.0, True, ['flat'])
    """
    names, values = _named(reps, "reps")
    other_names, other_values = (names, []) if others is None else _named(others, "others")
    if kernel not in KERNELS:
        raise BadInput(f"kernel must be one of {KERNELS}, got {kernel!r}")
    labels = [*names, *(other_names if others is not None else ())]
    every, note = [*values, *other_values], ""
    if estimator == "unbiased":
        every, note = repeats_once(*every)
    sides, notes = _sides(every, labels, kernel, bandwidth)
    n = len(sides[0].diagonal)
    check_estimator(estimator, n)
    columns = slice(0 if others is None else len(names), len(sides))
    found = PairTable.of(sides, len(names), columns, stderr and n >= FEWEST)
    own = found.own.hsic_of_pairs(estimator)
    for label, side, h in zip(labels, sides, own, strict=True):
        if label not in notes and (why := _undefined(side, h, estimator)):
            notes[label] = why
    own = torch.where(torch.tensor([label in notes for label in labels], device=own.device), torch.nan, own)
    alone = None if found.times is None else found.own.leave_one_out(estimator)
    rows = [_row(found, i, columns, own, alone, estimator) for i in range(len(names))]
    values, errors = (torch.stack(side) for side in zip(*rows, strict=True))
    return CkaMatrix(names, other_names, values, errors if stderr else None, kernel, estimator, notes, note)


@dataclass(frozen=True, eq=False)
class PairTable:
    """Products of pairs (n or 1, L, L), diagonals (n, L), and, for errors, K_a times the diagonal of K_b: (n, a, b)."""

    products: Tensor
    diagonals: Tensor
    times: Tensor | None

    @classmethod
    def of(cls, sides: list[Side], n_rows: int, columns: slice, by_sample: bool) -> "PairTable":
        """From the kernels; only the pairs of rows and columns, and of each with itself, are computed."""
        every = range(len(sides))
        pairs = {(min(i, j), max(i, j)) for i in range(n_rows) for j in every[columns]} | {(i, i) for i in every}
        diagonals = torch.stack([side.diagonal for side in sides], 1)
        times = None
        if by_sample:
            times = diagonals.new_empty(len(diagonals), len(sides), len(sides))
            for i, side in enumerate(sides):
                times[:, i] = side.times(diagonals)
        return cls(products(sides, pairs, times), diagonals, times)

    def moments(self, i: Tensor, j: Tensor) -> Moments:
        """Moments (n, pairs) of the pairs (i, j); without errors the sums over samples alone are right."""
        p, q = self.diagonals[:, i], self.diagonals[:, j]
        pq = p * q if self.times is not None else (p * q).sum(0, keepdim=True)
        lp, kq = (p, q) if self.times is None else (self.times[:, j, i], self.times[:, i, j])
        return Moments(len(p), self.products[:, i, j] + pq, p, q, lp, kq)

    @property
    def own(self) -> Moments:
        """Moments of every kernel with itself."""
        every = torch.arange(self.diagonals.shape[1], device=self.diagonals.device)
        return self.moments(every, every)


def _row(
    table: PairTable, i: int, columns: slice, own: Tensor, alone: Tensor | None, estimator: str
) -> tuple[Tensor, Tensor]:
    """CKA of layer i with all columns, and the jackknife errors, from HSIC with itself and its leave-one-out values."""
    j = torch.arange(len(own), device=own.device)[columns]
    cross = table.moments(torch.full_like(j, i), j)
    # Only rounding can lead beyond -1 and 1.
    values = (cross.hsic_of_pairs(estimator) / (own[i] * own[j]).sqrt()).clamp(-1, 1)
    if alone is None:
        return values, torch.full_like(values, torch.nan)
    # The root of a negative number: one sample carries the whole geometry, and its spread cannot be estimated.
    left_out = cross.leave_one_out(estimator) / (alone[:, [i]] * alone[:, j]).sqrt()
    n = cross.n
    return values, (left_out.var(0, correction=0) * (n - 1)).sqrt() + 0 * values


def _named(layers: Mapping[str, Any] | Sequence[Any], what: str) -> tuple[tuple[str, ...], list[Any]]:
    """Names and layers of a mapping or a list."""
    if not len(layers):
        raise BadInput(f"{what} holds no layers: give at least one")
    if isinstance(layers, Mapping):
        return tuple(map(str, layers)), list(layers.values())
    values = list(layers)
    given = [v.layer if isinstance(v, Representation) else v.name if isinstance(v, Kernel) else "" for v in values]
    unique = all(given) and len(set(given)) == len(given)
    return tuple(given if unique else map(str, range(len(given)))), values


def _sides(values: list[Any], labels: list[str], kernel: str, bandwidth: float) -> tuple[list[Side], dict[str, str]]:
    """The centred kernels, and why some are none, by label."""
    sides: list[Side | None] = []
    linear: list[tuple[int, Representation]] = []
    notes: dict[str, str] = {}
    n = 0
    for i, (value, label) in enumerate(zip(values, labels, strict=True)):
        given = value if isinstance(value, Kernel) else as_layer(value, label)
        n = n or given.n
        if given.n != n:
            raise BadInput(
                f"{label} has {given.n} samples, {labels[0]} has {n}: compare them on the same inputs in the same order"
            )
        if isinstance(given, Kernel):
            sides.append(Side.of_gram(as_gram(given, label), given.precision))
        elif kernel == "linear":
            sides.append(None)
            linear.append((i, given))
        else:
            try:
                sides.append(Side.of_gram(rbf_gram(given, bandwidth)))
            except NoWidth as why:
                sides.append(Side.dead(given.n, given.x.device))
                notes[label] = str(why) if Side.of_features(given.x, given.precision).varies else DEAD

    def centre(first: int, last: int) -> None:
        for i, layer in linear[first:last]:
            sides[i] = Side.of_features(layer.x, layer.precision)

    if all(layer.x.device.type == "cpu" for _, layer in linear):
        in_threads(centre, len(linear), share=1)
    else:
        centre(0, len(linear))
    return [side for side in sides if side is not None], notes


def _undefined(side: Side, own: Tensor, estimator: str) -> str:
    """Why CKA with this layer is undefined, or nothing."""
    if not side.varies:
        return DEAD
    if estimator == "unbiased" and not own > (SINGLE * float(side.diagonal.abs().mean())) ** 2:
        return "all pairs of samples are equally alike, up to rounding: take cka(), which works in double precision"
    return ""
