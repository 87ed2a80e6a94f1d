"""Errors over groups of samples that belong together: views of one object, trials of one session.

Samples of a group are not independent, so a jackknife over samples gives too small an error. Groups are left out
one after the other instead. Groups differ in size, for which the plain formula is not meant; with n samples, g parts of
m_j samples, h_j = n / m_j, the value v of all and v_j of those without part j (Busing, Meijer & van der Leeden 1999,
eq. 7; the plain formula where the parts are of one size)

    J = g v - sum_j (1 - m_j / n) v_j,      variance = 1/g sum_j (h_j v - (h_j - 1) v_j - J)^2 / (h_j - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.numerics import WORKING
from geomfeat.types import Estimate, Kernel, Representation

# Errors of fewer groups mean nothing. More groups than MOST are left out several at a time, in so many parts.
FEWEST, MOST = 3, 32
_BREAKDOWN = (np.linalg.LinAlgError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]
# What data can do to a computation.
CAUSED_BY_DATA = (GeomfeatError, ArithmeticError, *_BREAKDOWN)
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_WITH_OWN_ERRORS: set[Callable[..., Any]] = set()
_values_alone: ContextVar[bool] = ContextVar("values_alone", default=False)
_groups_taken: ContextVar[bool] = ContextVar("groups_taken", default=False)
_kept: ContextVar[dict[str | None, "LeftOut"] | None] = ContextVar("kept", default=None)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A number without each part of the data in turn, for paired errors of differences (see `paired_numbers`).

    Attributes:
        values: (1 + g, h) of all data, and without each part; h = 2 where the halves of random draws are independent.
        sizes: (g,) samples of each part.
        draws: (n,) influence of each random draw on the number; None where it has none, or it is not known.
        strata: (n,) kind of each draw, see `influence_functions.stderr`. draws_variance: of draws that are not known.
        gram: (g, g) inner products of a cross-validated number, see `cluster_permutation.exchange_test`.
    """

    values: Tensor
    sizes: Tensor
    draws: Tensor | None = None
    strata: Tensor | None = None
    draws_variance: float = 0.0
    gram: Tensor | None = None


@contextmanager
def keeping() -> Iterator[dict[str | None, LeftOut]]:
    """Within, errors over groups leave here what they are made of, by quantity (None: of the only one)."""
    kept: dict[str | None, LeftOut] = {}
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def keep(found: Mapping[str | None, LeftOut]) -> None:
    """Leave what errors over groups are made of with the caller that wants it, if any; see `keeping`."""
    kept = _kept.get()
    if kept is not None and errors_wanted():
        kept.update(found)


def common_groups(*layers: Any) -> Tensor | None:
    """The groups (n,) of samples that the layers share, or None where no layer has any.

    Raises BadInput where two layers sort the same samples into different groups.

    >>> a = Representation(torch.eye(3), groups=[0, 0, 1])
    >>> common_groups(a, Representation(torch.eye(3))).tolist()
    [0, 0, 1]
    """
    given = [layer.groups.cpu() for layer in layers if isinstance(layer, Representation) and layer.groups is not None]
    for other in given[1:]:
        if len(other) == len(given[0]) and not _same_parts(given[0], other):
            raise BadInput(
                "the two layers sort the samples into different groups: give both the same groups, or one of them none"
            )
    return given[0] if given else None


def _same_parts(a: Tensor, b: Tensor) -> bool:
    together = torch.unique(torch.stack([a, b], 1), dim=0)
    return len(together) == len(torch.unique(a)) == len(torch.unique(b))


def parts_of(groups: Tensor, most: int = MOST) -> Tensor:
    """(n,) which part, 0, 1, ..., every sample is of: a group each, or several groups where there are more than `most`.

    >>> parts_of(torch.tensor([7, 7, 3, 5]), most=2).tolist()
    [0, 0, 0, 1]
    """
    return torch.unique(groups, return_inverse=True)[1] % most


def grouped_stderr(whole: float | Tensor, without: Tensor, sizes: Tensor) -> Tensor:
    """Standard error of `whole` (...) from the values `without` (g, ...) each of g parts of `sizes` (g,) samples.

    >>> x = torch.tensor([1.0, 2.0, 4.0, 7.0], dtype=torch.float64)
    >>> left_out = (x.sum() - x) / 3
    >>> abs(grouped_stderr(x.mean(), left_out, torch.ones(4)) - x.std() / 2) < 1e-12
    tensor(True)
    """
    return grouped_covariance((whole, whole), (without, without), sizes).sqrt()


def grouped_covariance(
    wholes: tuple[float | Tensor, float | Tensor], without: tuple[Tensor, Tensor], sizes: Tensor
) -> Tensor:
    """Covariance (...) of two numbers over the same samples, by the same jackknife; see `grouped_stderr`.

    >>> x = torch.tensor([1.0, 2.0, 4.0, 7.0], dtype=torch.float64)
    >>> left_out = (x.sum() - x) / 3
    >>> abs(grouped_covariance((x.mean(), -x.mean()), (left_out, -left_out), torch.ones(4)) + x.var() / 4) < 1e-12
    tensor(True)
    """
    count, sizes = len(without[0]), sizes.to(without[0].dtype)
    weight = (sizes.sum() / sizes).reshape(-1, *[1] * (without[0].ndim - 1))
    moved = []
    for whole, each in zip(wholes, without, strict=True):
        center = count * whole - ((1 - 1 / weight) * each).sum(0)
        moved.append(weight * whole - (weight - 1) * each - center)
    return (moved[0] * moved[1] / (weight - 1)).mean(0)


