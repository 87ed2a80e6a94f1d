"""Similarity of models and corresponding layers, from the similarity of layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geomfeat.comparison.models.layer_matching import best, best_matches, model_similarity
from tests.reference.comparison import model_similarity_by_loops


def table(*sizes: int) -> pd.DataFrame:
    rows = [(f"m{m}", f"l{i}", i / max(size - 1, 1)) for m, size in enumerate(sizes) for i in range(size)]
    return pd.DataFrame(rows, columns=["model", "layer", "depth"])


def random_similarity(n: int, seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).uniform(-0.2, 1, (n, n))
    made = (made + made.T) / 2
    np.fill_diagonal(made, 1)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_similarity_of_models_is_that_of_the_definition(seed: int) -> None:
    similarity = random_similarity(9, seed)
    groups = [[0, 1, 2, 3], [4, 5], [6, 7, 8]]
    found = model_similarity(similarity, np.repeat([0, 1, 2], [4, 2, 3]))
    np.testing.assert_allclose(found, model_similarity_by_loops(similarity, groups), rtol=1e-12)
    np.testing.assert_allclose(np.diag(found), 1)


def test_a_layer_without_a_number_counts_for_nothing() -> None:
    similarity = random_similarity(5, 0)
    similarity[1] = similarity[:, 1] = np.nan
    kept = [0, 2, 3, 4]
    without = model_similarity(similarity[np.ix_(kept, kept)], np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(model_similarity(similarity, np.array([0, 0, 0, 1, 1])), without)
    assert np.isnan(model_similarity(similarity, np.array([0, 1, 0, 0, 0]))[0, 1])


def test_best_of_rows() -> None:
    column, value = best(np.array([[0.1, 0.7, np.nan], [np.nan] * 3, [-0.5, -0.2, -0.9]]))
    assert column.tolist() == [1, -1, 1]
    np.testing.assert_array_equal(value, [0.7, np.nan, -0.2])


def test_matches_go_both_ways_and_name_depths() -> None:
    layers = table(2, 3)
    similarity = np.eye(5)
    similarity[0, 3] = similarity[3, 0] = 0.9
    similarity[1, 4] = similarity[4, 1] = 0.6
    similarity[2, 1] = similarity[1, 2] = 0.2
    errors = similarity / 10
    found = best_matches(similarity, errors, layers)
    assert list(zip(found["model"], found["layer"], found["match"], strict=True)) == [
        ("m0", "l0", "l1"), ("m0", "l1", "l2"), ("m1", "l0", "l1"), ("m1", "l1", "l0"), ("m1", "l2", "l1"),
    ]  # fmt: skip
    assert found["match_depth"].tolist() == [0.5, 1, 1, 0, 1]
    np.testing.assert_allclose(found["stderr"] * 10, found["similarity"])


def test_a_layer_that_is_undefined_has_no_match() -> None:
    similarity = random_similarity(4, 0)
    similarity[0] = similarity[:, 0] = np.nan
    found = best_matches(similarity, similarity, table(2, 2))
    first = found.iloc[0]
    assert first["match"] == ""
    assert np.isnan(first["similarity"])
    assert set(found["match"][1:]) <= {"l0", "l1"}
    assert "l0" not in set(found.query("model == 'm1'")["match"])
