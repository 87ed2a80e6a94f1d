"""replica_capacity as a registered measure."""

from __future__ import annotations

import torch

from geomfeat import geometry
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal, segments


def labelled(x: torch.Tensor) -> Representation:
    return Representation(x.reshape(-1, x.shape[2]), torch.arange(x.shape[0]).repeat_interleave(x.shape[1]))


def test_a_known_capacity_within_its_error():
    found = get("replica_capacity").run(labelled(segments(10, 0.3)), n_draws=200)
    expected = geometry.ball_capacity(0.3 / 0.9**0.5, 1)
    assert abs(found["capacity"].value - expected) < 4 * found["capacity"].stderr
    assert abs(found["dimension"].value - 1) < 4 * found["dimension"].stderr


def test_every_quantity_is_the_function_s():
    rep = labelled(normal(4, 6, 12))
    options = {"n_draws": 30, "kappa": 0.2, "center_rank": "auto", "seed": 2}
    found, direct = get("replica_capacity").run(rep, **options), geometry.replica_capacity(rep, **options)
    assert {name: estimate.value for name, estimate in found.items()} == {q: getattr(direct, q) for q in found}


def test_classes_without_centres_fail_with_the_reason():
    x = normal(1, 4, 6)
    found = get("replica_capacity").run(labelled(torch.cat([x, -x], 1).repeat(2, 1, 1)))
    assert all(not e.ok and "no centre apart from the mean" in e.note for e in found.values())
