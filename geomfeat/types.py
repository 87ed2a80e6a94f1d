"""The four values that pass between packages: Representation, Kernel, Snapshot, Estimate. All frozen and validated.

Also converts points as users have them, Representations and arrays of any kind, for functions of features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from geomfeat.charts import Heat
from geomfeat.display import BaseResult, PlottableResult, matrix_map, pair_columns
from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_groups, as_labels
from geomfeat.numerics import WORKING, as_tensor, in_floats, require_finite
from geomfeat.precision import coarser, precision_of


@dataclass(frozen=True, eq=False)
class Representation(BaseResult):
    """Features of one layer. Rows are ALWAYS samples.

    Args:
        x: (n, d) features; whole numbers become float64, half precisions float32.
        labels: (n,) classes, or None; see `as_labels`. Whole numbers are stored as int64, on the device of x; names are
            numbered in sorted order, and `classes` says which name each number stands for.
        layer: the module's name, with a path where an output is nested ("rnn[1][0]").
        meta: how it was made; `meta["reduce"]` says how a map or a token sequence became (n, d), `meta["precision"]`
            which precision the features came in, where x has more digits.
        outputs: (n, C) the network's own outputs for the same samples, where known (D_LR needs them).
        groups: (n,) which samples belong together (views of one object, trials of one session), or None; any labels,
            stored as int64. Samples are then held out, or resampled, by whole groups.
        classes: names of the classes 0, 1, ... where labels stand for names; empty where they are numbers.

    Whole numbers in x become float64. Raises BadInput for other shapes, NaN, inf, masked or missing entries, labels
    that are no classes, or lengths that disagree.

    >>> Representation(torch.zeros(5, 3), layer="fc1").n
    5
    """

    x: Tensor
    labels: Tensor | None = None
    layer: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    outputs: Tensor | None = None
    groups: Tensor | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"layer {self.layer!r}" if self.layer else "the representation"
        x = as_tensor(self.x, where)
        if x.ndim != 2 or 0 in x.shape:
            raise BadInput(
                f"{where} must be (samples, features) with at least one of each, got shape {tuple(x.shape)}: "
                "reduce it (reduce='flatten', 'mean', 'last', ...)"
            )
        x = in_floats(x, where)
        precision = _known(self.meta, precision_of(self.x))
        self.__dict__["precision"] = precision  # the cached property, which every measure asks for
        object.__setattr__(self, "meta", _with_precision(self.meta, precision, x.dtype))
        object.__setattr__(self, "x", require_finite(x, where))
        labels = None if self.labels is None else _named(as_labels(self.labels), self.classes)
        object.__setattr__(self, "classes", labels.classes if labels is not None else ())
        if labels is not None:
            object.__setattr__(self, "labels", self._beside(labels.codes, "labels", where))
        if self.groups is not None:
            object.__setattr__(self, "groups", self._beside(as_groups(self.groups), "groups", where))
        if self.outputs is not None:
            outputs = require_finite(as_tensor(self.outputs, "outputs"), f"outputs of {where}")
            outputs = outputs[:, None] if outputs.ndim == 1 else outputs
            if outputs.ndim != 2:
                raise BadInput(f"outputs must be (samples, outputs), got shape {tuple(outputs.shape)}")
            object.__setattr__(self, "outputs", self._beside(outputs, "outputs", where))

    def _columns(self) -> dict[str, Any]:
        """A row for each sample: label and group where there are any, and a column 0, 1, ... for each feature."""
        known = {"label": self.labels, "group": self.groups}
        beside = {name: value.tolist() for name, value in known.items() if value is not None}
        return beside | {str(j): column for j, column in enumerate(self.x.T.tolist())}

    def __str__(self) -> str:
        labels = "" if self.labels is None else f", {len(torch.unique(self.labels))} classes"
        groups = "" if self.groups is None else f", {len(torch.unique(self.groups))} groups"
        name = f" of layer {self.layer!r}" if self.layer else ""
        return f"Representation{name}: {self.n} samples, {self.d} features{labels}{groups}"

    def _beside(self, value: Tensor, name: str, where: str) -> Tensor:
        if value.shape[0] != self.x.shape[0]:
            raise BadInput(f"{name} has {value.shape[0]} entries, but {where} has {self.x.shape[0]} samples")
        return value.to(self.x.device)

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.x.shape[0]

    @property
    def d(self) -> int:
        """Number of features."""
        return self.x.shape[1]

    @cached_property
    def precision(self) -> torch.dtype:
        """The precision that the features came in, which may be less than that of the numbers in x.

        >>> Representation(torch.randn(9, 3).bfloat16()).precision
        torch.bfloat16
        """
        return _known(self.meta, precision_of(self.x))

    def with_(self, **changes: Any) -> Representation:
        """A copy with some fields replaced; features computed from these keep their precision.

        Names of classes go with the labels that they belong to.
        """
        if "x" in changes:
            changes["meta"] = _with_precision(changes.get("meta", self.meta), self.precision, WORKING)
        return replace(self, **({"classes": ()} | changes if "labels" in changes else changes))

    def take(self, rows: Tensor | slice | list[int]) -> Representation:
        """The same layer on a subset (or reordering) of the samples: indices, a mask, or a slice.

        >>> Representation(torch.eye(3), labels=torch.tensor([5, 6, 7])).take([2, 0]).labels.tolist()
        [7, 5]
        """
        x, beside = self.x[rows], {"labels": self.labels, "outputs": self.outputs, "groups": self.groups}
        parts = {name: None if value is None else value[rows] for name, value in beside.items()}
        if x.ndim != 2 or not len(x):
            return replace(self, x=x, **parts)  # which says what is wrong
        # A part needs no checks: these would take longer than most numbers of a small layer without a part of it.
        taken = object.__new__(type(self))
        vars(taken).update(vars(self), x=x, **parts)
        return taken


def _named(labels: Labels, classes: Sequence[Any]) -> Labels:
    """Labels with the given names of their codes, which must be in their range."""
    if labels.classes or not len(classes):
        return labels
    lowest, highest = int(labels.codes.min()), int(labels.codes.max())
    if lowest < 0 or highest >= len(classes):
        raise BadInput(
            f"labels run from {lowest} to {highest}, but classes has {len(classes)} names: give one for each number "
            "from 0 to the largest"
        )
    return Labels(labels.codes, tuple(map(str, classes)))


def _known(meta: Mapping[str, Any], precision: torch.dtype) -> torch.dtype:
    """The coarser of a precision and the one in meta."""
    noted = getattr(torch, str(meta.get("precision")), None)
    return coarser(noted, precision) if isinstance(noted, torch.dtype) and noted.is_floating_point else precision


def _with_precision(meta: Mapping[str, Any], precision: torch.dtype, holds: torch.dtype) -> Mapping[str, Any]:
    """meta that says in which precision the numbers came, where they are held with more digits."""
    precision = _known(meta, precision)
    if torch.finfo(precision).eps <= torch.finfo(holds).eps:
        return meta
    return {**meta, "precision": str(precision).removeprefix("torch.")}


# (n, d): rows are samples.
Points = Representation | Tensor | np.ndarray | Sequence[Any]


def as_points(x: Points, name: str = "x") -> Tensor:
    """Points as a tensor (n, d) of floating-point numbers, without a copy where they are one.

    Precisions below 32 bits are widened, whole numbers become float64. Raises BadInput for what is not numeric, other
    shapes than (samples, features) with at least one of each, NaN and infinite values.

    >>> as_points([[1, 2], [3, 4]]).shape
    torch.Size([2, 2])
    """
    points = as_tensor(x.x if isinstance(x, Representation) else x, name)
    if points.ndim != 2 or 0 in points.shape:
        raise BadInput(
            f"{name} must be (samples, features) with at least one of each, got shape {tuple(points.shape)}"
            + (": for a single feature pass x[:, None]" if points.ndim == 1 and len(points) else "")
        )
    return require_finite(in_floats(points, name), name)


def as_layer(x: Points, name: str = "x") -> Representation:
    """Points as a Representation, which knows the precision that they came in. Raises as `as_points`.

    >>> as_layer(torch.ones(2, 3, dtype=torch.bfloat16)).precision
    torch.bfloat16
    """
    if isinstance(x, Representation):
        return x
    points = as_points(x, name)
    widened = getattr(x, "dtype", None) != points.dtype
    return Representation(points, meta=_with_precision({}, precision_of(x), points.dtype) if widened else {})


@dataclass(frozen=True, eq=False)
class Kernel(PlottableResult):
    """A kernel between samples: an NTK, a feature Gram or a label kernel; symmetric unless it is between two sets.

    Args:
        gram: (n, n), or (n1, n2) between two sets; for a full NTK (n1 C, n2 C), sample-major: row i * C + c is output
            c of sample i.
        name: "ntk", "linear", "labels", ...
        meta: `meta["outputs"]` for an NTK ("trace", "full", ...), `meta["n_outputs"]` C.
    """

    gram: Tensor
    name: str = "kernel"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gram = as_tensor(self.gram, f"kernel {self.name!r}")
        if gram.ndim != 2 or 0 in gram.shape:
            raise BadInput(f"kernel {self.name!r} must be a matrix, got shape {tuple(gram.shape)}")
        gram = in_floats(gram, f"kernel {self.name!r}")
        object.__setattr__(self, "meta", _with_precision(self.meta, precision_of(self.gram), gram.dtype))
        object.__setattr__(self, "gram", require_finite(gram, f"kernel {self.name!r}"))

    def _columns(self) -> dict[str, Any]:
        """A row for each entry: row, column, value."""
        n1, n2 = self.gram.shape
        return pair_columns(range(n1), range(n2), value=self.gram)

    def _chart(self) -> Heat:
        n1, n2 = self.gram.shape
        return matrix_map(f"kernel {self.name}", range(n1), range(n2), self.gram, "kernel")

    def __str__(self) -> str:
        return f"Kernel {self.name!r}: {' x '.join(map(str, self.gram.shape))}"

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.gram.shape[0]

    @cached_property
    def precision(self) -> torch.dtype:
        """The precision that the kernel came in."""
        return _known(self.meta, precision_of(self.gram))

    @property
    def blocks(self) -> Tensor:
        """A full NTK as (n1, n2, C, C): entry [i, j] is the C x C block of samples i and j."""
        c = self.meta.get("n_outputs")
        if self.meta.get("outputs") != "full" or not c:
            raise BadInput(f"kernel {self.name!r} has no output blocks: compute it with outputs='full'")
        if self.gram.shape[0] % c or self.gram.shape[1] % c:
            raise BadInput(
                f"kernel {self.name!r} of shape {tuple(self.gram.shape)} does not divide into blocks of {c} outputs: "
                "check meta['n_outputs']"
            )
        n1, n2 = self.gram.shape[0] // c, self.gram.shape[1] // c
        return self.gram.reshape(n1, c, n2, c).permute(0, 2, 1, 3)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model at one moment of training.

    Args:
        model: the module, with the weights of that moment.
        at: "init", "trained", or the training step.
        conditions: settings of the run (init_scale, lr, width, gamma, seed, ...); become columns of the table.
        optimizer: what trained it, in a form that `locate(optimizer=)` takes, if it is known; default None.
    """

    model: nn.Module
    at: str | int = "trained"
    conditions: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise BadInput(f"model must be a torch.nn.Module, got {type(self.model).__name__}: load weights into one")


