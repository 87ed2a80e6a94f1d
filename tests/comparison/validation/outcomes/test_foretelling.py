"""Rank correlations, words and thresholds: planted relations are found, and thresholds are judged on other families."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from geomfeat.comparison.validation.outcomes.foretelling import (
    COORDINATES,
    DYNAMICS,
    OUTCOMES,
    RIVALS,
    auc,
    balanced_accuracy,
    correlation,
    foretold,
    judged_rows,
    levels_of,
    plane_thresholds,
    said_by,
    thresholds,
    words,
)
from geomfeat.location.regimes import BY_OPTIMIZER

FIRST = frozenset({"a", "b"})


def planted(shift: float = 0.0, families: str = "abcd", regime: str = "lazy") -> list[dict[str, Any]]:
    """Rows whose gap is .1 at kappa = -1 and .3 at kappa = 1, and other outcomes that grow with it."""
    rows = []
    for family in families:
        for kappa in np.linspace(-3, 3, 13) + 0.01 * ord(family):
            gap = 0.1 * 3 ** ((kappa + 1) / 2)
            own = kappa + (shift if family not in FIRST else 0.0)
            rows.append({
                "family": family, "kind": "k", "gap": gap, "kernel_change": gap**2, "regime": regime,
                "test_disagreement": gap / (1 + gap),
                **dict.fromkeys(COORDINATES, own), **dict.fromkeys(RIVALS, -own),
            })  # fmt: skip
    return rows


def test_what_was_planted_is_foretold() -> None:
    table = foretold(planted())
    assert list(table["coordinate"]) == [*COORDINATES, *RIVALS]
    for row in table.to_dict("records"):
        sign = 1.0 if row["coordinate"] in COORDINATES else -1.0
        assert all(row[f"spearman_{o}"] == pytest.approx(sign) for o in OUTCOMES)
        assert all(row[f"within_{o}"] == pytest.approx(sign) for o in OUTCOMES)
        assert row["auc"] == (sign > 0)
        assert row["trainings"] == 52


def test_a_shift_between_families_is_seen_over_all_and_not_within() -> None:
    row = foretold(planted(shift=5.0)).iloc[0]
    assert row["spearman_gap"] < 0.9
    assert row["within_gap"] == pytest.approx(1.0)
    assert row["auc"] < 0.9


def test_what_steps_and_decay_move_is_left_out_of_learning() -> None:
    rows = [{**row, "kind": DYNAMICS if row["family"] == "c" else "k"} for row in planted()]
    moved = [{**row, "gap": 1 - row["gap"]} if row["kind"] == DYNAMICS else row for row in rows]
    row = foretold(moved).iloc[0]
    assert row["spearman_learning"] == pytest.approx(1.0)
    assert row["spearman_gap"] < 0.9
    assert row["auc_learning"] == 1.0 > row["auc"]


def test_infinite_coordinates_count_and_missing_ones_do_not() -> None:
    x, y = np.array([-np.inf, -1.0, 2.0, np.inf, np.nan]), np.array([0.0, 0.1, 0.5, 0.6, 0.05])
    assert correlation(x, y) == pytest.approx(1.0)
    assert auc(x, y > 0.3) == 1.0
    assert math.isnan(correlation(x[:3], y[:3]))
    assert math.isnan(correlation(np.ones(9), np.arange(9.0)))
    assert math.isnan(auc(x, y > 1))


def test_chance_foretells_nothing() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=4000), draw.random(4000)
    assert abs(correlation(x, y)) < 0.05
    assert auc(x, y > 0.3) == pytest.approx(0.5, abs=0.03)


def test_words_are_held_against_the_outcome() -> None:
    rows = planted()
    levels = levels_of(np.array([row["gap"] for row in rows]))
    right = [{**row, "regime": str(level)} for row, level in zip(rows, levels, strict=True)]
    assert words(right) == {
        "balanced_accuracy": 1.0, "balanced_accuracy_clear": 1.0, "left_open": 0.0, "lazy_but_nonlinear": 0.0,
        "rich_but_linear": 0.0,
    }  # fmt: skip
    assert words(rows)["lazy_but_nonlinear"] == (levels == "rich").sum() > 0
    rich = words([{**row, "regime": "rich"} for row in rows])
    assert rich["rich_but_linear"] == (levels == "lazy").sum()
    assert words(rows)["balanced_accuracy"] == rich["balanced_accuracy"] == pytest.approx(1 / 3)
    silent = words([*right, *({**row, "regime": BY_OPTIMIZER} for row in right)])
    assert (silent["balanced_accuracy"], silent["left_open"]) == (1.0, 0.5)
    between = words([{**row, "regime": "transition"} for row in rows])
    assert between["balanced_accuracy_clear"] == 0.0
    moved = words([{**row, "regime": "rich", "kernel_change": 0.5} for row in rows])
    assert moved["rich_but_linear"] == 0


def test_thresholds_lie_where_they_were_planted() -> None:
    row = thresholds(planted(), FIRST, ["kappa"]).iloc[0]
    assert row["lower"] == pytest.approx(-1.0, abs=0.3)
    assert row["upper"] == pytest.approx(1.0, abs=0.3)
    assert (row["set"], row["judged"]) == (1.0, pytest.approx(1.0, abs=0.1))


def test_thresholds_are_judged_on_families_that_did_not_set_them() -> None:
    row = thresholds(planted(shift=2.0), FIRST, ["kappa"]).iloc[0]
    assert row["set"] == 1.0
    assert row["judged"] < 0.7


def test_the_best_two_thresholds_are_those_of_a_search_over_all() -> None:
    draw = np.random.default_rng(1)
    gap = 10 ** draw.uniform(-2, 0, 40)
    x = np.log10(gap) + 0.4 * draw.normal(size=40)
    rows = [{"family": "a", "gap": g, "kappa": k} for g, k in zip(gap, x, strict=True)]
    row = thresholds(rows, FIRST, ["kappa"]).iloc[0]
    cuts = np.sort(x)[:-1] + np.diff(np.sort(x)) / 2
    truth = levels_of(gap)
    best = max(balanced_accuracy(truth, said_by(x, low, high)) for low in cuts for high in cuts if low <= high)
    assert row["set"] == pytest.approx(best)
    assert balanced_accuracy(truth, said_by(x, row["lower"], row["upper"])) == pytest.approx(best)


def test_a_plane_needs_both() -> None:
    rows = planted()
    still = [{**row, "M": -2.0, "gap": 0.2} for row in rows if row["kappa"] > 1]
    both = [*rows, *still]
    plane = plane_thresholds(both, FIRST)
    alone = thresholds(both, FIRST, ["kappa"]).iloc[0]
    assert plane["set"] > alone["set"]
    assert plane["judged"] > alone["judged"]
    assert plane["features"] >= -2.0


def test_trainings_without_outcomes_are_left_out() -> None:
    rows = [*planted(), {"family": "a", "failed": "it diverged", "gap": math.nan}, {"family": "a", "gap": None}]
    assert judged_rows(rows) == planted()
