"""Points far from the origin next to their distances: the limit of the cone, against slow references."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from geomfeat import Representation, geometry
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import as_manifolds, capacity, common_draws, replica_capacity, simulated_capacity
from geomfeat.geometry.manifolds.cones.distant_points import FAR, brought_near
from geomfeat.measures.layer.capacity import capacity as measured


def clouds(p: int = 4, m: int = 5, n: int = 6, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(p, m, n)) + 1.5 * rng.normal(size=(p, 1, n))


def drawn(p: int, n: int, draws: int = 60, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(draws, n)), rng.choice([-1.0, 1.0], size=(draws, p))


def at_infinity(x: np.ndarray, axis: np.ndarray, t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|p|^2 for points x + c axis in the limit of large c: the differences of unlike points across the axis, and t
    along it; where all labels are alike, the ray of the axis."""
    axis, owner, points = (
        axis / np.linalg.norm(axis),
        np.repeat(np.arange(len(x)), x.shape[1]),
        x.reshape(-1, x.shape[2]),
    )
    out = []
    for target, signs in zip(t, y, strict=True):
        along, sign = target @ axis, signs[owner]
        if abs(signs.sum()) == len(signs):
            out.append(max(0.0, along * signs[0]) ** 2)
            continue
        unlike = (points[sign > 0][:, None] - points[sign < 0][None]).reshape(-1, points.shape[1])
        rest = target - along * axis
        residual = nnls((unlike - np.outer(unlike @ axis, axis)).T, rest, maxiter=10_000)[1]
        out.append(along**2 + rest @ rest - residual**2)
    return np.array(out)


@pytest.mark.parametrize(("power", "tol"), [(20, 1e-5), (27, 1e-6), (31, 1e-5), (35, 1e-4), (40, 3e-3)])
@pytest.mark.parametrize("axis", ["ones", "timestamps"])
def test_a_huge_common_offset_reaches_the_limit_of_the_cone(power, tol, axis):
    direction = {"ones": np.ones(6), "timestamps": np.array([1.0, 0, 0, 0, -0.3, 0])}[axis]
    x, (t, y) = clouds(), drawn(4, 6)
    found = capacity(x + 2.0**power * direction, draws=(t, y), resample=None)
    assert found.n_uncertified == 0
    assert not found.at_floor
    assert np.allclose(found.norms2.numpy(), at_infinity(x, direction, t, y), rtol=0, atol=tol * 10)
    assert found.capacity == pytest.approx(4 / at_infinity(x, direction, t, y).mean(), rel=tol)


@pytest.mark.parametrize("shape", [(2, 10, 3), (3, 1, 8), (6, 10, 20), (2, 3, 40), (5, 40, 4)])
def test_two_classes_single_points_and_wide_layers_reach_it_too(shape):
    x, (t, y) = clouds(*shape), drawn(shape[0], shape[2])
    found = capacity(x + 2.0**33, draws=(t, y), resample=None)
    expected = at_infinity(x, np.ones(shape[2]), t, y)
    sure = found.certified.numpy()
    assert sure.mean() > 0.98
    assert np.allclose(found.norms2.numpy()[sure], expected[sure], atol=1e-3)


def test_both_ways_to_solve_agree_where_one_takes_over():
    x, (t, y) = clouds(6, 10, 20), drawn(6, 20)
    size = np.linalg.norm(x - x.mean((0, 1)), axis=2).max() / np.sqrt(20)
    near, far = (capacity(x + size * c, draws=(t, y), resample=None) for c in (0.99 / FAR, 1.05 / FAR))
    assert brought_near(as_manifolds(x + size * 0.99 / FAR))[1] is None
    assert brought_near(as_manifolds(x + size * 1.05 / FAR))[1] is not None
    assert torch.allclose(near.norms2, far.norms2, atol=1e-3)
    for name in ("capacity", "dimension", "radius", "utility", "center_axis_alignment", "axis_alignment"):
        assert getattr(near, name) == pytest.approx(getattr(far, name), rel=1e-4), name
    assert torch.allclose(near.per_manifold.axis_ratio * 0.99, far.per_manifold.axis_ratio * 1.05, rtol=1e-4)
    assert torch.allclose(near.per_manifold.center_norm / 0.99, far.per_manifold.center_norm / 1.05, rtol=1e-3)
    assert torch.allclose(near.per_manifold.cost / 0.99, far.per_manifold.cost / 1.05, rtol=1e-2, atol=2)


def test_geometry_does_not_change_any_more_with_the_offset():
    x = clouds(6, 10, 20)
    near, *more = (capacity(x + 2.0**power, n_draws=40) for power in (14, 24, 34, 38))
    for far in more:
        for name in ("dimension", "radius", "radius_mean", "utility", "axis_alignment", "center_axis_alignment"):
            assert getattr(far, name) == pytest.approx(getattr(near, name), rel=2e-4), name
            if hasattr(near, name + "_se"):
                assert getattr(far, name + "_se") == pytest.approx(getattr(near, name + "_se"), rel=2e-3), name
        assert far.center_alignment == pytest.approx(1, abs=1e-8)
        assert far.frac_nonseparable == near.frac_nonseparable
        assert far.frac_inside == near.frac_inside
        assert far.capacity == pytest.approx(far.utility * (1 + far.radius**-2) / far.dimension, rel=1e-10)
        assert not far.notes


