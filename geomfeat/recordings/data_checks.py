"""What limits a recording, counted: copies of trials, conditions in one run only, counts at the end of their range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.statistics.distinct_points import equal_rows

MOST_NAMED = 4
# Whole numbers of at most so many bits are taken for counts that may have left their range.
NARROW = 16


def overflow_note(x: Any) -> str:
    """A sentence where narrow whole numbers are at the end of their range, or below zero as counts never are; or "".

    >>> overflow_note(np.array([[0, 255, 3]], dtype=np.uint8))
    '1 value of uint8 is 255, the largest it holds: counts above it were cut or wrapped around before they were saved'
    """
    kind = str(x.dtype).removeprefix("torch.") if hasattr(x, "dtype") else ""
    if kind not in ("int8", "uint8", "int16", "uint16"):
        return ""
    values = torch.as_tensor(np.asarray(x).astype(np.int64))
    most = int(np.iinfo(kind).max)
    full, below = int((values == most).sum()), int((values < 0).sum())
    if full:
        one = "1 value" if full == 1 else f"{full} values"
        return (
            f"{one} of {kind} {'is' if full == 1 else 'are'} {most}, the largest it holds: counts above it were cut or "
            "wrapped around before they were saved"
        )
    if below and kind == "int8":
        return f"{below} values of int8 are below zero: if these are counts, they wrapped around above 127"
    return ""


def caveats(x: Tensor, condition: np.ndarray, groups: Tensor | None, group_word: str) -> tuple[str, ...]:
    """Sentences on what limits the data as they are."""
    found = [_one_condition(condition), _in_one_group(condition, groups, group_word), _copies(x), _constant(x)]
    return tuple(filter(None, found))


def _one_condition(condition: np.ndarray) -> str:
    names = np.unique(condition)
    if len(names) > 1:
        return ""
    return f"there is one condition only ({names[0]}): what compares conditions cannot be measured"


def _in_one_group(condition: np.ndarray, groups: Tensor | None, word: str) -> str:
    """Conditions that occur in one run: nothing is left of them when that run is held out."""
    if groups is None or len(groups.unique()) < 2:
        return ""
    codes = groups.numpy()
    names = np.unique(condition)
    alone = [str(name) for name in names if len(np.unique(codes[condition == name])) == 1]
    if not alone:
        return ""
    return (
        f"{len(alone)} of {len(names)} conditions ({_listed(alone)}) are in one {word} only: when it is left out, they "
        f"are gone, so there are no errors over {word}s for what needs them"
    )


def _copies(x: Tensor) -> str:
    first = equal_rows(x.reshape(len(x), -1))
    place = torch.arange(len(first), device=first.device)
    later = (first != place).nonzero()[:, 0]
    if not len(later):
        return ""
    pair = int(first[later[0]]), int(later[0])
    return (
        f"{len(later)} of {len(x)} trials equal an earlier one in every value (the first: trial {pair[1]} equals trial "
        f"{pair[0]}): if they were recorded once, drop them"
    )


def _constant(x: Tensor) -> str:
    across = x.transpose(0, 1).reshape(x.shape[1], -1)
    still = int((across == across[:, :1]).all(1).sum())
    return f"{still} of {x.shape[1]} units never change" if still else ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
