"""Some of the samples, for measures whose time grows fast or whose numbers are known well enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.labels import as_labels
from geomfeat.numerics import stream
from geomfeat.types import Representation

# What is kept of a rare class: samples, or as many groups of them.
FEWEST = 10

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_LIMITS: dict[Callable[..., Any], dict[str, int]] = {}


def takes_at_most(most: int | None = None, *, per_class: int | None = None) -> Callable[[FunctionT], FunctionT]:
    """Mark a measure's function, below `@measure`: beyond so many samples, in all or of each class, some are drawn.

    >>> @takes_at_most(per_class=200)
    ... def curvature(rep): ...
    >>> limits_of(curvature), limits_of(len)
    ({'most_per_class': 200}, {})
    """
    limits = {"most": most, "most_per_class": per_class}

    def mark(function: FunctionT) -> FunctionT:
        _LIMITS[function] = {name: limit for name, limit in limits.items() if limit is not None}
        return function

    return mark


def limits_of(function: Callable[..., Any]) -> dict[str, int]:
    """What `takes_at_most` has set for a function: {"most": ..., "most_per_class": ...}, those that are set."""
    return dict(_LIMITS.get(function, {}))


def at_most(
    rep: Representation, most: int | None, *, seed: int = 0, keep_classes: bool = False
) -> tuple[Representation, str]:
    """The layer on at most so many of its samples, drawn without replacement, and a note that says so; else as it is.

    Args:
        most: None takes all. keep_classes: classes keep their shares, and rare ones at least ten samples (ten groups of
            mean size, where there are groups), so that the layer may keep a few more than `most`.

    The draw depends on the seed and the number of samples alone: layers of the same samples keep the same ones.

    Raises BadInput for `most` below 2.

    >>> some, note = at_most(Representation(torch.eye(6)), 4)
    >>> some.n, note
    (4, '4 of 6 samples, drawn with seed 0 (most=None takes all)')
    """
    if not _is_above(rep.n, most, "most"):
        return rep, ""
    assert most is not None
    order = torch.randperm(rep.n, generator=stream(seed, "subsample", rep.n))
    by_class = keep_classes and rep.labels is not None
    some = _taken(rep, _in_proportion(rep, order, most) if by_class else order[:most])
    return some, f"{some.n} of {rep.n} samples, drawn with seed {seed} (most=None takes all)" if some is not rep else ""


def at_most_per_class(rep: Representation, most: int | None, *, seed: int = 0) -> tuple[Representation, str]:
    """The same for each class apart; a layer without labels is left as it is.

    >>> some, note = at_most_per_class(Representation(torch.eye(6), [0, 0, 0, 0, 1, 1]), 2)
    >>> some.labels.tolist(), note
    ([0, 0, 1, 1], 'at most 2 of each class, 4 of 6 samples, drawn with seed 0 (most_per_class=None takes all)')
    """
    if not _is_above(rep.n, most, "most_per_class") or rep.labels is None:
        return rep, ""
    assert most is not None
    order = torch.randperm(rep.n, generator=stream(seed, "subsample", rep.n))
    codes = as_labels(rep.labels).codes.cpu()[order]
    some = _taken(rep, torch.cat([order[codes == code][:most] for code in codes.unique()]))
    if some is rep:
        return rep, ""
    said = f"at most {most} of each class, {some.n} of {rep.n} samples, drawn with seed {seed}"
    return some, f"{said} (most_per_class=None takes all)"


def _is_above(n: int, most: int | None, option: str) -> bool:
    if most is not None and most < 2:
        raise BadInput(f"{option}={most}: at least 2 samples, or None for all of them")
    return most is not None and n > most


def _in_proportion(rep: Representation, order: Tensor, most: int) -> Tensor:
    codes = as_labels(rep.labels).codes.cpu()[order]
    kept = []
    for code in codes.unique():
        own = order[codes == code]
        groups = len(own) if rep.groups is None else len(rep.groups.cpu()[own].unique())
        share, least = round(most * len(own) / rep.n), -(-FEWEST * len(own) // groups)
        kept.append(own[: max(share, least)])
    return torch.cat(kept)


def _taken(rep: Representation, rows: Tensor) -> Representation:
    """Rows in their order; the layer itself where they are all."""
    return rep if len(rows) == rep.n else rep.take(rows.sort().values.to(rep.x.device))
