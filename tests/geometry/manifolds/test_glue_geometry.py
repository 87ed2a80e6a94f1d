"""GLUE geometry against its definition by loops and pseudo-inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.geometry.manifolds import capacity, project_on_cones
from geomfeat.geometry.manifolds.anchor_points import anchors_of
from tests.geometry.clouds import normal, segments, signs, spheres
from tests.reference import geometry as reference


@pytest.mark.parametrize(
    "x", [spheres(5, 6, 14, 0.8, 4), spheres(4, 8, 6, 0.8, 4), 100 * normal(3, 4, 30)], ids=["plain", "inside", "wide"]
)
def test_geometry_equals_its_definition(x: torch.Tensor):
    n_manifolds, points, n = x.shape
    t, y = normal(40, n, seed=3), signs(40, n_manifolds, seed=3)
    owner = torch.arange(n_manifolds).repeat_interleave(points)
    found = project_on_cones(x.reshape(-1, n), owner, t, y)
    dense = []
    for support, weight in zip(found.support, found.multipliers, strict=True):
        l = np.zeros(n_manifolds * points)
        l[support[support >= 0].numpy()] = weight[support >= 0].numpy()
        dense.append(l.reshape(n_manifolds, points))
    use = ~found.inside.numpy()
    expected = reference.glue(x.numpy(), t.numpy(), y.numpy(), dense, use, float(found.norms2.mean()))
    got = capacity(x, draws=(t, y), resample=None)
    for name, value in expected.items():
        assert getattr(got, name) == pytest.approx(value, rel=1e-7), name


def test_the_projection_is_that_on_the_span_of_the_anchors():
    """p'p = (S t)' (S S')^+ (S t) with rows y_i s_i of the active manifolds."""
    x = spheres(6, 8, 20, 0.8, 4)
    t, y = normal(30, 20, seed=3), signs(30, 6, seed=3)
    owner = torch.arange(6).repeat_interleave(8)
    found = project_on_cones(x.reshape(-1, 20), owner, t, y)
    anchors = anchors_of(x.reshape(-1, 20), owner, y, found)
    for d in range(30):
        s = (y[d, :, None] * anchors.s[d])[anchors.active[d]]
        z = s @ t[d]
        assert float(z @ torch.linalg.pinv(s @ s.T) @ z) == pytest.approx(float(found.norms2[d]), rel=1e-11)


def test_anchors_lie_in_the_hull_of_their_manifold():
    x = segments(6, 0.5)
    t, y = normal(30, 12, seed=3), signs(30, 6, seed=3)
    owner = torch.arange(6).repeat_interleave(2)
    anchors = anchors_of(x.reshape(-1, 12), owner, y, project_on_cones(x.reshape(-1, 12), owner, t, y))
    along = torch.stack([anchors.s[:, i, 6 + i] for i in range(6)], 1)
    assert (along.abs() <= 0.5 + 1e-12).all()
    ends = along[anchors.active].abs()
    assert 0 < int((ends > 0.499999).sum()) < len(ends)  # ends and inner points both occur
    assert not bool(anchors.s[~anchors.active].any())