@dataclass(frozen=True)
class Estimate(float, BaseResult):
    """A number with its error, or a failure that says what to do. It is a float wherever a float is wanted.

    Comparing, rounding, formatting and arithmetic use the value and give plain floats; two Estimates are equal if all
    that they hold is. A value that is not finite, and its error, must be marked ok=False; else BadInput is raised.

    >>> Estimate(0.41, 0.02).ok
    True
    >>> Estimate(0.41, 0.02) < 0.5, 1 - Estimate(0.25), f"{Estimate(0.41):.1f}", str(Estimate(0.41, 0.02))
    (True, 0.75, '0.4', '0.41 ± 0.02')
    >>> Estimate.failed("needs labels: pass labels=").ok
    False
    """

    value: float
    stderr: float | None = None
    ok: bool = True
    note: str = ""

    def __new__(cls, value: float, stderr: float | None = None, ok: bool = True, note: str = "") -> Self:
        """The float that the Estimate is."""
        return super().__new__(cls, value)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        if self.stderr is not None:
            object.__setattr__(self, "stderr", float(self.stderr))
        if self.ok and not math.isfinite(self.value):
            raise BadInput(f"an estimate of {self.value} cannot be ok=True: mark it failed and say why")
        if self.ok and self.stderr is not None and not 0 <= self.stderr < math.inf:
            raise BadInput(f"a standard error of {self.stderr} cannot be ok=True: give None where there is none")
        if not self.ok and not self.note:
            raise BadInput("a failed estimate must say in note= what happened and what to do")

    @classmethod
    def failed(cls, note: str, value: float = math.nan) -> Estimate:
        """A failure: ok=False with the reason and the next step."""
        return cls(value, None, False, note)

    def _columns(self) -> dict[str, Any]:
        return {
            "value": [self.value], "stderr": [math.nan if self.stderr is None else self.stderr], "ok": [self.ok],
            "note": [self.note],
        }  # fmt: skip

    def __ne__(self, other: object) -> bool:
        return not self == other  # float has its own, which would compare the values alone

    def __hash__(self) -> int:
        """That of the value: an Estimate equals the plain number too."""
        return hash(self.value)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if not self.ok:
            return f"failed: {self.note}"
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        return f"{self.value:.4g}{error}" + (f" ({self.note})" if self.note else "")
