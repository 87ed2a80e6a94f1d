"""The judgement of all trainings that are judged by outcomes, as tables."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.validation.outcomes.families import halves
from geomfeat.comparison.validation.outcomes.foretelling import (
    COORDINATES,
    Rows,
    column,
    correlation,
    foretold,
    judged_rows,
    plane_thresholds,
    thresholds,
    words,
)
from geomfeat.comparison.validation.outcomes.soundness import FLAT, coverage, invariances, stability
from geomfeat.comparison.validation.slopes import slope_and_scatter

PLANES = (("M", "kappa"), ("M", "kappa_a"), ("R", "kappa"), ("R", "kappa_a"))
DERIVED = ("outcome_families", "foretold", "thresholds", "invariances", "stability")


@dataclass(frozen=True, eq=False)
class OutcomeJudgement:
    """What the trainings say.

    Attributes:
        outcome_families: one row per family: kind, half ("set" or "judged"), trainings, located, the rank correlations
            with the gap inside of it, coverage of its intervals, and how many of its regimes must not be.
        foretold, thresholds, stability, invariances: see `foretelling` and `soundness`; thresholds are also of planes
            ("M, kappa"), where `features` is that of the first.
        words: see `foretelling.words`, over all trainings. words_judged: of the half on which no threshold was set.
    """

    outcome_families: pd.DataFrame
    foretold: pd.DataFrame
    thresholds: pd.DataFrame
    invariances: pd.DataFrame
    stability: pd.DataFrame
    words: dict[str, float]
    words_judged: dict[str, float]

    def summary(self) -> dict[str, float]:
        """The numbers that the goals are about."""
        coordinates, deviations = self.foretold.to_dict("records"), self.invariances.to_dict("records")
        exact = [d["largest"] for d in deviations if d["what"] != FLAT]
        flat = {d["coordinate"]: d["largest"] for d in deviations if d["what"] == FLAT}
        return {
            "invariances, largest deviation": max(exact, default=math.nan),
            **{f"muP by Adam, {name} over a decade of width": flat.get(name, math.nan) for name in ("R", "kappa")},
            **{f"AUC of a gap above .3: {row['coordinate']}": row["auc"] for row in coordinates},
            **{f"rank correlation with the gap: {row['coordinate']}": row["spearman_gap"] for row in coordinates},
            "balanced accuracy of regimes, three levels of gap": self.words["balanced_accuracy"],
            "balanced accuracy of regimes, clear outcomes": self.words["balanced_accuracy_clear"],
            "the same, half of the families that is judged": self.words_judged["balanced_accuracy_clear"],
            "'lazy' at a gap above .3": self.words["lazy_but_nonlinear"],
            "'rich' at a gap and kernel change below .1": self.words["rich_but_linear"],
        }  # fmt: skip


def judge_outcomes(rows: Rows) -> OutcomeJudgement | None:
    """The judgement of the rows of `outcome_rows`; None where none of them was located."""
    fine, (first, _) = judged_rows(rows), halves()
    if not fine:
        return None
    cuts = thresholds(fine, first).to_dict("records")
    cuts += [{"coordinate": f"{a}, {b}", **plane_thresholds(fine, first, a, b)} for a, b in PLANES]
    judged = [row for row in fine if row["family"] not in first]
    return OutcomeJudgement(
        _by_family(rows, first), foretold(fine), pd.DataFrame(cuts), invariances(fine), stability(fine), words(fine),
        words(judged or fine),
    )  # fmt: skip


def _by_family(rows: Rows, first: frozenset[str]) -> pd.DataFrame:
    covered = {row["family"]: row["coverage"] for row in coverage(judged_rows(rows)).to_dict("records")}
    found = []
    for name in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == name]
        fine = judged_rows(own)
        row: dict[str, Any] = {
            "family": name, "kind": own[0]["kind"], "half": "set" if name in first else "judged",
            "trainings": len(own), "located": len(fine), "coverage": covered.get(name, math.nan),
        }  # fmt: skip
        row |= {f"spearman_{c}": correlation(column(fine, c), column(fine, "gap")) for c in COORDINATES}
        said = words(fine) if fine else {}
        row |= {key: said.get(key, math.nan) for key in ("lazy_but_nonlinear", "rich_but_linear")}
        found.append({**row, **_slopes(fine)})
    return pd.DataFrame(found)


def _slopes(rows: Rows) -> dict[str, float]:
    """slope_<coordinate> on log10 gamma, and scatter_ about slope 1, of a ladder of output scales; else NaN."""
    conditions = [json.loads(row["conditions"]) for row in rows]
    ladder = all(set(own) == {"gamma"} for own in conditions)
    seeds, found = column(rows, "seed"), {}
    for name in COORDINATES:
        y = column(rows, name)
        fine = np.isfinite(y)
        slope = scatter = math.nan
        if ladder and fine.sum() > len(np.unique(seeds[fine])) + 1:
            x = np.log10([own["gamma"] for own in conditions])
            slope, _, scatter = slope_and_scatter(x[fine], y[fine], seeds[fine])
        found |= {f"slope_{name}": slope, f"scatter_{name}": scatter}
    return found