def test_the_parts_of_the_classes_still_add_up():
    found = capacity(clouds() + 2.0**30, n_draws=100, resample=None)
    if found.frac_inside == 0:
        assert float(found.per_manifold.cost.sum()) == pytest.approx(4 / found.capacity, rel=1e-6)
    else:
        assert float(found.per_manifold.cost.sum()) < 4 / found.capacity


def test_the_precision_of_the_data_decides_what_can_be_said():
    x = clouds(6, 10, 20).astype(np.float64)
    exact = capacity(x + 2.0**30, n_draws=40, resample=None)
    good = capacity((x + 2.0**13).astype(np.float32), n_draws=40, resample=None)
    assert good.capacity == pytest.approx(exact.capacity, rel=2e-3)
    assert not good.notes
    partly = capacity((x + 2.0**20).astype(np.float32), n_draws=40, resample=None)
    assert "partly rounding" in " ".join(partly.notes)
    assert "torch.float32" in " ".join(partly.notes)
    with pytest.raises(BadInput, match="one point, rounded"):
        capacity((x + 2.0**23).astype(np.float32), n_draws=40, resample=None)
    with pytest.raises(BadInput, match="one point, rounded"):
        capacity((x + 2.0**23).astype(np.float32).astype(np.float64), n_draws=40, resample=None)
    with pytest.raises(BadInput, match="one point, rounded"):
        capacity(x + 2.0**53, n_draws=40, resample=None)


def test_equal_points_are_exact_and_not_refused():
    found = capacity(np.ones((2, 3, 4)), n_draws=200, resample=None)
    assert abs(found.capacity - 2 / 0.75) < 5 * found.capacity_se


def test_a_constant_feature_far_away_takes_no_digits_from_the_others():
    x, (t, y) = clouds(), drawn(4, 7)
    wide = np.concatenate([x, np.full((4, 5, 1), 1e9)], 2)
    found = capacity(wide, draws=(t, y), resample=None)
    assert np.allclose(found.norms2.numpy(), at_infinity(wide, np.eye(7)[6], t, y), atol=1e-6)


def test_the_measure_reads_the_same_and_draws_of_samples_stay_common():
    x, labels = clouds(6, 10, 20).reshape(60, 20), np.repeat(np.arange(6), 10)
    found = [measured(Representation(x + 2.0**power, labels), n_draws=30) for power in (20, 36)]
    assert found[0]["capacity"].value == pytest.approx(found[1]["capacity"].value, rel=1e-5)
    assert found[1]["capacity"].ok
    assert found[1]["capacity"].note == "error over draws"
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    far = x + 2.0**24
    one, other = (
        capacity(v, labels, draws=common_draws(v, labels, n_draws=20), resample=None) for v in (far, far @ turn)
    )
    assert torch.allclose(one.norms2, other.norms2, rtol=1e-4)


def test_replica_and_simulated_capacity_keep_their_digits():
    x = clouds(6, 10, 20)
    near, far = (replica_capacity(x + c, n_draws=50) for c in (0.0, 2.0**36))
    for name in ("capacity", "radius", "dimension", "center_correlation"):
        assert getattr(near, name) == pytest.approx(getattr(far, name), rel=1e-3), name
    some, more = (simulated_capacity(x + c, n_trials=20) for c in (2.0**14, 2.0**40))
    assert some.n_undecided == more.n_undecided == 0
    assert some.capacity == pytest.approx(more.capacity, abs=1.5 * some.capacity_se)
    assert some.rank == more.rank == 20
    for measure in (replica_capacity, simulated_capacity):
        with pytest.raises(BadInput, match="one point, rounded"):
            measure(x + 2.0**53)


def test_simulated_capacity_far_away_is_that_of_the_projected_points():
    """Against a linear programme with a bias: far away, the projected axis is one."""
    x = clouds(4, 6, 8, seed=5)
    near, far = (simulated_capacity(x + 2.0**power, n_trials=60) for power in (11, 30))
    assert abs(near.capacity - far.capacity) < 4 * np.hypot(near.capacity_se, far.capacity_se)
    assert geometry.separability(*_flat(x + 2.0**11)).separable.all() == (far.frac_nonseparable == 0)


def _flat(x: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    owner = torch.arange(len(x)).repeat_interleave(x.shape[1])
    signs = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1], [1, 1, 1, -1]], dtype=torch.float64)
    return torch.from_numpy(x.reshape(-1, x.shape[2])), owner, signs


def test_one_class_far_away_shrinks_with_the_distance():
    x = clouds(1, 20, 5)
    near, *more = (capacity(x + 2.0**power, n_draws=100, resample=None) for power in (12, 21, 31, 37))
    for power, far in zip((9, 19, 25), more, strict=True):
        assert far.radius * 2.0**power == pytest.approx(near.radius, rel=1e-2)
        assert far.radius_mean * 2.0**power == pytest.approx(near.radius_mean, rel=1e-2)
        assert far.capacity == pytest.approx(near.capacity, rel=2e-3)
        assert far.capacity == pytest.approx(far.utility * (1 + far.radius**-2) / far.dimension, rel=1e-6)
