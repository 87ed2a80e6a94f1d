"""Pairs of an area and another area, or a layer of a model, in one time bin: trial by trial, or by condition means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING
from geomfeat.recordings import Recording
from geomfeat.registry import Measure
from geomfeat.statistics.group_errors import values_alone
from geomfeat.types import Representation, as_layer

SAME, MEANS = "same", "means"


@dataclass(frozen=True, eq=False)
class ByCondition:
    """Features of a layer for each condition, in the recording's order: no trial left out changes them."""

    rep: Representation

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.rep.layer


def partners(layers: Mapping[str, Any] | None, recording: Recording) -> dict[str, Representation | ByCondition]:
    """Layers whose rows are those of the recording's trials, or its conditions.

    Of as many rows as there are trials, with the same conditions if labels say which: trials, one by one. With labels:
    the mean of the rows of each condition, by name. Else a row for each condition, in the order of
    `recording.conditions`. Raises BadInput for anything else.
    """
    names = tuple(map(str, recording.conditions))
    of_trials = list(map(str, recording.condition.tolist()))
    found: dict[str, Representation | ByCondition] = {}
    for name, given in (layers or {}).items():
        rep = as_layer(given).with_(layer=str(name))
        own = None
        if rep.labels is not None:
            codes = rep.labels.tolist()
            own = [str(rep.classes[code]) if rep.classes else str(code) for code in codes]
        if rep.n == recording.n_trials and own in (None, of_trials):
            found[str(name)] = Representation(rep.x.cpu(), None, str(name), rep.meta)
        elif own is None and rep.n == len(names):
            found[str(name)] = ByCondition(Representation(rep.x.cpu(), None, str(name), rep.meta))
        elif own is not None and set(names) <= set(own):
            rows = [torch.tensor([i for i, one in enumerate(own) if one == condition]) for condition in names]
            x = torch.stack([rep.x.cpu()[at].to(WORKING).mean(0) for at in rows])
            found[str(name)] = ByCondition(Representation(x, None, str(name), rep.meta))
        else:
            lacking = "" if own is None else f", whose labels lack {sorted(set(names) - set(own))[:3]}"
            raise BadInput(
                f"layers: {name!r} has {rep.n} rows{lacking}; give a row for each of {recording.n_trials} trials, "
                f"labels that name the conditions, or a row for each of {len(names)} conditions in their order"
            )
    return found


def pairs_of(
    areas: Mapping[str, Representation], layers: Mapping[str, Representation | ByCondition], trials: str
) -> Iterator[tuple[Representation, Any, bool]]:
    """(area, other area or layer, whether by condition means): areas among themselves, and each with each layer."""
    for a, b in combinations(areas.values(), 2):
        yield a, b, trials == MEANS
    for area in areas.values():
        for layer in layers.values():
            if isinstance(layer, ByCondition):
                yield area, layer, True
            else:
                labelled = replace(layer, labels=area.labels, groups=area.groups, classes=area.classes)
                yield area, labelled, trials == MEANS


def of_means(m: Measure) -> Measure:
    """The same measure of condition means: a group left out is left out of every mean."""

    def function(a: Representation, b: Any) -> Any:
        one = _means(a)
        other = b.rep if isinstance(b, ByCondition) else _means(b)
        if a.groups is None:
            return m.run(one, other)
        with values_alone():
            found = m.run(one, other)
        # Few conditions give no error over them; 0 asks for the one over groups, which takes its place.
        return {name: replace(e, stderr=0.0) if e.ok else e for name, e in found.items()}

    return replace(m, function=function, min_samples=2)


def _means(rep: Representation) -> Representation:
    """The mean of each condition, in order; BadInput where one has no trial."""
    assert rep.labels is not None
    classes = len(rep.classes or ())
    counts = torch.bincount(rep.labels, minlength=classes)
    if int(counts.min()) == 0:
        raise BadInput(f"condition {rep.classes[int(counts.argmin())]!r} has trials in one of the groups only")
    sums = torch.zeros(classes, rep.d, dtype=WORKING).index_add_(0, rep.labels, rep.x.to(WORKING))
    return Representation(sums / counts[:, None], None, rep.layer, rep.meta)
