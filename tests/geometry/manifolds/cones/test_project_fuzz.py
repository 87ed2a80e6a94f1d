"""2,000 ill-conditioned cone problems: every answer is certified or marked, and what is certified holds in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from geomfeat.geometry.manifolds import ConeProjections, project_on_cones
from geomfeat.geometry.manifolds.cones import solvers as methods

DRAWS, SHAPES = 8, 25
# The certificate asks for 1e-10; ten times that leaves room for the rounding of this second calculation.
CLOSE = 1e-9

Maker = Callable[[np.random.Generator, int, int], np.ndarray]


def plain(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return rng.standard_normal((k, r))


def copies(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return plain(rng, max(1, k // 3), r)[rng.integers(0, max(1, k // 3), k)]


def near_copies(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return copies(rng, k, r) + 10.0 ** -rng.uniform(4, 12) * plain(rng, k, r)


def collinear(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return plain(rng, 1, r) + rng.standard_normal((k, 1)) * plain(rng, 1, r)


def lattice(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return rng.integers(-2, 3, (k, r)).astype(float)


def low_rank(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return plain(rng, k, max(1, r // 3)) @ plain(rng, max(1, r // 3), r)


def nearly_low_rank(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return low_rank(rng, k, r) + 10.0 ** -rng.uniform(4, 12) * plain(rng, k, r)


def opposite(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    half = plain(rng, -(-k // 2), r)
    return np.concatenate([half, -half])[rng.permutation(2 * len(half))[:k]]


def lengths(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return plain(rng, k, r) * 10.0 ** rng.uniform(-150, 150, (k, 1))


def needle(rng: np.random.Generator, k: int, r: int) -> np.ndarray:
    return plain(rng, 1, r) + 10.0 ** -rng.uniform(1, 9) * plain(rng, k, r)


FAMILIES: list[Maker] = [
    plain,
    copies,
    near_copies,
    collinear,
    lattice,
    low_rank,
    nearly_low_rank,
    opposite,
    lengths,
    needle,
]


def problem(make: Maker, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, owners, targets and signs of a random small shape; some points at the origin, targets of any size."""
    rng = np.random.default_rng([FAMILIES.index(make), seed])
    n_manifolds, k, r = rng.integers(1, (7, 41, 16)).tolist()
    x = make(rng, k, r)
    if rng.random() < 0.2:
        x[rng.integers(k)] = 0.0
    owner = rng.integers(0, n_manifolds, k)
    t = rng.standard_normal((DRAWS, r))
    if rng.random() < 0.2:
        t = t * 10.0 ** rng.uniform(-100, 100, (DRAWS, 1))
    return x, owner, t, rng.choice([-1.0, 1.0], (DRAWS, n_manifolds))


def assert_kkt(x: np.ndarray, owner: np.ndarray, t: np.ndarray, y: np.ndarray, found: ConeProjections, d: int) -> None:
    """The conditions at draw d, from the definition: points of unit length, everything in units of |t|."""
    largest = np.abs(x).max(1, keepdims=True)
    unit = x / np.where(largest > 0, largest, 1.0)
    size = np.linalg.norm(unit, axis=1, keepdims=True)
    rows = unit / np.where(size > 0, size, 1.0) * y[d, owner][:, None]
    length = (largest * size)[:, 0]
    scale = np.abs(t[d]).max()
    t_norm = np.linalg.norm(t[d] / scale)
    p, support = found.projection[d].numpy() / scale, found.support[d].numpy()
    held = support[support >= 0]
    l = found.multipliers[d].numpy()[support >= 0] * length[held] / scale
    v = t[d] / scale - p
    assert (l > 0).all()
    assert len(set(held)) == len(held) == int(found.faces[d])
    assert np.linalg.matrix_rank(rows[held], tol=1e-13) == len(held)
    assert (rows @ v).max() <= CLOSE * t_norm
    assert np.abs(rows[held] @ v).max(initial=0.0) <= CLOSE * t_norm
    assert abs(p @ v) <= CLOSE * t_norm**2
    assert np.linalg.norm(l @ rows[held] - p) <= CLOSE * max(t_norm, l.sum())
    np.testing.assert_allclose(float(found.norms2[d]), float((found.projection[d] ** 2).sum()), rtol=1e-12)


@pytest.mark.parametrize("make", FAMILIES, ids=[make.__name__ for make in FAMILIES])
def test_ill_conditioned_problems_are_certified_or_marked(make: Maker, monkeypatch: pytest.MonkeyPatch):
    certified = 0
    for seed in range(SHAPES):
        # Shapes this small go to the Gram matrix; every other one starts with column generation instead.
        monkeypatch.setattr(methods, "MANY", 1500 if seed % 2 else 0)
        x, owner, t, y = problem(make, seed)
        found = project_on_cones(*(torch.as_tensor(a) for a in (x, owner, t, y)))
        assert bool((found.certified == (found.violation <= 1e-10)).all())
        certified += int(found.certified.sum())
        for d in torch.nonzero(found.certified)[:, 0].tolist():
            assert_kkt(x, owner, t, y, found, d)
    assert certified >= 0.99 * SHAPES * DRAWS
