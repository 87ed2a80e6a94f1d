"""Coverage, stability and invariances: what was planted is found."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from geomfeat.comparison.validation.outcomes.foretelling import COORDINATES
from geomfeat.comparison.validation.outcomes.soundness import FLAT, MIRRORED, SAME, coverage, invariances, stability


def row(family: str, r: float, seed: int = 0, **conditions: float | str) -> dict[str, Any]:
    """A training with all coordinates at r."""
    return {"family": family, "seed": seed, "conditions": json.dumps(conditions), **dict.fromkeys(COORDINATES, r)}


def test_intervals_are_counted_by_family() -> None:
    rows = [{**row("a", r), "low": -0.5, "high": 0.5} for r in (-1.0, -0.5, 0.0, 0.5)]
    rows += [{**row("b", -math.inf), "low": -math.inf, "high": -math.inf}]
    found = coverage(rows).set_index("family")
    assert found.loc["a"].tolist() == [0.75, 4]
    assert found.loc["b", "intervals"] == 0


def test_differences_of_shares_and_probes_are_found() -> None:
    rows = [
        {"R": r, "half_R": r - 0.1, "kappa": r, "half_kappa": -math.inf, "R_0.05": r - 0.3, "R_0.01": r, "R_0.002": r,
         "R_max": r + 0.2 * n, "R_min": r}
        for n, r in enumerate((0.0, 1.0, 2.0))
    ]  # fmt: skip
    found = stability(rows).set_index("what")
    assert found.loc["R, half of the probes", "mean"] == pytest.approx(-0.1)
    assert found.loc["R, share .05 for .01", "median"] == pytest.approx(0.3)
    assert found.loc["R, share .002 for .01", "nine_tenths"] == 0
    assert found.loc["R, largest and smallest layer", "median"] == pytest.approx(0.2)
    assert found.loc["kappa, half of the probes", "trainings"] == 0


def test_a_broken_invariance_is_found() -> None:
    rows = [
        row("equal trajectories", r, seed, width=w, form=form)
        for w, seed, form, r in (
            (32, 0, "multipliers", 0.5), (32, 0, "rates", 0.5), (32, 1, "multipliers", 0.7), (32, 1, "rates", 0.4),
            (64, 1, "rates", 9.0),
        )
    ]  # fmt: skip
    rows += [row("lambda-balanced", r, balance=b) for b, r in ((-5.0, 1.0), (5.0, 1.01), (20.0, 7.0), (0.0, 3.0))]
    rows += [row("mup by adam", 0.2 * n, width=10**n) for n in (1, 2, 3)]
    found = {(r["what"], r["coordinate"]): r["largest"] for r in invariances(rows).to_dict("records")}
    assert all(found[SAME, name] == pytest.approx(0.3) for name in COORDINATES)
    assert found[MIRRORED, "kappa"] == pytest.approx(0.01)
    assert (MIRRORED, "R") not in found
    assert all(found[FLAT, name] == pytest.approx(0.2) for name in COORDINATES)


def test_without_these_families_there_is_no_invariance() -> None:
    assert invariances([row("a", 0.0)]).empty
