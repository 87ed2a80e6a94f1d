"""The first plots of a validation's page: slopes and coverage of every family, a row each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geomfeat.charts import Curve, Plot
from geomfeat.comparison.validation.campaign import Validation

LEVEL = 0.9  # of the intervals
# Families with fewer trainings than this have no slope worth drawing.
FEWEST = 3


def forest_plots(found: Validation) -> list[Plot]:
    """Slope of R on the output scale of every ladder, and how often intervals hold the true value."""
    ladders = [row for row in found.families.to_dict("records") if row["located"] >= FEWEST]
    others = [] if found.by_outcome is None else found.by_outcome.outcome_families.to_dict("records")
    plots = [_slopes(ladders)] if ladders else []
    covered = [row for row in (*ladders, *others) if math.isfinite(row.get("coverage", math.nan))]
    return [*plots, _coverage(covered)] if any(row["coverage"] < 1.0 for row in covered) else plots


def _slopes(rows: Sequence[Mapping[str, Any]]) -> Plot:
    # Families in which theory expects another slope come last, in the order of their distance.
    rows = sorted(rows, key=lambda row: (bool(row["breaks"]), abs(row["slope"] - 1.0)))
    curves = [
        Curve(label, [row["slope"] for _, row in own], [float(i) for i, _ in own],
              [row["slope_stderr"] for _, row in own], kind="scatter")
        for label, broken in (("a slope of 1 is expected", False), ("where the rule is broken on purpose", True))
        if (own := [(i, row) for i, row in enumerate(rows) if bool(row["breaks"]) is broken])
    ]  # fmt: skip
    curves.append(_upright("1", 1.0, len(rows)))
    return Plot(
        "Slope of R over the output scale, family by family", "slope of R", "", curves,
        caption="Each row is a family: the same network and task trained at many output scales. Bars are ± one "
        "standard error. On the dashed line R rises by one decade for each decade of γ, as it should.",
        y_ticks=[str(row["family"]) for row in rows],
    )  # fmt: skip


def _coverage(rows: Sequence[Mapping[str, Any]]) -> Plot:
    whole = sum(row["coverage"] == 1.0 for row in rows)
    rows = sorted((row for row in rows if row["coverage"] < 1.0), key=lambda row: row["coverage"])
    curves = [
        Curve("families", [row["coverage"] for row in rows], [float(i) for i in range(len(rows))], kind="scatter"),
        _upright(f"{LEVEL:g}", LEVEL, len(rows)),
    ]
    return Plot(
        "How often a 90 % interval of R holds the true value", "share of the trainings", "", curves,
        caption=f"Each row is a family, the worst first; in {whole} further ones every interval holds it. The true "
        "value is R from all training inputs.",
        y_ticks=[str(row["family"]) for row in rows],
    )  # fmt: skip


def _upright(label: str, x: float, rows: int) -> Curve:
    return Curve(label, [x, x], [-0.5, rows - 0.5], kind="theory")
