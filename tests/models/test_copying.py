"""Deep copies of modules that hold computed tensors."""

from __future__ import annotations

import torch
from torch import nn

from geomfeat.models.copying import deep_copy


def test_computed_tensors_are_copied_as_values_and_the_original_is_left_alone() -> None:
    net = nn.Linear(2, 1)
    net.kept = {"list": [2 * net.weight], "twice": (net.bias, 3 * net.weight)}
    clone = deep_copy(net)
    assert not clone.kept["list"][0].requires_grad
    assert torch.equal(clone.kept["twice"][1], 3 * net.weight)
    assert clone.kept["twice"][0] is clone.bias
    assert net.kept["list"][0].requires_grad


def test_a_computed_tensor_that_is_held_twice_is_one_in_the_copy() -> None:
    net = nn.Linear(2, 1)
    net.a = net.b = 2 * net.weight
    clone = deep_copy(net)
    assert clone.a is clone.b
    assert clone.a is not net.a
