"""Calls whose options vary one by one: keywords sorted into the option objects of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from geomfeat.activations import ExtractOptions, extract


def grouped(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a call of `function`: those that are fields of its options are gathered in them.

    >>> from geomfeat.location import locate
    >>> grouped(locate, {"seed": 1, "n_probes": 8})["options"].n_probes
    8
    """
    own = inspect.signature(function).parameters
    kinds = {name: type(p.default) for name, p in own.items() if is_dataclass(p.default)}
    if function is extract:
        kinds["options"] = ExtractOptions
    found, left = {name: value for name, value in given.items() if name in own}, dict(given)
    for name, kind in kinds.items():
        mine = {f.name: given[f.name] for f in fields(kind) if f.name in given and f.name not in own}
        if mine:
            found[name] = kind(**mine)
    for name in [*found, *(f.name for kind in kinds.values() for f in fields(kind))]:
        left.pop(name, None)
    assert not left, f"{function.__name__} takes no {sorted(left)}"
    return found