def jackknife_over_groups(statistic: Callable[[Tensor], Any], groups: Tensor) -> tuple[list[Any], Tensor]:
    """statistic(rows) of the samples without each part in turn, and the sizes (g,) of the parts.

    Raises BadInput for fewer than three groups, and what `statistic` raises.
    """
    part = parts_of(groups)
    sizes = torch.bincount(part)
    if len(sizes) < FEWEST:
        raise BadInput(f"{len(sizes)} groups are too few for an error over groups: {FEWEST} are needed, better 10")
    return [statistic(torch.nonzero(part != j)[:, 0]) for j in range(len(sizes))], sizes


def errors_over_groups(
    function: Callable[..., Any], layers: Sequence[Any], options: Mapping[str, Any], least: int = 2
) -> Any:
    """function(*layers, **options), an Estimate or a mapping of them: with errors over the layers' groups, if any.

    A function that calls this itself may be given: its errors are taken once. What has no error over samples gets none
    over groups. Where a group left out leaves fewer than `least` samples, or
    nothing to measure, there is no error, and the note says why.
    """
    groups = None if _groups_taken.get() or not errors_wanted() else common_groups(*layers)
    if groups is None:
        return function(*layers, **options)
    with _true(_groups_taken):
        whole = function(*layers, **options)
    named: dict[Any, Estimate] = dict(whole) if isinstance(whole, Mapping) else {None: whole}
    wanted = [key for key, estimate in named.items() if estimate.ok and estimate.stderr is not None]
    if not wanted:
        return whole

    def without_part(rows: Tensor) -> list[float]:
        if len(rows) < least:
            raise BadInput(f"{len(rows)} samples remain without one of the groups, and {least} are needed")
        found = function(*(taken(layer, rows) for layer in layers), **options)
        estimates = [found[key] if isinstance(found, Mapping) else found for key in wanted]
        failed = next((estimate.note for estimate in estimates if not estimate.ok), "")
        if failed:
            raise BadInput(f"without one of the groups: {failed}")
        return [estimate.value for estimate in estimates]

    try:
        with values_alone():
            without, sizes = jackknife_over_groups(without_part, groups)
    except CAUSED_BY_DATA as error:
        errors, said = [None] * len(wanted), f"no error over groups ({error})"
    else:
        every = torch.tensor([named[key].value for key in wanted], dtype=WORKING)
        left_out = torch.tensor(without, dtype=WORKING)
        errors = grouped_stderr(every, left_out, sizes).tolist()
        values = torch.cat([every[None], left_out])
        keep({key: LeftOut(values[:, i : i + 1], sizes) for i, key in enumerate(wanted)})
        said = f"error over {len(torch.unique(groups))} groups"
    for key, error in zip(wanted, errors, strict=True):
        estimate = named[key]
        finite = error if error is not None and np.isfinite(error) else None
        named[key] = replace(estimate, stderr=finite, note="; ".join(filter(None, (estimate.note, said))))
    return named if isinstance(whole, Mapping) else named[None]


def taken(side: Any, rows: Tensor) -> Any:
    """Some of the samples of a Representation or a Kernel between samples; anything else as it is."""
    if isinstance(side, Representation):
        return side.take(rows.to(side.x.device))
    if isinstance(side, Kernel):
        at = rows.to(side.gram.device)
        return Kernel(side.gram[at][:, at], side.name, side.meta)
    return side


def errors_over_draws(estimates: Mapping[str, Estimate], *layers: Any) -> dict[str, Estimate]:
    """Estimates whose errors are over random draws for the samples as they are; a note says so of samples in groups.

    >>> layer = Representation(torch.eye(3), groups=[0, 0, 1])
    >>> errors_over_draws({"a": Estimate(1.0, 0.1), "b": Estimate(2.0)}, layer)["a"].note
    'error over draws, not over the 2 groups of samples'
    """
    groups = common_groups(*layers)
    if groups is None:
        return dict(estimates)
    said = f"error over draws, not over the {len(torch.unique(groups))} groups of samples"
    return {
        name: e if e.stderr is None else replace(e, note="; ".join(filter(None, (e.note, said))))
        for name, e in estimates.items()
    }


def with_own_errors(function: FunctionT) -> FunctionT:
    """Mark a function whose errors are over something else than samples: groups of samples must not replace them."""
    _WITH_OWN_ERRORS.add(function)
    return function


def has_own_errors(function: Callable[..., Any]) -> bool:
    """Whether a function is marked by `with_own_errors`.

    >>> has_own_errors(with_own_errors(lambda x: x)), has_own_errors(len)
    (True, False)
    """
    return function in _WITH_OWN_ERRORS


def values_alone() -> AbstractContextManager[None]:
    """Within, jackknifes over samples are left out: their errors are not wanted, and they take most of the time."""
    return _true(_values_alone)


@contextmanager
def _true(variable: ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


def errors_wanted() -> bool:
    """Whether errors over samples are wanted here; see `values_alone`."""
    return not _values_alone.get()
