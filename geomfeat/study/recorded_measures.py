"""Which measures a recording allows, and their notes in its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from geomfeat.errors import BadInput
from geomfeat.registry import Measure, get
from geomfeat.study.measure_selection import WAITS, MeasurePlan, make_plan

RECORDED = "recorded"
OF_NETWORKS = "it is a measure of networks: a recording has no weights, outputs or initial state"
# Beside the capacity: what shuffled conditions, and the noise of trials alone, would give.
CONTROLS = ("capacity_shuffled", "capacity_noise")
ONE_CONDITION = "it compares conditions, and the recording has one"


def in_words(note: str, word: str | None) -> str:
    """A note of a measure with the word for what its groups are.

    >>> in_words("error over draws, not over the 12 groups of samples", "run")
    'error over draws, not over the 12 runs'
    """
    return re.sub(r"(\d+) groups( of samples)?\b", rf"\1 {word}s", note) if word else note


def plan_of(measures: Sequence[str] | str | None, several_conditions: bool) -> MeasurePlan:
    """Measures of layers and pairs that a recording allows; BadInput for one that was asked for and cannot be taken."""
    plan = make_plan(measures, {"labels"} if several_conditions else set())
    if measures is None and several_conditions:
        waiting = [m for m in map(get, CONTROLS) if plan.left_out.get(m.name) == WAITS]
        left_out = {name: why for name, why in plan.left_out.items() if name not in CONTROLS}
        plan = replace(plan, layer=(*plan.layer, *waiting), left_out=left_out)
    reasons = {m.name: _reason(m, why) for m, why in plan.refused}
    reasons |= {m.name: OF_NETWORKS for m in (*plan.changes, *plan.network, *plan.series)}
    if measures is not None and reasons:
        first = next(iter(reasons))
        raise BadInput(f"measure {first!r} cannot be taken: {reasons[first]}")
    left_out = {name: why if why == WAITS else _reason(get(name), why) for name, why in plan.left_out.items()} | reasons
    return MeasurePlan(plan.layer, plan.pairs, (), (), (), (), left_out)


def _reason(m: Measure, why: str) -> str:
    if m.scope not in ("layer", "pair"):
        return OF_NETWORKS
    return ONE_CONDITION if m.needs == {"labels"} else OF_NETWORKS if m.needs else why
