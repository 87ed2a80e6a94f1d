"""RSA of two layers: the definition, the error by recomputation, failures that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import rsa_estimates
from geomfeat.geometry.rsa.compare import COMPARATORS
from geomfeat.geometry.similarity import cka
from geomfeat.numerics import stream
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.reference.kernels import jackknife_by_loop
from tests.reference.rsa import correlation_by_pairs, distances_by_pairs, similarity, whitened


def draw(n: int, d: int, name: str) -> torch.Tensor:
    return torch.randn(n, d, generator=stream(0, "rsa measure", name), dtype=torch.float64)


@pytest.mark.parametrize("name", ["rsa_squared_euclidean", "rsa_correlation_distance"])
def test_values_and_errors_equal_their_definitions(name: str) -> None:
    a, b = draw(8, 5, "a"), draw(8, 7, "b")
    b[:, :5] += a
    found = get(name)(Representation(a), Representation(b))
    assert tuple(found) == COMPARATORS

    def by_definition(x: np.ndarray) -> np.ndarray:
        return distances_by_pairs(x, np.eye(x.shape[1])) if "euclidean" in name else correlation_by_pairs(x)

    for comparator, estimate in found.items():

        def value(rows: list[int], how: str = comparator) -> float:
            u, v = by_definition(a[rows].numpy()), by_definition(b[rows].numpy())
            return whitened(u, v, rows) if how == "whitened_cosine" else similarity(u, v, how)

        assert estimate.value == pytest.approx(value(list(range(8))), rel=1e-9)
        assert estimate.stderr == pytest.approx(jackknife_by_loop(value, 8), rel=1e-8), comparator


def test_whitened_cosine_is_biased_cka_and_rotated_layers_are_the_same() -> None:
    a, b = draw(15, 4, "a"), draw(15, 9, "b")
    assert rsa_estimates(a, b)["whitened_cosine"].value == pytest.approx(cka(a, b, estimator="biased"), rel=1e-12)
    rotation = torch.linalg.qr(draw(4, 4, "rotation")).Q
    for estimate in rsa_estimates(a, 2 * a @ rotation + 1).values():
        assert estimate.value == pytest.approx(1, rel=1e-12)


def test_the_error_covers_the_spread_over_draws() -> None:
    values, errors = [], []
    for seed in range(60):
        a = torch.randn(60, 5, generator=stream(seed, "spread a"), dtype=torch.float64)
        b = a + torch.randn(60, 5, generator=stream(seed, "spread b"), dtype=torch.float64)
        estimate = rsa_estimates(a, b, comparators=("correlation",))["correlation"]
        values.append(estimate.value)
        errors.append(estimate.stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_failures_say_what_to_do() -> None:
    found = rsa_estimates(torch.eye(7), draw(7, 3, "b"))
    assert found["cosine"].ok
    assert not found["correlation"].ok
    assert "equally far apart" in found["correlation"].note
    assert found["rho_a"].value == 0
    with pytest.raises(BadInput, match="b is constant"):
        rsa_estimates(draw(7, 3, "a"), torch.ones(7, 3))
    with pytest.raises(BadInput, match="a has 7 samples, b has 6"):
        rsa_estimates(draw(7, 3, "a"), draw(6, 3, "b"))
    assert rsa_estimates(draw(5, 3, "a"), draw(5, 3, "b"))["cosine"].stderr is None
