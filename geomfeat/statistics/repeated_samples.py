"""Samples that occur in the data several times, for measures that assume independent samples.

An unbiased estimate leaves out the pairs of a sample with itself. A copy is such a pair that it cannot see: with every
sample there twice, the unbiased CKA of independent wide layers reads .5. Only the user knows whether copies are equal
draws (of a discrete distribution, which are samples like others) or one sample repeated. Groups say so: copies within a
group count once. Without them the value is that of the definition, and the note says what it takes the copies for.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from geomfeat.statistics.copies import copies_of, first_of_each
from geomfeat.statistics.group_errors import common_groups, errors_wanted, taken
from geomfeat.types import Kernel, Representation, as_layer


def repeats_once(*sides: Any, noted: bool = True) -> tuple[list[Any], str]:
    """The sides without copies of samples within their group, and a note on these copies and those that are left.

    Args:
        sides: Representations, arrays (n, d), or Kernels between the same n samples; copies are the same in all.
        noted: whether the note is wanted; without it and without groups nothing is looked for.

    >>> x = torch.tensor([[1.0], [2.0], [1.0], [3.0]])
    >>> repeats_once(x)[1][:36]
    '1 of 4 samples are copies of others,'
    >>> [side], note = repeats_once(Representation(x, groups=[0, 1, 0, 2]))
    >>> side.x.flatten().tolist(), note
    ([1.0, 2.0, 3.0], '1 of 4 samples are copies of another one in their group, and left out')
    """
    groups = common_groups(*sides)
    if groups is None and not (noted and errors_wanted()):
        return list(sides), ""
    given = [side if isinstance(side, Kernel) else as_layer(side) for side in sides]
    number = _numbered(given)
    if number is None:
        return given, ""
    n, first = len(number), torch.arange(len(number))
    said = []
    if groups is not None:
        first = first_of_each(torch.unique(torch.stack([number, groups], 1), dim=0, return_inverse=True)[1])
        if len(first) < n:
            said.append(f"{n - len(first)} of {n} samples are copies of another one in their group, and left out")
            given = [taken(side, first) for side in given]
    left = len(first) - int(number.max()) - 1
    if left:
        said.append(copies_said(left, len(first), "the estimate takes", groups is not None))
    return given, "; ".join(said)


def copies_said(left: int, n: int, who: str, grouped: bool) -> str:
    """The note on `left` copies among n samples: who takes them for what, and the remedy.

    >>> copies_said(2, 9, "the error takes", True)[:72]
    '2 of 9 samples are copies of others, which the error takes for independe'
    """
    remedy = "give them one group" if grouped else "give groups= that hold them together"
    return (
        f"{left} of {n} samples are copies of others, which {who} for independent draws: if they repeat a sample, "
        f"remove them, or {remedy}"
    )


def without_copies(*sides: Any) -> tuple[list[Any], str]:
    """The sides without samples that are copies of earlier ones in all of them, and a note on how many these are.

    >>> [side], note = without_copies(torch.tensor([[1.0], [2.0], [1.0]]))
    >>> side.x.flatten().tolist(), note
    ([1.0, 2.0], '1 of 3 samples are copies of others, and left out')
    """
    given = [side if isinstance(side, Kernel) else as_layer(side) for side in sides]
    number = _numbered(given)
    if number is None:
        return given, ""
    first = first_of_each(number)
    said = f"{len(number) - len(first)} of {len(number)} samples are copies of others, and left out"
    return [taken(side, first) for side in given], said


def _numbered(sides: list[Any]) -> Int[Tensor, "n"] | None:
    """`copies_of` all sides; None without copies, and where the sides are not of the same samples."""
    if len({side.n for side in sides}) > 1:
        return None
    number = copies_of(*map(_rows, sides))
    return number if int(number.max()) + 1 < len(number) else None


def _rows(side: Kernel | Representation) -> Representation:
    """Points that are the same where the samples are: of a kernel its rows."""
    if isinstance(side, Representation):
        return side
    return Representation(side.gram, meta={"precision": str(side.precision).removeprefix("torch.")})
