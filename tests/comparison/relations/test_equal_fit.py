"""Comparisons at equal fit on planted confounds; the rule of confounding, both ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geomfeat.comparison.relations.equal_fit import Matched, match
from geomfeat.errors import BadInput
from geomfeat.statistics.cluster_bootstrap import Intervals
from geomfeat.statistics.covariate_balance import balance, caliper, nearest_pairs
from geomfeat.statistics.group_difference import adjusted_difference, paired_difference, plain_difference, reading_of
from geomfeat.types import Estimate
from tests.comparison.swept import Numbers, log, noise, sweep
from tests.reference.relate import bootstrap_by_rows, match_by_trying, slopes_by_pinv

ETA = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]


def confounded_sweep(shift: float, *, effect: float = 0.0, n_seeds: int = 6, spread: float = 0.5) -> pd.DataFrame:
    """log loss rises by `shift` with sigma 1 -> 4; `of_fit` follows the loss alone, `of_both` sigma (effect) too."""

    def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
        drift = noise(s, c["eta"]) + 0.1 * noise(s, c["eta"], c["sigma"])
        loss = -1 + shift * (c["sigma"] > 1) + spread * drift
        jitter = 0.02 * noise(s, c["eta"], c["sigma"], 1)
        values = {("of_fit", "v", ""): 2 * loss + jitter, ("of_both", "v", ""): 2 * loss + effect * (c["sigma"] > 1)}
        return values, {"status": {"train_loss": 10**loss, "train_accuracy": 0.9}}

    return sweep({"sigma": [1.0, 4.0], "eta": ETA}, n_seeds, numbers)


def reading(found: Matched) -> dict[str, str]:
    return found.table.set_index("measure")["reading"].to_dict()


def test_a_difference_of_fit_alone_is_explained_and_one_beside_it_is_kept() -> None:
    found = match(confounded_sweep(0.4, effect=1.0), "sigma")
    rows = found.table.set_index("measure")
    assert rows.loc["of_fit", "plain"] > 0.5
    assert abs(rows.loc["of_fit", "adjusted"]) < 0.05
    assert abs(rows.loc["of_fit", "paired"]) < 0.25
    assert reading(found)["of_both"] == "at equal fit too"
    assert rows.loc["of_both", "adjusted"] == pytest.approx(1.0, abs=1e-6)
    assert rows.loc["of_both", "paired"] == pytest.approx(1.0, abs=0.25)
    assert found.statement.startswith("Unequal fit: train_loss differs by +0.")
    assert "train_loss" not in found.confounded_by


def test_equal_fit_is_said_to_be_equal() -> None:
    found = match(confounded_sweep(0.0, effect=1.0), "sigma")
    assert found.statement.startswith("Equal fit")
    assert found.confounded_by == ()
    # Unequal by more than .25 standard deviations, but by a hundredth of a decade: it does not matter.
    exact = match(confounded_sweep(0.02, spread=0.003), "sigma")
    assert abs(exact.balance.iloc[0]["standardized"]) > 1
    assert exact.statement.startswith("Equal fit")


def test_groups_that_do_not_overlap_are_confounded() -> None:
    found = match(confounded_sweep(4.0, effect=1.0), "sigma")
    assert found.confounded_by == ("train_loss",)
    assert found.statement.startswith("Confounded by fit")
    assert "0% of the trainings overlap" in found.statement
    assert set(found.table["reading"]) == {"confounded"}
    assert found.pairs.empty


def test_too_few_pairs_are_no_cure() -> None:
    """The rule at its edge: 2 of 8 trainings can be paired, then 6 of 8."""
    for shared, fair in ((2, False), (6, True)):

        def numbers(c: dict, s: int, shared: int = shared) -> tuple[Numbers, dict]:
            loss = -2 - 0.2 * s if c["sigma"] == 1.0 or s < shared else 1 + 0.2 * s
            return {("m", "v", ""): loss}, {"status": {"train_loss": 10**loss}}

        found = match(sweep({"sigma": [1.0, 4.0]}, 8, numbers), "sigma")
        assert len(found.pairs) == shared
        assert ("train_loss" not in found.confounded_by) == fair
        assert found.statement.startswith("Unequal fit" if fair else "Confounded")


def test_pairs_take_the_same_seed_and_the_same_other_conditions() -> None:
    found = match(confounded_sweep(0.0, spread=0.001), "sigma")
    assert len(found.pairs) == 36
    pairs = found.pairs
    assert (pairs["training_a"].str.replace("sigma=1.0", "sigma=4.0") == pairs["training_b"]).all()


def test_pairs_that_differ_in_something_else_say_so() -> None:
    def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
        loss = log(c["eta"]) + 1.5 * (c["sigma"] > 1) + 0.01 * noise(s, c["eta"], c["sigma"])
        return {("m", "v", ""): log(c["eta"])}, {"status": {"train_loss": 10**loss}}

    found = match(sweep({"sigma": [1.0, 4.0], "eta": [10**x for x in np.arange(-3, 0.1, 0.5)]}, 3, numbers), "sigma")
    assert found.confounded_by == ("eta",)
    assert "also differs in eta" in found.statement
    assert found.balance.set_index("name").loc["eta", "differs_paired"] == pytest.approx(-1.5, abs=0.05)


def test_groups_of_text_are_compared_within_depth() -> None:
    table = sweep(
        {"optimizer": ["sgd", "adam"], "depth": [1, 3]}, 4,
        lambda c, s: {("m", "v", ""): 10 * c["depth"] + (c["optimizer"] == "adam") + 0.01 * noise(s)},
    )  # fmt: skip
    found = match(table, "optimizer", ("sgd", "adam"))
    assert found.table.iloc[0]["paired"] == pytest.approx(1.0)
    assert (
        found.pairs["training_a"]
        .str.extract(r"depth=(\d)")
        .equals(found.pairs["training_b"].str.extract(r"depth=(\d)"))
    )


def test_failures_are_counted_and_unmatched_trainings_are_in() -> None:
    def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
        if s == 0:
            return {("m", "v", ""): Estimate.failed("no")}, {
                "outcome": "diverged", "note": "diverged", "status": {"train_loss": np.inf},
            }  # fmt: skip
        return {("m", "v", ""): float(s)}, {"outcome": "unmatched" if s == 1 else "matched", "note": "steps"}

    found = match(sweep({"sigma": [1.0, 4.0]}, 5, numbers), "sigma")
    assert found.notes == ("2 of 10 trainings diverged, failed or have no train_loss: left out, not at random.",)
    assert found.table.iloc[0]["n_a"] == 4


def test_one_seed_and_few_numbers_are_said() -> None:
    found = match(confounded_sweep(0.0, effect=1.0, n_seeds=1), "sigma")
    assert found.table["note"].str.contains("one seed").all()
    few = match(
        sweep({"sigma": [1.0, 4.0]}, 3, lambda c, s: {("m", "v", ""): 1.0 if s == 0 else Estimate.failed("no")}),
        "sigma",
    )
    assert few.table.iloc[0]["reading"] == "cannot tell"


def test_bad_input_says_what_to_do() -> None:
    table = confounded_sweep(0.0, n_seeds=2)
    with pytest.raises(BadInput, match="condition that varies 'sigm'; near: sigma"):
        match(table, "sigm")
    with pytest.raises(BadInput, match=r"give two of the values of eta: 0\.001, 0\.003"):
        match(table, "eta")
    with pytest.raises(BadInput, match=r"no training has sigma=2\.0; there are: 1, 4"):
        match(table, "sigma", (1.0, 2.0))
    with pytest.raises(BadInput, match="fit 'loss'; near: "):
        match(table, "sigma", fit="loss")
    with pytest.raises(BadInput, match="measure 'of_fi'; near: of_fit"):
        match(table, "sigma", measures=["of_fi"])
    with pytest.raises(BadInput, match="0 trainings that ended with a test_loss"):
        match(table, "sigma", fit="test_loss")


def test_balance_overlap_and_caliper_by_hand() -> None:
    a, b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    found = balance(a, b)
    assert (found.difference, found.standardized, found.balanced) == (1.0, 1.0, False)
    assert found.overlap == pytest.approx(2 / 3)
    assert balance(a, b, negligible=1.0).balanced
    assert balance(a, a + 0.24).balanced
    assert not balance(a, a + 0.26).balanced
    assert not balance(np.zeros(3), np.ones(3)).balanced
    assert caliper(a, b) == pytest.approx(0.2)
    assert caliper(a, b, negligible=0.5) == 0.5


@pytest.mark.parametrize("seed", range(8))
def test_pairs_are_the_most_and_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance, allowed = rng.random((4, 5)) * 10.0 ** rng.integers(-3, 3), rng.random((4, 5)) < 0.4
    rows, columns = nearest_pairs(distance, allowed)
    assert allowed[rows, columns].all()
    assert len(set(rows)) == len(set(columns)) == len(rows)
    count, cost = match_by_trying(distance, allowed)
    assert (len(rows), distance[rows, columns].sum()) == (count, pytest.approx(cost))
    assert len(nearest_pairs(distance, np.zeros_like(allowed))[0]) == 0


def test_adjustment_equals_the_slow_definition() -> None:
    rng = np.random.default_rng(0)
    seeds, second = np.arange(24) % 4, np.arange(24) % 8 > 3
    columns = rng.normal(size=(24, 2)) + second[:, None]
    y = columns @ [1.0, -1.0] + 0.5 * second + 0.1 * rng.normal(size=24)
    found = adjusted_difference(y, second, columns, seeds, level=0.9, seed=0)
    rows = np.column_stack([second, columns, y])
    np.testing.assert_allclose(found.estimate, slopes_by_pinv(rows[:, :-1], y)[:1])
    slow = bootstrap_by_rows(lambda r: slopes_by_pinv(r[:, :-1], r[:, -1])[:1], rows, seeds)
    np.testing.assert_allclose(found.stderr, slow, rtol=1e-6)
    plain = plain_difference(y, second, seeds, level=0.9, seed=0)
    assert plain.estimate[0] == pytest.approx(y[second].mean() - y[~second].mean())


def test_a_fit_that_is_the_groups_name_cannot_be_adjusted_for() -> None:
    second = np.arange(12) % 2 > 0
    found = adjusted_difference(np.arange(12.0), second, 3.0 * second[:, None], np.arange(12) // 4, level=0.9, seed=0)
    assert np.isnan(found.estimate).all()
    assert np.isnan(paired_difference(np.ones(1), np.zeros(1), level=0.9, seed=0).estimate).all()
    one_seed = paired_difference(np.array([1.0, 2.0, 3.0]), np.zeros(3), level=0.9, seed=0)
    assert one_seed.high[0] - 2 == pytest.approx(2.9199856 / np.sqrt(3))


def test_nine_of_ten_intervals_hold_the_adjusted_difference() -> None:
    rng, hits = np.random.default_rng(3), []
    seeds, second = np.repeat(np.arange(4), 10), np.tile(np.arange(10) % 2 > 0, 4)
    for trial in range(300):
        tilt = 0.3 * rng.normal(size=4)[seeds]
        fit = second + rng.normal(size=40)
        y = 2 * fit + (1 + tilt) * second + 0.3 * rng.normal(size=40) + rng.normal(size=4)[seeds]
        found = adjusted_difference(y, second, fit[:, None], seeds, level=0.9, seed=trial)
        hits.append(found.low[0] <= 1 <= found.high[0])
    assert 0.85 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize(
    ("plain", "paired", "adjusted", "word"),
    [
        ((1, 2), (1, 3), (1, 2), "at equal fit too"),
        ((-1, 1), (1, 3), (1, 2), "only at equal fit"),
        ((-2, -1), (1, 3), (1, 2), "only at equal fit"),
        ((1, 2), (-1, 1), (-1, 2), "explained by fit"),
        ((-1, 2), (-1, 1), (-1, 2), "no difference"),
        ((1, 2), (-1, 3), (1, 2), "cannot tell"),
        ((1, 2), (-1, 0.5), (1, 2), "pairs and adjustment disagree"),
        ((1, 2), (-3, -1), (1, 2), "pairs and adjustment disagree"),
        ((1, 2), (np.nan, np.nan), (1, 2), "at equal fit too"),
        ((1, 2), (np.nan, np.nan), (np.nan, np.nan), "cannot tell"),
    ],
)
def test_readings(plain: tuple, paired: tuple, adjusted: tuple, word: str) -> None:
    ends = (plain, paired, adjusted)
    intervals = [Intervals(np.ones(1), np.ones(1), *(np.array([v]) for v in pair)) for pair in ends]
    assert reading_of(*intervals) == word
    assert reading_of(*intervals, confounded=True) == "confounded"
