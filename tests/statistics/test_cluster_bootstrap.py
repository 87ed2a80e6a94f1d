"""Intervals over seeds: exact cases, slow definitions, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import spearmanr, t as student

from geomfeat.errors import BadInput
from geomfeat.statistics.cluster_bootstrap import MOST_LISTED, draws_of, over_seeds
from geomfeat.statistics.least_squares import design_of, explained, fitted_slopes, least_squares
from geomfeat.statistics.partial_correlation import midranks, partial_rank_correlations, with_intervals
from tests.reference.relate import bootstrap_by_rows, partial_rank_by_residuals, slopes_by_pinv


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("g", [2, 3, 6])
def test_listed_draws_are_all_draws_with_their_probabilities(g: int) -> None:
    counts, p = draws_of(g)
    assert (counts.sum(1) == g).all()
    assert p.sum() == pytest.approx(1)
    assert len(np.unique(counts, axis=0)) == len(counts) <= MOST_LISTED
    np.testing.assert_allclose(p @ counts, np.ones(g))


def test_many_seeds_are_drawn_and_the_draws_depend_on_the_seed_alone() -> None:
    counts, p = draws_of(9, seed=1)
    assert (counts.sum(1) == 9).all()
    assert p.sum() == pytest.approx(1)
    assert (counts == draws_of(9, seed=1)[0]).all()
    assert (counts != draws_of(9, seed=2)[0]).any()


@pytest.mark.parametrize("g", [2, 4])
def test_a_mean_over_seeds_has_students_interval(g: int) -> None:
    y, seeds = normal(g * 5), np.repeat(np.arange(g), 5)
    found = over_seeds(lambda w: (w @ y / w.sum(1))[:, None], seeds, level=0.8)
    means = y.reshape(g, 5).mean(1)
    error = means.std(ddof=1) / np.sqrt(g)
    np.testing.assert_allclose(found.stderr, error)
    np.testing.assert_allclose(found.high - found.estimate, student.ppf(0.9, g - 1) * error)


def test_one_seed_gives_no_interval_and_numbers_that_draws_lack_have_none() -> None:
    found = over_seeds(lambda w: w[:, :1], np.zeros(3))
    assert np.isnan(found.stderr).all()
    rarely = over_seeds(lambda w: np.where(w[:, :1] == 1, 1.0, np.nan), np.array([0, 1, 2]))
    assert np.isnan(rarely.low).all()
    with pytest.raises(BadInput, match="level=1"):
        over_seeds(lambda w: w[:, :1], np.zeros(3), level=1.0)


def test_two_seeds_that_only_together_give_a_number_have_no_interval() -> None:
    """Half of the draws hold both seeds; they are all the same, which is no spread of zero."""
    both = over_seeds(lambda w: np.where((w > 0).all(1), 1.5, np.nan)[:, None], np.array([0, 1]))
    assert both.estimate[0] == 1.5
    assert np.isnan([both.stderr[0], both.low[0], both.high[0]]).all()


def test_slopes_equal_the_slow_definition() -> None:
    x, seeds = normal(30, 2), np.arange(30) % 3
    y = x @ [1.0, -2.0] + normal(30, seed=1)
    design = design_of(x, ["a", "b"])
    assert design.terms == ("a", "b", "a:b")
    interval, kind = fitted_slopes(design, y, seeds, level=0.9, seed=0)
    np.testing.assert_allclose(interval.estimate, slopes_by_pinv(design.x[:, 1:], y))
    rows = np.column_stack([design.x[:, 1:], y])
    slow = bootstrap_by_rows(lambda r: slopes_by_pinv(r[:, :-1], r[:, -1]), rows, seeds)
    np.testing.assert_allclose(interval.stderr, slow)
    assert kind == "seeds"


@settings(max_examples=25, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 10))
def test_slopes_follow_scale_and_shift(shift: float, tilt: float, scale: float) -> None:
    x, seeds, y = normal(24, 2), np.arange(24) % 4, normal(24, seed=2)
    design = design_of(x, ["a", "b"], interactions=False)
    plain, _ = fitted_slopes(design, y, seeds, level=0.9, seed=0)
    moved, _ = fitted_slopes(design, scale * y + shift + tilt * x[:, 0], seeds, level=0.9, seed=0)
    np.testing.assert_allclose(moved.estimate, scale * plain.estimate + [tilt, 0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(moved.stderr, scale * plain.stderr, rtol=1e-6, atol=1e-9)


def test_terms_that_cannot_be_distinguished_are_named() -> None:
    x = normal(10)
    design = design_of(np.column_stack([x, 2 * x + 1, np.full(10, 3.0)]), ["a", "b", "c"])
    assert design.terms[0] == "a"
    assert {"b", "c"} <= set(design.dropped)
    assert np.isnan(least_squares(np.column_stack([x, x]), x, np.ones((1, 10)))).all()


def test_the_plane_explains_what_it_explains() -> None:
    x = np.column_stack([np.ones(4), np.arange(4.0)])
    assert explained(x, 2 * x[:, 1] + 1)[1] == pytest.approx(1)
    assert explained(x, np.array([1.0, -1.0, -1.0, 1.0]))[1] == pytest.approx(0)
    assert np.isnan(explained(x, np.full(4, 0.3))[1])


def test_ranks_with_weights_are_ranks_of_repeated_rows() -> None:
    columns, counts = np.round(normal(12, 3), 1), np.array([[0, 1, 2, 1, 0, 3, 1, 1, 2, 0, 1, 0]])
    repeated = np.repeat(columns, counts[0], axis=0)
    ranks = midranks(repeated[:, 0], np.ones((1, len(repeated))))[0]
    np.testing.assert_allclose(np.repeat(midranks(columns[:, 0], counts)[0], counts[0]), ranks)
    np.testing.assert_allclose(
        partial_rank_correlations(columns, counts), partial_rank_correlations(repeated, np.ones((1, len(repeated))))
    )


def test_partial_rank_correlations_equal_the_slow_definition() -> None:
    z = normal(40)
    columns = np.column_stack([z + normal(40, seed=1), z + normal(40, seed=2), z, np.round(normal(40, seed=3))])
    found = partial_rank_correlations(columns, np.ones((1, 40)))[0]
    for i in (1, 2, 3):
        order = [0, i, *(j for j in (1, 2, 3) if j != i)]
        assert found[i - 1] == pytest.approx(partial_rank_by_residuals(columns[:, order]), abs=1e-10)
    plain = partial_rank_correlations(columns[:, :2], np.ones((1, 40)))[0, 0]
    assert plain == pytest.approx(spearmanr(columns[:, 0], columns[:, 1]).statistic, abs=1e-12)


@pytest.mark.parametrize("n", [8, 30, 100])
def test_what_the_others_leave_nothing_of_has_no_correlation_with_a_further_column(n: int) -> None:
    """y rises with x: given x, nothing of y is left, and 0 / 0 is not to be read as a correlation of 1."""
    for seed in range(4):
        x, z = normal(n, 2, seed=seed).T
        rho, kind = with_intervals(np.stack([x**3, x, z], axis=1), np.arange(n) % 3)
        assert kind == "seeds"
        assert rho.estimate.tolist() == [pytest.approx(1.0), 0.0]
        assert (rho.low[1], rho.high[1]) == (0.0, 0.0)


def test_rank_correlations_that_are_undefined_are_nan_and_exact_ones_are_one() -> None:
    x = normal(20, 2)
    flat = partial_rank_correlations(np.column_stack([np.ones(20), x]), np.ones((1, 20)))
    assert np.isnan(flat).all()
    twice = partial_rank_correlations(np.column_stack([x, x[:, 1]]), np.ones((1, 20)))
    assert np.isnan(twice).all()
    same = partial_rank_correlations(np.column_stack([x[:, 0], x]), np.ones((1, 20)))
    assert same[0, 0] == pytest.approx(1)


def test_one_seed_has_fiellers_interval() -> None:
    columns = normal(40, 3)
    found, kind = with_intervals(columns, np.zeros(40), level=0.9)
    assert kind == "independent"
    half = np.arctanh(found.high) - np.arctanh(found.estimate)
    np.testing.assert_allclose(half, 1.6448536 * np.sqrt(1.06 / 36), rtol=1e-6)
    assert with_intervals(columns[:4], np.zeros(4), level=0.9)[1] == "none"


TRIALS = 500


def share(hits: list[np.ndarray]) -> np.ndarray:
    return np.mean(hits, axis=0)


@pytest.mark.parametrize(("n_seeds", "missing"), [(3, 0.0), (3, 0.25), (8, 0.25)])
def test_nine_of_ten_intervals_of_slopes_hold_the_truth(n_seeds: int, missing: float) -> None:
    rng, truth, hits = np.random.default_rng(n_seeds), np.array([-3.0, 0.2, 0.0]), []
    s, e, k = (a.ravel() for a in np.meshgrid([-1, -0.5, 0, 0.5, 1], [-2, -1, 0], range(n_seeds), indexing="ij"))
    for trial in range(TRIALS):
        start, tilt = rng.normal(size=(2, n_seeds)) * 0.3
        y = -3 * s + 0.2 * e + start[k] + tilt[k] * s + 0.3 * rng.normal(size=len(s))
        kept = rng.random(len(s)) >= missing
        design = design_of(np.column_stack([s, e + 1]), ["s", "e"])
        x = design.x[kept]
        found = fitted_slopes(type(design)(x, design.terms, ()), y[kept], k[kept], level=0.9, seed=trial)[0]
        hits.append((found.low <= truth) & (truth <= found.high))
    assert (share(hits) >= 0.85).all()
    assert (share(hits) <= 0.97).all()


@pytest.mark.parametrize("n_seeds", [4, 8])
def test_nine_of_ten_intervals_of_rank_correlations_hold_the_truth(n_seeds: int) -> None:
    rng, hits = np.random.default_rng(n_seeds), []

    def sample(g: int) -> tuple[np.ndarray, np.ndarray]:
        k = np.repeat(np.arange(g), 15)
        of_seed = 0.4 * rng.normal(size=(3, g))[:, k]
        z = rng.normal(size=len(k)) + of_seed[0]
        x = 0.6 * z + rng.normal(size=len(k)) + of_seed[1]
        return np.column_stack([0.5 * x + 0.6 * z + rng.normal(size=len(k)) + of_seed[2], x, z]), k

    many = sample(20000)[0]
    truth = partial_rank_correlations(many, np.ones((1, len(many))))[0]
    for trial in range(TRIALS):
        found = with_intervals(*sample(n_seeds), level=0.9, seed=trial)[0]
        hits.append((found.low <= truth) & (truth <= found.high))
    assert (share(hits) >= 0.85).all()
    assert (share(hits) <= 0.97).all()
