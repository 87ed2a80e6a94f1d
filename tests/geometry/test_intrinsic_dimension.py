"""TwoNN against loops, two libraries and known dimensions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry import two_nn
from tests.geometry.clouds import normal
from tests.reference import geometry as reference
from tests.shared_data import shared

ANGLE = torch.arange(30, dtype=torch.float64) * 2 * torch.pi / 30
RING = torch.stack([ANGLE.cos(), ANGLE.sin()], 1)


@pytest.mark.parametrize("shape", [(12, 1), (60, 2), (60, 5), (40, 80)])
def test_estimates_equal_loops_over_points(shape: tuple[int, int]):
    x = normal(*shape, seed=2)
    assert two_nn(x).value == pytest.approx(reference.two_nn(x.numpy()), rel=1e-10)
    assert two_nn(x, method="linear").value == pytest.approx(reference.two_nn_linear(x.numpy()), rel=1e-10)


@pytest.mark.parametrize("name", ["M1_Sphere", "M2_Affine_3to5", "M5b_Helix2d", "M7_Roll", "M9_Affine", "M12_Norm"])
def test_benchmark_manifolds_equal_the_libraries(name: str):
    expected = json.loads(shared("refs/dimension/expected.json").read_text())[name]["scikit-dimension"]
    x = torch.as_tensor(np.load(shared("refs/dimension/manifolds.npz"))[name])
    found = two_nn(x)
    assert found.value == pytest.approx(expected["TwoNN_mle_0"], rel=1e-9)
    # The library takes points to be independent; neighbours are not.
    independent = found.value / len(x) ** 0.5
    if name != "M5b_Helix2d":  # there it leaves two points with mu = 175 out
        assert independent == pytest.approx(expected["GRIDE_ms"]["err"][0], rel=1e-3)
    assert 0.999 * independent < found.stderr < 1.6 * independent
    assert two_nn(x, method="linear").value == pytest.approx(expected["TwoNN_linear_0.1"], rel=1e-9)


@pytest.mark.parametrize("method", ["mle", "linear"])
def test_flat_manifolds_have_their_dimension_within_the_error(method: str):
    for d in (1, 2, 4):
        x = torch.rand(1500, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64) @ normal(d, 12)
        found = two_nn(x, method=method)
        assert abs(found.value - d) < 4 * found.stderr
        assert found.stderr < 0.1 * d


def test_copies_are_left_out_and_counted():
    x = normal(80, 3)
    found = two_nn(torch.cat([x, x[:25], x[:5]]))
    assert found.n_duplicates == 30
    assert found.n_used == 80
    assert found.value == two_nn(x).value


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (normal(9, 2), {}, "9 different of 9 points"),
        (normal(1, 2).repeat(50, 1), {}, "1 different of 50 points"),
        (RING, {}, "a lattice"),
        (normal(30, 2), {"method": "levina"}, "method='levina'"),
        (normal(30, 2), {"discard": 0.1}, "discard=0.1"),
    ],
)
def test_bad_input_is_named(x: torch.Tensor, options: dict, message: str):
    with pytest.raises(BadInput, match=message):
        two_nn(x, **options)
