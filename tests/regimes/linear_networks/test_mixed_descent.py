"""Gradient descent in the products of the weights: equal to descent on the weights, and started with the right law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import Products, descend_products, products_of, random_products
from tests.reference import mixed as reference


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "matrix", *shape), dtype=WORKING)


@pytest.mark.parametrize(("outputs", "inputs", "width"), [(4, 4, 9), (2, 5, 3), (5, 2, 1), (3, 3, 200)])
def test_equals_descent_on_the_weights(outputs: int, inputs: int, width: int, device: str) -> None:
    w1, w2 = 0.3 * matrix(width, inputs), 0.3 * matrix(outputs, width)
    y = matrix(outputs, inputs, seed=1)
    found = descend_products(products_of(w1.to(device), w2.to(device)), y.to(device), 0.02, [0, 1, 150])
    for p, steps in zip(found, (0, 1, 150), strict=True):
        expected = reference.descend(w1.numpy(), w2.numpy(), y.numpy(), 0.02, steps)
        torch.testing.assert_close(p.map.cpu(), torch.as_tensor(expected), rtol=1e-9, atol=1e-11)


def test_a_narrow_network_and_a_saddle_stay_finite() -> None:
    y = torch.diag(torch.linspace(1, 3, 5, dtype=WORKING))
    narrow = descend_products(products_of(0.3 * matrix(2, 5), 0.3 * matrix(5, 2)), y, 0.01, [20_000])[0]
    assert torch.linalg.svdvals(narrow.map).tolist() == pytest.approx([3.0, 2.5, 0, 0, 0], abs=1e-9)
    # Balanced weights of an exactly reversed task come to rest at A = 0, until rounding has grown.
    reversed_ = descend_products(Products(y, y, y), -y, 0.01, [800])[0]
    assert float(reversed_.map.norm()) < 1e-3
    assert float(torch.linalg.eigvalsh(reversed_.first)[0]) > -1e-12


def test_problems_side_by_side_do_not_mix() -> None:
    parts = [products_of(0.3 * matrix(7, 3, seed=i), 0.3 * matrix(2, 7, seed=i)) for i in (1, 2)]
    both = type(parts[0])(*(torch.stack([getattr(p, k) for p in parts]) for k in ("map", "first", "second")))
    rates = torch.tensor([0.01, 0.03], dtype=WORKING)[:, None, None]
    y = matrix(2, 3, seed=3)
    found = descend_products(both, y, rates, [40])[0].map
    for i, (part, rate) in enumerate(zip(parts, (0.01, 0.03), strict=True)):
        torch.testing.assert_close(found[i], descend_products(part, y, rate, [40])[0].map)


@pytest.mark.parametrize("width", [5, 40])
def test_random_products_have_the_law_of_random_weights(width: int) -> None:
    """First and second moments of A, M1, M2 and their covariance, over draws, within 4 standard errors."""
    outputs, inputs, sigma, draws = 3, 4, 0.5, 1500
    drawn = [random_products(outputs, inputs, width, sigma, seed=i) for i in range(draws)]
    a, m1, m2 = (torch.stack([getattr(p, k) for p in drawn]).numpy() for k in ("map", "first", "second"))
    s2, s4, s8 = sigma**2, sigma**4, sigma**8
    quantities = {
        "E M1_11": (m1[:, 1, 1], s2 * width),
        "E M2_22": (m2[:, 2, 2], s2 * width),
        "E M1_01": (m1[:, 0, 1], 0.0),
        "E M1_33^2": (m1[:, 3, 3] ** 2, s4 * width * (width + 2)),
        "E M2_02^2": (m2[:, 0, 2] ** 2, s4 * width),
        "E A_12": (a[:, 1, 2], 0.0),
        "E A_12^2": (a[:, 1, 2] ** 2, s4 * width),
        # A row of A given W2 is Gaussian in W1 with covariance M2: E A_00^2 M2_00 = s^6 E |w2_0|^4.
        "E A_00^2 M2_00": (a[:, 0, 0] ** 2 * m2[:, 0, 0], s2**3 * width * (width + 2)),
        "E A_00^2 M1_00": (a[:, 0, 0] ** 2 * m1[:, 0, 0], s2**3 * width * (width + 2)),
        "E A_00 A_01 M1_01": (a[:, 0, 0] * a[:, 0, 1] * m1[:, 0, 1], s2**3 * width),
        "E A_00^2 A_11^2": (a[:, 0, 0] ** 2 * a[:, 1, 1] ** 2, s8 * width**2),
    }
    for name, (values, expected) in quantities.items():
        error = values.std() / np.sqrt(draws)
        assert abs(values.mean() - expected) < 4 * error, (name, values.mean(), expected, error)


def test_the_products_fit_one_another() -> None:
    # [M1 A'; A M2] is a Gram matrix: positive semi-definite, and singular where the width is below its side.
    for width, rank in ((3, 3), (7, 7), (50, 7)):
        p = random_products(3, 4, width, 1.0)
        gram = torch.cat([torch.cat([p.first, p.map.mT], 1), torch.cat([p.map, p.second], 1)])
        values = torch.linalg.eigvalsh(gram)
        assert int((values > 1e-9 * values[-1]).sum()) == rank
        assert float(values[0]) > -1e-9 * float(values[-1])


def test_seeds_repeat_and_differ() -> None:
    one, again, other = (random_products(3, 3, 50, 1.0, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.map, again.map)
    assert not torch.equal(one.map, other.map)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: random_products(0, 3, 5, 1.0), "outputs"),
        (lambda: random_products(3, 3, 5, 0.0), "sigma"),
        (lambda: products_of(torch.ones(3, 2), torch.ones(2, 4)), "hidden width"),
        (lambda: descend_products(random_products(2, 2, 9, 1.0), torch.ones(3, 2), 0.1, [1]), "target"),
        (lambda: descend_products(random_products(2, 2, 9, 1.0), torch.ones(2, 2), 0.1, [3, 1]), "steps"),
        (lambda: descend_products(random_products(2, 2, 9, 1.0), torch.ones(2, 2), math.nan, [1]), "learning_rate"),
        (lambda: descend_products(random_products(2, 2, 9, 1.0), torch.full((2, 2), math.nan), 0.1, [1]), "target"),
        (lambda: random_products(3, 3, 5, math.inf), "sigma"),
        (lambda: products_of(torch.full((3, 2), math.nan), torch.ones(2, 3)), "NaN"),
    ],
)
def test_bad_input_is_named(call, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        call()
