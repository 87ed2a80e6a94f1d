"""Draws whose anchors are one choice of many are counted; what is unique is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geomfeat.geometry import capacity, project_on_cones
from geomfeat.geometry.ambiguous import ambiguous
from tests.geometry.clouds import normal, signs, simplices, spheres


def filling() -> list[Tensor]:
    """Two classes whose points fill three of twelve dimensions together, and one in the others."""
    fills = [torch.nn.functional.pad(normal(12, 3, seed=k), (0, 9)) for k in range(2)]
    return [*fills, torch.nn.functional.pad(normal(6, 9, seed=2), (3, 0))]


CASES: dict[str, tuple[Tensor | list[Tensor], bool]] = {
    "spheres": (spheres(5, 8, 30, 0.7, 4), False),
    "simplices": (simplices(6, 3), False),
    "copies": (spheres(5, 8, 30, 0.7, 4).repeat_interleave(2, 1), False),
    "points at the origin": (torch.cat([spheres(5, 8, 30, 0.7, 4), torch.zeros(5, 1, 30).double()], 1), False),
    "points on one ray": (torch.arange(1.0, 5).double()[None, :, None] * normal(5, 1, 30), True),
    "classes that fill their span": (filling(), True),
}


@pytest.mark.parametrize("case", CASES)
def test_only_a_choice_of_anchors_is_counted(case: str):
    x, choice = CASES[case]
    found = capacity(x, n_draws=60)
    outside = int((~found.inside).sum())
    assert found.n_ambiguous > 0.8 * outside if choice else found.n_ambiguous == 0
    assert any("other points could carry" in note for note in found.notes) == choice


def test_where_nothing_is_ambiguous_every_method_finds_the_same_anchors():
    x = spheres(5, 12, 40, 0.7, 4)
    owner, t, y = torch.arange(5).repeat_interleave(12), normal(30, 40, seed=3), signs(30, 5)
    flat = x.reshape(60, 40)
    dense = []
    for method in ("gram", "columns", "orthogonal", "patient"):
        found = project_on_cones(flat, owner, t, y, method=method)
        assert not bool(ambiguous(flat, owner, y, found).any())
        weights = torch.zeros(30, 61, dtype=torch.float64).scatter_(1, found.support % 61, found.multipliers)
        dense.append(weights[:, :60])
    for other in dense[1:]:
        torch.testing.assert_close(other, dense[0], rtol=1e-8, atol=1e-10)


def test_the_two_points_of_a_ray_do_change_the_anchor():
    """What the count is for: the same projection, another anchor, by the order of the points alone."""
    x = torch.arange(1.0, 5).double()[None, :, None] * normal(5, 1, 30)
    one, other = capacity(x, n_draws=60), capacity(x.flip(1), n_draws=60)
    torch.testing.assert_close(one.norms2, other.norms2)
    assert not torch.allclose(one.per_manifold.anchor_norm, other.per_manifold.anchor_norm, rtol=0.01)
