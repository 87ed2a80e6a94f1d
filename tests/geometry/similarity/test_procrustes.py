"""Shape metrics: published values, the definition, known angles, laws of a metric, degenerate shapes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import procrustes_distance, shape_angle, shape_distance
from geomfeat.numerics import stream
from tests.geometry.clouds import normal
from tests.reference import similarity as reference
from tests.shared_data import shared

ALPHAS = (1.0, 0.5, 0.1, 0.0)


def draw(n: int, d: int, *names: object) -> Tensor:
    return torch.randn(n, d, generator=stream(0, n, d, *names), dtype=torch.float64)


def whitened_with_padding(x: Tensor, alpha: float, width: int) -> Tensor:
    """Partly whitened features, with whitened padding up to a width counted as variance too."""
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    mixed = alpha * s + 1 - alpha
    variance = mixed.square().sum() + (width - len(s)) * (1 - alpha) ** 2
    return u * mixed * (s.square().sum() / variance).sqrt()


@pytest.mark.parametrize("pair", ["X-Y", "X-Z"])
def test_published_values(pair: str) -> None:
    data = np.load(shared("refs/kernels/similarity_inputs.npz"))
    expected = json.loads(shared("refs/kernels/similarity_expected.json").read_text())
    a, b = (torch.from_numpy(data[name]) for name in pair.split("-"))
    shape = expected["shape"][pair]
    for alpha in (1.0, 0.5, 0.1):
        assert shape_angle(a, b, alpha=alpha) == pytest.approx(shape[f"LinearMetric_alpha{alpha}_angular"], rel=1e-9)
    assert shape_distance(a, b) == pytest.approx(shape["LinearMetric_alpha1.0_euclidean"], rel=1e-9)
    for alpha in (0.5, 0.1):
        # The source pads with zeros first, and then counts the whitened padding as variance of the narrower layer.
        left, right = (whitened_with_padding(x, alpha, max(a.shape[1], b.shape[1])) for x in (a, b))
        expected_distance = shape[f"LinearMetric_alpha{alpha}_euclidean"]
        assert shape_distance(left, right) == pytest.approx(expected_distance, rel=2e-6)
    other = expected["other"][pair]
    assert shape_distance(a, b) == pytest.approx(other["ProcrustesSizeAndShapeDistance"], rel=1e-9)
    assert shape_angle(a, b) == pytest.approx(other["OrthogonalAngularShapeMetricCentered"], rel=1e-9)
    assert procrustes_distance(a, b) == pytest.approx(other["OrthogonalProcrustesCenteredAndNormalized"], rel=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("d1", "d2"), [(4, 4), (3, 6)])
def test_equals_the_definition(d1: int, d2: int, alpha: float) -> None:
    a, b = draw(15, d1, "a") + 2, 3 * draw(15, d2, "b")
    expected = reference.shape_distance(a.numpy(), b.numpy(), alpha)
    assert shape_distance(a, b, alpha=alpha) == pytest.approx(expected, rel=1e-9)
    assert shape_angle(a, b, alpha=alpha) == pytest.approx(reference.shape_angle(a.numpy(), b.numpy(), alpha), rel=1e-9)


def test_more_features_than_samples_are_their_own_span() -> None:
    a, b = draw(6, 20, "a"), draw(6, 9, "b")
    expected = reference.shape_angle(a.numpy(), b.numpy())
    assert shape_angle(a, b) == pytest.approx(expected, rel=1e-9)


def test_a_known_angle_and_the_chord_of_it() -> None:
    # Shapes along one direction of samples each: nothing but the angle between the two directions is left.
    u, v = torch.linalg.qr(torch.cat([torch.ones(6, 1).double(), draw(6, 2, "q")], 1)).Q[:, 1:].T
    tilted = math.cos(0.3) * u + math.sin(0.3) * v
    assert shape_angle(u[:, None], tilted[:, None]) == pytest.approx(0.3, rel=1e-12)
    assert procrustes_distance(u[:, None], -5 * tilted[:, None]) == pytest.approx(2 * math.sin(0.15), rel=1e-12)
    assert shape_distance(u[:, None], 3 * u[:, None]) == pytest.approx(2, rel=1e-12)


def test_small_distances_keep_their_digits() -> None:
    a, change = draw(20, 5, "a"), draw(20, 5, "b")
    near, nearer = (shape_distance(a, a + size * change) / size for size in (1e-6, 1e-9))
    assert near == pytest.approx(nearer, rel=1e-5)
    assert shape_angle(a, a) < 1e-14


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(6, 20), d=st.tuples(*[st.integers(1, 12)] * 3), seed=st.integers(0, 10**6),
    alpha=st.sampled_from((1.0, 0.5, 0.01)), noise=st.sampled_from((0.01, 1.0)),
)  # fmt: skip
def test_laws_of_a_metric(n: int, d: tuple[int, int, int], seed: int, alpha: float, noise: float) -> None:
    g = stream(seed, "metric")
    base = torch.randn(n, 12, generator=g, dtype=torch.float64)
    shapes = [base[:, :k] + noise * torch.randn(n, k, generator=g, dtype=torch.float64) for k in d]
    for metric in (shape_distance, shape_angle):
        ab, bc, ac = (metric(shapes[i], shapes[j], alpha=alpha) for i, j in ((0, 1), (1, 2), (0, 2)))
        assert ac <= ab + bc + 1e-9 * (1 + ac)
        assert metric(shapes[1], shapes[0], alpha=alpha) == pytest.approx(ab, rel=1e-9, abs=1e-9)
        rotation = torch.linalg.qr(torch.randn(d[0], d[0], generator=g, dtype=torch.float64)).Q
        assert metric(shapes[0] @ rotation + 3, shapes[1], alpha=alpha) == pytest.approx(ab, rel=1e-7, abs=1e-7)
        assert metric(shapes[0], shapes[0] @ rotation, alpha=alpha) < 1e-7 * (1 + ac)


def test_whitened_shapes_ignore_invertible_maps_and_others_do_not() -> None:
    a, b, mix = draw(20, 4, "a"), draw(20, 5, "b"), draw(4, 4, "mix")
    assert shape_angle(a @ mix, b, alpha=0) == pytest.approx(shape_angle(a, b, alpha=0), rel=1e-9)
    assert abs(shape_angle(a @ mix, b) - shape_angle(a, b)) > 0.01


def test_devices_agree(device: str) -> None:
    a, b = draw(9, 4, "a"), draw(9, 3, "b")
    assert shape_distance(a.to(device), b.to(device), alpha=0.5) == pytest.approx(shape_distance(a, b, alpha=0.5))


@pytest.mark.parametrize(
    ("a", "b", "alpha", "text"),
    [
        (draw(5, 2), draw(6, 2), 1.0, "a has 5 samples, b has 6"),
        (draw(5, 2), draw(5, 2), 1.5, "alpha=1.5"),
        (draw(5, 2), draw(5, 7), 0.0, "span all 5 samples"),
        (draw(5, 2), torch.ones(5, 2).double(), 1.0, "coincide"),
    ],
)
def test_bad_input(a: Tensor, b: Tensor, alpha: float, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        shape_angle(a, b, alpha=alpha)


@pytest.mark.parametrize("size", [1e-200, 1e200])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_sizes_whose_squares_are_out_of_range(size: float, alpha: float) -> None:
    a, b = normal(30, 4), normal(30, 3, seed=1)
    assert shape_angle(size * a, b, alpha=alpha) == pytest.approx(shape_angle(a, b, alpha=alpha), rel=1e-9)
    far = shape_distance(size * a, size * b, alpha=alpha)
    assert far == pytest.approx(size * shape_distance(a, b, alpha=alpha), rel=1e-9)


def test_large_features_are_hardly_whitened_in_part() -> None:
    a, b = 1e200 * normal(30, 4), 1e200 * normal(30, 3, seed=1)
    assert shape_distance(a, b, alpha=0.5) == pytest.approx(shape_distance(a, b), rel=1e-9)
