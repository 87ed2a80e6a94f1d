"""Labels, groups and conditions from any container: a whole number or a name for each sample.

Every function that takes labels reads them here, so that the same labels mean the same everywhere and a missing label
is never a class.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import as_tensor, refuse_masked, refuse_sparse, require_finite

# What numpy and pandas write where a missing value stands among text.
MISSING_AS_TEXT = ("nan", "NaT", "<NA>")
# float64 does not represent every whole number above this.
EXACT = 2**53
REMEDY = "leave those samples out, or say what they are"


@dataclass(frozen=True, eq=False)
class Labels:
    """Classes of n samples.

    codes: (n,) int64: the numbers that were given, or 0, 1, ... in sorted order of the names. classes: the names that
    the codes stand for; empty where numbers were given.
    """

    codes: Tensor
    classes: tuple[str, ...] = ()


def as_labels(raw: Any, name: str = "labels", n: int | None = None, classes: Sequence[str] = ()) -> Labels:
    """One class for each sample, from whole numbers, booleans or names, in a list, array, tensor or pandas column.

    Args:
        raw: (n,) or (n, 1) labels. Numbers stay as they are; strings and whatever else can be put in order (dates,
            categories) are numbered in sorted order. name: of the argument. n: how many samples there are, if known.
        classes: the order in which names are numbered instead, where it is known from other samples.

    Raises BadInput for missing labels (NaN, None, NaT, pandas.NA, masked entries, and text that says so), fractions,
    numbers too large for their precision, kinds that cannot be put in order, names that are none of
    `classes`, and other shapes.

    >>> found = as_labels(["cat", "dog", "ant", "cat"])
    >>> found.codes.tolist(), found.classes
    ([1, 2, 0, 1], ('ant', 'cat', 'dog'))
    """
    if isinstance(raw, Labels):
        _check_length(len(raw.codes), name, n)
        return raw
    if isinstance(raw, Tensor) and raw.dtype == torch.int64 and raw.ndim == 1 and len(raw):
        _check_length(len(raw), name, n)
        return Labels(raw.detach())
    values, limit, device = _one_per_sample(raw, name, n)
    kind = values.dtype.kind
    if kind in "biuf":
        return Labels(torch.from_numpy(_whole(values, name, limit)).to(device))
    found, codes = _sorted(values, name)
    names = tuple(map(str, _plain(found)))
    if not len(classes):
        return Labels(torch.from_numpy(codes), names)
    place = {one: i for i, one in enumerate(map(str, classes))}
    unknown = [one for one in names if one not in place]
    if unknown:
        raise BadInput(f"{name} holds {unknown[0]!r}, which is none of the classes {', '.join(place)}")
    return Labels(torch.tensor([place[one] for one in names])[codes], tuple(place))


def as_groups(raw: Any, name: str = "groups", n: int | None = None) -> Tensor:
    """(n,) int64 codes of the groups (subjects, sessions, objects) that samples belong to; any labels, also fractions.

    Whole numbers stay as they are, others are numbered in sorted order. Raises BadInput as `as_labels`.

    >>> as_groups(["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    if isinstance(raw, Tensor) and raw.dtype == torch.int64 and raw.ndim == 1 and len(raw):
        _check_length(len(raw), name, n)
        return raw.detach()
    values, limit, device = _one_per_sample(raw, name, n)
    if values.dtype.kind == "f":
        _refuse_merged(values, name, limit)
    if values.dtype.kind in "bi" or (values.dtype.kind == "u" and int(values.max()) < 2**63):
        return torch.from_numpy(values.astype(np.int64)).to(device)
    return torch.from_numpy(_sorted(values, name)[1]).to(device)


def levels_of(raw: Any, name: str, n: int | None = None) -> tuple[tuple[Hashable, ...], Tensor]:
    """The different values in sorted order, and the index (n,) of each sample's; values may be fractions.

    >>> levels_of([22.5, 0.0, 22.5], "conditions")
    ((0.0, 22.5), tensor([1, 0, 1]))
    """
    values, _, _ = _one_per_sample(raw, name, n)
    names, index = _sorted(values, name)
    return _plain(names), torch.from_numpy(index)


def as_goal(raw: Any, name: str = "labels", classes: Sequence[str] = ()) -> Tensor:
    """What a network is to learn: classes (n,) as int64, or values (n,) or (n, C) as floating-point numbers.

    (n,) whole numbers, and names in (n,) or (n, 1), are classes, read as `as_labels` does; other numbers are values,
    and stay as they are. Raises BadInput for missing labels or values.

    >>> as_goal(["b", "a"]).tolist(), as_goal([[0.5], [1.5]]).tolist()
    ([1, 0], [[0.5], [1.5]])
    """
    found = goal_of(raw, name, classes)
    return found.codes if isinstance(found, Labels) else found


def goal_of(raw: Any, name: str = "labels", classes: Sequence[str] = ()) -> Labels | Tensor:
    """As `as_goal`, with the names that classes stand for.

    >>> goal_of([["b"], ["a"]]).classes
    ('a', 'b')
    """
    if isinstance(raw, Labels):
        return raw
    array = raw if isinstance(raw, Tensor) else _as_array(raw, name)
    if isinstance(array, np.ndarray) and (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        flat = _tightened(array.reshape(-1), name)
        _refuse_missing(flat, name)
        # Columns of numbers may be values of one output; columns of names cannot.
        array = flat.reshape(array.shape) if flat.dtype.kind in "biuf" else flat
    floating = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"
    if array.ndim == 0 or (array.ndim == 1 and not floating):
        return as_labels(array, name, classes=classes)
    values = as_tensor(array, name)
    return require_finite(values, name) if values.is_floating_point() else values


def classes_in(raw: Any, name: str = "labels", n: int | None = None) -> Labels | None:
    """The classes of n samples, or None where they have values instead, as in a regression.

    Values are numbers of which one has a fraction. Raises BadInput as `as_labels` and `as_goal`; rows of several whole
    numbers are labels of tokens or one-hot rows, which are neither.

    >>> classes_in([0.5, 1.0, 2.0]), classes_in([[0.1, 0.2], [1.0, 2.0]]), classes_in([1.0, 0.0]).codes.tolist()
    (None, None, [1, 0])
    """
    goal = goal_of(raw, name)
    if isinstance(goal, Labels):
        _check_length(len(goal.codes), name, n)
        return goal
    _check_length(goal.shape[0], name, n)
    if goal.is_floating_point() and bool((goal != goal.round()).any()):
        return None
    return as_labels(raw, name, n)


def _check_length(found: int, name: str, n: int | None) -> None:
    if n is not None and found != n:
        raise BadInput(f"{name} has {found} entries, but there are {n} samples: give one for each sample")


def _one_per_sample(raw: Any, name: str, n: int | None) -> tuple[np.ndarray, float, torch.device]:
    """(n,) values without missing ones, the size up to which they are exact as whole numbers, and their device."""
    limit, device = float(EXACT), torch.device("cpu")
    if isinstance(raw, Tensor):
        device = raw.device
        if raw.is_floating_point():
            limit = min(limit, 2 / torch.finfo(raw.dtype).eps)
        raw = as_tensor(raw, name).cpu().numpy()
    array = _as_array(raw, name)
    if array.dtype.kind == "f":
        limit = min(limit, 2 / float(np.finfo(array.dtype).eps))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim and not array.size:
        raise BadInput(f"{name} are empty: give them for a positive number of samples")
    if array.ndim != 1:
        raise BadInput(
            f"{name} must be one class per sample, (n,), got shape {array.shape}: of one-hot rows take .argmax(1); "
            "labels of tokens belong to features of tokens (extract with reduce='token_all', then give the flattened "
            "labels to each layer, layer.with_(labels=...))"
        )
    _check_length(len(array), name, n)
    array = _tightened(array, name)
    _refuse_missing(array, name)
    return array, limit, device


def _as_array(raw: Any, name: str) -> np.ndarray:
    """Anything with one entry for each sample as an array that still knows which entries are missing."""
    refuse_masked(raw, name, REMEDY)
    refuse_sparse(raw, name)
    if isinstance(raw, np.ndarray | range):
        return np.asarray(raw)
    if isinstance(raw, str | bytes | Mapping | set | frozenset) or not (
        isinstance(raw, Iterable) or hasattr(raw, "__array__")
    ):
        raise BadInput(f"{name} is a {type(raw).__name__}: give a list, array or tensor with one class per sample")
    if hasattr(raw, "__array__"):
        return np.asarray(raw)
    items = [v.item() if isinstance(v, Tensor) and v.ndim == 0 else v for v in raw]
    # As objects: numpy alone would write a NaN among strings as the string "nan".
    return np.array(items, dtype=object)


def _tightened(array: np.ndarray, name: str) -> np.ndarray:
    """Objects and bytes as the numbers or text that they are."""
    if array.dtype.kind in "cV":
        raise BadInput(f"{name} is of type {array.dtype}: give whole numbers or names")
    if array.dtype.kind == "S":
        array = array.astype(object)
    if array.dtype.kind not in "OT":
        return array
    values = [v.decode(errors="backslashreplace") if isinstance(v, bytes) else v for v in array.tolist()]
    if any(isinstance(v, list | tuple | set | dict | np.ndarray | Tensor) for v in values):
        raise BadInput(f"{name} holds lists of different lengths: give one class per sample")
    present = [v for v in values if not _is_missing(v)]
    if all(isinstance(v, bool | np.bool | Integral) for v in present) and len(present) == len(values):
        numbers = [int(v) for v in present]
        if min(numbers) < -(2**63) or max(numbers) >= 2**63:
            raise BadInput(f"{name} holds whole numbers beyond 64 bits: number the classes (np.unique, return_inverse)")
        return np.array(numbers, dtype=np.int64)
    if present and all(isinstance(v, bool | np.bool | Real | Decimal) for v in present):
        return np.array([np.nan if _is_missing(v) else float(v) for v in values])
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _is_missing(value: Any) -> bool:
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return value in MISSING_AS_TEXT
    return isinstance(value, float | np.floating | Decimal | np.datetime64 | np.timedelta64) and bool(value != value)


def _refuse_missing(array: np.ndarray, name: str) -> None:
    missing = _count_missing(array)
    if missing:
        raise BadInput(f"{missing} of {len(array)} {name} are missing (NaN, None, NaT or NA): {REMEDY}")


def _count_missing(array: np.ndarray) -> int:
    kind = array.dtype.kind
    if kind == "f":
        return int(np.isnan(array).sum())
    if kind in "Mm":
        return int(np.isnat(array).sum())
    if kind == "U":
        return int(np.isin(array, MISSING_AS_TEXT).sum())
    return sum(map(_is_missing, array.tolist())) if kind == "O" else 0


def _whole(values: np.ndarray, name: str, limit: float) -> np.ndarray:
    """Numbers as int64; BadInput where they are no whole numbers, or so large that rounding may have merged some."""
    if values.dtype.kind == "f":
        fractions = int((~np.isfinite(values) | (values != np.round(values))).sum())
        if fractions:
            raise BadInput(
                f"{name} must be classes as whole numbers or names, got {fractions} fractions or infinite values of "
                f"{len(values)}: divide the values into bins"
            )
        _refuse_merged(values, name, limit)
    elif values.dtype.kind == "u" and int(values.max()) >= 2**63:
        raise BadInput(f"{name} holds whole numbers beyond 63 bits: number the classes (np.unique, return_inverse)")
    return np.ascontiguousarray(values.astype(np.int64))


def _refuse_merged(values: np.ndarray, name: str, limit: float) -> None:
    """BadInput for finite numbers so large that rounding may have merged some."""
    merged = int((np.isfinite(values) & (np.abs(values) >= limit)).sum())
    if merged:
        raise BadInput(
            f"{merged} of {len(values)} {name} are {limit:.0f} or more, beyond which {values.dtype} does not represent "
            "every whole number: give them as integers"
        )


def _plain(names: np.ndarray) -> tuple[Hashable, ...]:
    """As Python's own types; dates stay dates, which numpy would turn into numbers."""
    return tuple(names) if names.dtype.kind in "mM" else tuple(names.tolist())


def _sorted(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(f"{int((~np.isfinite(values)).sum())} of {len(values)} {name} are infinite: {REMEDY}")
    try:
        names, index = np.unique(values, return_inverse=True)
    except TypeError as cause:
        raise BadInput(
            f"{name} of kinds that cannot be put in order ({cause}): give numbers or strings, not both"
        ) from cause
    return names, index.astype(np.int64)
