"""Draws whose anchors are one choice of many are counted, and the choice is the one of least norm, whoever solves."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from geomfeat.geometry.manifolds import Capacity, as_manifolds, capacity, project_on_cones
from geomfeat.geometry.manifolds.anchor_points import anchors_of
from geomfeat.geometry.manifolds.anchor_uniqueness import ambiguous
from geomfeat.geometry.manifolds.cones import least_norm_multipliers
from geomfeat.geometry.manifolds.cones.least_norm_multipliers import least_norm, shortest
from geomfeat.geometry.manifolds.cones.span import in_span
from tests.geometry.clouds import normal, signs, simplices, spheres
from tests.reference import anchors as slow, geometry as reference
from tests.shared_data import shared

GEOMETRY = ("dimension", "radius", "utility", "center_alignment", "axis_alignment", "center_axis_alignment")
METHODS = ("gram", "columns", "orthogonal", "batched", "patient")


def filling() -> list[Tensor]:
    """Two classes whose points fill three of twelve dimensions together, and one in the others."""
    fills = [torch.nn.functional.pad(normal(12, 3, seed=k), (0, 9)) for k in range(2)]
    return [*fills, torch.nn.functional.pad(normal(6, 9, seed=2), (3, 0))]


def rays() -> Tensor:
    """Five classes of four points on one ray each."""
    return torch.arange(1.0, 5).double()[None, :, None] * normal(5, 1, 30)


def faces() -> Tensor:
    """Whole numbers from 0 on with many zeros: classes meet in the faces of the positive quadrant."""
    return (normal(4, 9, 8, seed=5) - 0.4).clamp_min(0.0).mul(3).round()


CASES: dict[str, tuple[Tensor | list[Tensor], bool]] = {
    "spheres": (spheres(5, 8, 30, 0.7, 4), False),
    "simplices": (simplices(6, 3), False),
    "copies": (spheres(5, 8, 30, 0.7, 4).repeat_interleave(2, 1), False),
    "copies in more units than points": (spheres(5, 4, 60, 0.7, 4).repeat_interleave(2, 1), False),
    "points at the origin": (torch.cat([spheres(5, 8, 30, 0.7, 4), torch.zeros(5, 1, 30).double()], 1), False),
    "points on one ray": (rays(), True),
    "classes that fill their span": (filling(), True),
}


@pytest.mark.parametrize("case", CASES)
def test_only_a_choice_of_anchors_is_counted(case: str):
    x, choice = CASES[case]
    found = capacity(x, n_draws=60, resample=None)
    outside = int((~found.inside).sum())
    assert found.n_ambiguous > 0.8 * outside if choice else found.n_ambiguous == 0
    assert any("other points could carry" in note for note in found.notes) == choice


@pytest.mark.parametrize("points", [rays(), torch.cat(filling()[:2]).reshape(2, 12, 12), faces()])
def test_every_method_ends_at_the_same_anchors(points: Tensor):
    n_manifolds, _, n = points.shape
    manifolds = as_manifolds(points).without_copies()
    x, owner = manifolds.x, manifolds.owner
    t, y = normal(40, n, seed=3), signs(40, n_manifolds, seed=4)
    anchors = []
    for method in METHODS:
        found = project_on_cones(x, owner, t, y, method=method)
        done = found.certified
        assert bool(done.all()) or method in ("gram", "columns", "batched")
        best, sure = least_norm(x, owner, y, found, ambiguous(x, owner, y, found))
        assert bool((sure == ambiguous(x, owner, y, found)).all())
        assert bool(((best.multipliers > 0).sum(1) >= (found.multipliers > 0).sum(1))[sure].all())
        anchors.append((done, anchors_of(x, owner, y, best).s))
    for done, s in anchors:
        torch.testing.assert_close(s[done], anchors[2][1][done], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "points", [faces(), spheres(4, 6, 12, 0.8, 4), normal(2, 2, 20), normal(3, 4, 12), spheres(4, 8, 6, 0.8, 4)],
    ids=["faces", "plain", "independent", "just independent", "inside"],
)  # fmt: skip
def test_geometry_equals_that_of_slow_multipliers_of_least_norm(points: Tensor):
    t, y = normal(50, points.shape[2], seed=3), signs(50, len(points), seed=3)
    dense, used, norms2 = slow.canonical(points.numpy(), t.numpy(), y.numpy())
    expected = reference.glue(points.numpy(), t.numpy(), y.numpy(), dense, used, float(norms2.mean()))
    found = capacity(points, draws=(t, y), resample=None)
    np.testing.assert_allclose(found.norms2.numpy(), norms2, rtol=1e-9, atol=1e-12)
    for name in GEOMETRY:
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-6), name


def test_independent_points_have_unique_anchors_inside_their_span_too():
    """Four points: a sixteenth of the draws has t in the cone, and every draw counts."""
    x = normal(2, 2, 20)
    t, y = normal(400, 20, seed=3), signs(400, 2, seed=3)
    found = capacity(x, draws=(t, y), resample=None)
    assert 0.03 < found.frac_inside < 0.12
    assert not any("inside their cone" in note for note in found.notes)
    assert float(found.per_manifold.cost.sum()) == pytest.approx(2 / found.capacity, rel=1e-9)
    # The multipliers of independent points are those of least squares, wherever these are positive.
    flat = x.reshape(4, 20) * y.repeat_interleave(2, 1)[:, :, None]
    l = torch.linalg.lstsq(flat.mT, t[:, :, None]).solution[:, :, 0]
    assert torch.equal((l > 0).all(1), found.inside)


def test_digits_meet_in_faces_and_get_the_multipliers_of_least_norm():
    """Two draws in three outside their cones leave a choice among nearly all of the 500 points."""
    data = np.load(shared("refs/capacity/digits_M50_iid.npz"))
    manifolds = as_manifolds(data["X"]).without_copies()
    span = in_span(manifolds.x, manifolds.rounding)
    x, owner, y = span.x, manifolds.owner, torch.as_tensor(data["y"]).double()
    found = project_on_cones(x, owner, span.coordinates(torch.as_tensor(data["t"])), y)
    np.testing.assert_allclose(found.norms2.numpy(), data["p2"], rtol=1e-8)
    unsure = ambiguous(x, owner, y, found)
    assert int(unsure.sum()) > 15
    best, sure = least_norm(x, owner, y, found, unsure)
    assert torch.equal(sure, unsure)
    for draw in torch.nonzero(unsure)[::4, 0].tolist():
        cone = x * y[draw][owner][:, None]
        prices = (cone @ found.residual[draw]).abs() / torch.linalg.vector_norm(cone, dim=1)
        touch = prices <= slow.TOUCH * float(torch.linalg.vector_norm(found.residual[draw] + found.projection[draw]))
        expected = slow.least_norm(cone[touch].numpy(), found.projection[draw].numpy())
        dense = torch.zeros(len(x) + 1, dtype=torch.float64)
        dense[best.support[draw]] = best.multipliers[draw]
        np.testing.assert_allclose(dense[:-1][touch].numpy(), expected, rtol=0, atol=1e-8 * expected.max())


def test_a_ray_has_one_anchor():
    """Weights 1, 2, 3, 4 of points 1 x, .. 4 x: the anchor is (1 + 4 + 9 + 16) / 10 x in every draw, as of a point."""
    found = capacity(rays(), n_draws=60, resample=None)
    torch.testing.assert_close(found.per_manifold.anchor_norm, 3 * torch.linalg.vector_norm(rays()[:, 0], dim=1))
    assert found.dimension == found.utility == 0
    assert found.capacity == pytest.approx(capacity(rays()[:, :1], n_draws=60, resample=None).capacity)


def assert_same_geometry(a: Capacity, b: Capacity, rel: float = 1e-7) -> None:
    for name in GEOMETRY:
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=rel, nan_ok=True), name


@pytest.mark.parametrize("points", [rays(), faces(), spheres(4, 6, 40, 0.8, 4)], ids=["rays", "faces", "plain"])
def test_copies_and_order_change_nothing(points: Tensor):
    n = points.shape[2]
    t, y = normal(60, n, seed=3), signs(60, len(points), seed=3)
    found = partial(capacity, draws=(t, y), resample=None)
    once = found(points)
    order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(1))
    assert_same_geometry(found(points[:, order]), once)
    assert_same_geometry(found(torch.cat([points, points[:, 2:3], points[:, 2:3]], 1)), once)
    assert_same_geometry(found(points * 1e9), once)


def test_weight_is_shared_along_a_ray_by_length():
    """Of l_1 + 2 l_2 = 5 the least is (1, 2); a point that depends on no other keeps what it has."""
    l = shortest(np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 4.0]]), np.array([5.0, 0.0, 0.5]))
    np.testing.assert_allclose(l, [1.0, 2.0, 0.5], rtol=1e-12)


def test_of_many_solutions_the_least_is_found():
    rng = np.random.default_rng(0)
    for trial in range(60):
        r = int(rng.integers(1, 7))
        points = rng.standard_normal((int(rng.integers(r + 1, 50)), r))
        if trial % 3 == 1:  # rays, copies, classes of opposite points
            points = np.repeat(points[: r + 1], 4, 0) * rng.integers(-3, 4, (4 * len(points[: r + 1]), 1))
            points = points[np.abs(points).sum(1) > 0]
        start = np.zeros(len(points))
        start[rng.choice(len(points), min(r, len(points)), replace=False)] = rng.exponential(size=min(r, len(points)))
        found = shortest(points, start)
        assert found is not None
        if np.linalg.norm(start @ points) > 1e-9:
            expected = slow.least_norm(points, start @ points)
            np.testing.assert_allclose(found, expected, atol=1e-7 * expected.max())


def test_quick_steps_end_where_decompositions_do(monkeypatch: pytest.MonkeyPatch):
    points, start = normal(60, 12, seed=7).numpy(), np.maximum(normal(60, seed=8).numpy(), 0.0)
    quick, refused = shortest(points, start), []
    far_from = least_norm_multipliers._far_from
    monkeypatch.setattr(
        least_norm_multipliers, "_far_from", lambda *given: refused.append(far_from(*given)) or refused[-1]
    )
    shortest(points, start)
    assert refused.count(True) >= 1
    assert not refused[-1]
    monkeypatch.setattr(least_norm_multipliers, "_far_from", lambda *_: False)
    monkeypatch.setattr(least_norm_multipliers, "CLEAR", np.inf)
    exact = shortest(points, start)
    assert quick is not None
    assert exact is not None
    np.testing.assert_allclose(quick, exact, rtol=1e-10, atol=1e-12)
    assert ((quick > 0) == (exact > 0)).all()
