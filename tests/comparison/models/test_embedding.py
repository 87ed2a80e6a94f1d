"""Distances, clusters and maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from geomfeat.comparison.models.embedding import angles, classical_mds, clusters, known_rows, umap_map
from geomfeat.geometry.similarity import cka_matrix
from tests.comparison.planted import normal
from tests.reference.comparison import average_linkage_heights


def places(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_the_angle_of_cka_is_a_metric(estimator: str) -> None:
    shared = normal(8, 6, name="shared")
    layers = {
        f"{seed}": shared[:, : 1 + seed % 6] + (seed / 12) * normal(8, 1 + seed % 6, seed=seed) for seed in range(24)
    }
    found = angles(cka_matrix(layers, estimator=estimator).values.numpy())
    sides = found[:, :, None] + found[None]  # a to b and on to c
    assert bool((found[:, None, :] <= sides + 1e-7).all())
    assert found.max() > 1
    assert np.abs(np.diag(found)).max() == 0
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("d", [1, 2])
def test_a_planted_configuration_is_recovered(d: int) -> None:
    planted = places(12, d)
    distances = squareform(pdist(planted))
    found, share = classical_mds(distances)
    np.testing.assert_allclose(squareform(pdist(found)), distances, atol=1e-6)
    assert share == pytest.approx(1)
    again, _ = classical_mds(distances[::-1, ::-1])
    np.testing.assert_allclose(again[::-1], found, atol=1e-6)


def test_the_share_is_what_the_plane_holds() -> None:
    planted = places(30, 5) * np.array([3.0, 2, 1, 0.5, 0.2])
    variance = np.linalg.eigvalsh(np.cov(planted.T))[::-1]
    found, share = classical_mds(squareform(pdist(planted)))
    assert share == pytest.approx(variance[:2].sum() / variance.sum())
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_clusters_join_at_the_heights_of_the_definition(n: int) -> None:
    distances = squareform(pdist(places(n, 3)))
    tree, order = clusters(distances)
    np.testing.assert_allclose(tree[:, 2], average_linkage_heights(distances))
    assert sorted(order) == list(range(n))


def test_two_clumps_stay_together_in_the_order() -> None:
    planted = places(10, 2) + 20 * (np.arange(10) % 2)[:, None]
    _, order = clusters(squareform(pdist(planted)))
    assert len(set(order[:5] % 2)) == 1


def test_rows_without_distances_are_set_apart() -> None:
    distances = squareform(pdist(places(5, 2)))
    distances[2] = distances[:, 2] = np.nan
    distances[2, 2] = 0
    assert known_rows(distances).tolist() == [0, 1, 3, 4]
    tree, order = clusters(distances)
    assert tree.shape == (3, 4)
    assert order[-1] == 2
    found, share = classical_mds(distances)
    assert np.isnan(found[2]).all()
    assert share == pytest.approx(1)


def test_equal_things_lie_on_one_point() -> None:
    found, share = classical_mds(np.zeros((3, 3)))
    assert share == 1
    assert np.abs(found).max() == 0


def test_nothing_to_place() -> None:
    alone = np.zeros((1, 1))
    assert np.isnan(classical_mds(alone)[0]).all()
    assert clusters(alone)[1].tolist() == [0]
    assert umap_map(np.zeros((14, 14)), 0) is None


def test_umap_is_given_the_distances_of_the_layers_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own optimiser takes half a minute to compile: a stand-in shows what it is asked for."""
    asked = {}

    class Stand:
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def fit_transform(self, x: np.ndarray) -> np.ndarray:
            return x[:, :2]

    monkeypatch.setattr("geomfeat._numba.umap_points._umap", lambda: Stand)
    distances = squareform(pdist(places(16, 3)))
    distances[3] = distances[:, 3] = np.nan
    found = umap_map(distances, 0)
    assert found is not None
    assert np.isnan(found[3]).all()
    kept = [i for i in range(16) if i != 3]
    np.testing.assert_array_equal(found[kept], distances[np.ix_(kept, [0, 1])].astype(np.float32))
    assert asked["metric"] == "precomputed"
    again, other = dict(asked), umap_map(distances, 1)
    assert other is not None
    assert asked["random_state"] != again["random_state"]
