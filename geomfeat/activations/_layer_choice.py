"""Which layers `extract` records: those named one by one, and those among a pattern's matches that are called."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from geomfeat.activations.hidden_layers import fired_on, hidden_on
from geomfeat.activations.layer_selection import Pattern, Patterns, as_list, is_exact, modules_by_name, select_layers
from geomfeat.errors import BadInput, LayerDidNotFire, LayerNotFound
from geomfeat.models.functional import Readout

_log = logging.getLogger(__name__)


def choose_layers(
    model: nn.Module, probe: Any, layers: Patterns, readout: Readout | None
) -> tuple[list[str], set[str]]:
    """Names of the layers to record, and those among them that were given one by one.

    `probe`: two samples, ready for the model. A name stays in any case; a glob, regular expression, type, predicate or
    kind gives those of its matches that a forward pass calls, and a log message for each other one.

    Raises LayerNotFound, or LayerDidNotFire for a pattern whose matches are all silent.
    """
    patterns = as_list(layers)
    if not patterns:
        raise BadInput("layers is empty: name some, or '*' for all")
    modules = modules_by_name(model)
    exact = [p for p in patterns if isinstance(p, str) and is_exact(p, modules)]
    found = [*exact]
    others = [p for p in patterns if p not in exact]
    fired = set(fired_on(model, probe)) if others else set()
    for pattern in others:
        found += hidden_on(model, probe, readout) if pattern == "weights" else _called(model, pattern, fired)
    return (select_layers(model, found) if found else []), set(exact)


def _called(model: nn.Module, pattern: Pattern, fired: set[str]) -> list[str]:
    matching = select_layers(model, pattern)
    for name in matching:
        if name not in fired:
            _log.info("layer %r is not called in a forward pass: left out", name)
    called = [name for name in matching if name in fired]
    if not called:
        raise LayerDidNotFire(
            f"{pattern!r} matches {len(matching)} layers ({', '.join(matching[:3])}), but a forward pass calls none of "
            "them. All layers that are called: geomfeat extract --list"
        )
    return called


def labels_or_layers(model: nn.Module, third: Any, layers: Any, n: int | None) -> tuple[Any, Any]:
    """(labels, layers) from the third argument of `extract`: labels, or patterns where it can be nothing else.

    Raises BadInput for a list of names that could be both, LayerNotFound for names that are neither.
    """
    if third is None or layers != "*":
        return third, layers
    if isinstance(third, str) or callable(third):
        return None, third
    names: Any = third if isinstance(third, list | tuple) else ()
    if not names or not all(isinstance(name, str) or callable(name) for name in names):
        return third, layers
    known = _all_match(model, names)
    if known and len(names) == n:
        raise BadInput(
            f"the third argument holds {n} names, as many as there are samples, that are also layers: say labels= or "
            "layers="
        )
    if not known and n in (None, len(names)):
        return third, layers
    try:
        select_layers(model, names)
    except LayerNotFound as cause:
        raise LayerNotFound(f"{cause}. Names of classes are given as labels=, one for each sample") from cause
    return None, names


def _all_match(model: nn.Module, patterns: Sequence[Pattern]) -> bool:
    try:
        return bool(select_layers(model, patterns))
    except LayerNotFound:
        return False
