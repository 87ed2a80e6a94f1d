"""Kinds of labels."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import draw_dichotomies
from geomfeat.geometry.manifolds.dichotomies import KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_manifolds", [1, 2, 5, 8])
def test_rows_are_signs_with_the_right_number_of_positives(kind: str, n_manifolds: int):
    y = draw_dichotomies(kind, 500, n_manifolds)
    assert y.shape == (500, n_manifolds)
    assert (y.abs() == 1).all()
    positive = set((y > 0).sum(1).tolist())
    allowed = {
        "random": set(range(n_manifolds + 1)),
        "one-vs-rest": {1, n_manifolds - 1},
        "balanced": {n_manifolds // 2, -(-n_manifolds // 2)},
    }[kind]
    assert positive <= allowed
    # Every class is positive about half of the time: 500 draws, five standard errors.
    assert ((y > 0).double().mean(0) - 0.5).abs().max() < 5 * 0.5 / 500**0.5


def test_same_seed_same_labels_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    assert torch.equal(draw_dichotomies("balanced", 20, 6, 3), draw_dichotomies("balanced", 20, 6, 3))
    assert not torch.equal(draw_dichotomies("balanced", 20, 6, 3), draw_dichotomies("balanced", 20, 6, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_kind_is_named():
    with pytest.raises(BadInput, match="dichotomies='halves'"):
        draw_dichotomies("halves", 5, 4)
