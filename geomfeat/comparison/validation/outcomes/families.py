"""All families whose trainings are judged by their outcomes, and the two halves that they are split in."""

from __future__ import annotations

from collections.abc import Sequence

from geomfeat.comparison.validation.outcomes import (
    architecture_families,
    partial_families,
    rate_families,
    scale_families,
)
from geomfeat.comparison.validation.outcomes.training import OutcomeFamily

OUTCOME_FAMILIES: tuple[OutcomeFamily, ...] = (
    *rate_families.FAMILIES, *scale_families.FAMILIES, *architecture_families.FAMILIES, *partial_families.FAMILIES,
)  # fmt: skip


def halves(families: Sequence[OutcomeFamily] = OUTCOME_FAMILIES) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the families on which thresholds may be set, and of those on which they are judged.

    Every other family of each kind, in the order in which they are written down, the first of a kind in the first half.

    >>> first, second = halves()
    >>> "adam, state given" in second, len(first | second) == len(OUTCOME_FAMILIES)
    (True, True)
    """
    sides: tuple[set[str], set[str]] = (set(), set())
    for kind in dict.fromkeys(family.kind for family in families):
        for number, family in enumerate(f for f in families if f.kind == kind):
            sides[number % 2].add(family.name)
    return frozenset(sides[0]), frozenset(sides[1])
