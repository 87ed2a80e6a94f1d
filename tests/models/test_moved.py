"""What moved is told by values: flags, wrappers and the rounding of saved weights do not count."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geomfeat.models.functional import functional
from geomfeat.models.moved import all_trainable, coarsest, functional_in, moved_parameters


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def with_head_moved(start: nn.Module) -> nn.Module:
    end = copy.deepcopy(start)
    with torch.no_grad():
        end[2].weight.add_(0.1)
    return end


@pytest.mark.parametrize("flag", [True, False])
def test_values_tell_and_flags_do_not(flag: bool) -> None:
    start = net()
    end = with_head_moved(start)
    start[2].requires_grad_(flag)
    end.requires_grad_(not flag)
    assert moved_parameters(start, end) == {"2.weight"}
    assert moved_parameters(start, copy.deepcopy(start)) == frozenset()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_rounding_of_a_saved_type_is_no_movement(dtype: torch.dtype) -> None:
    start = net()
    assert moved_parameters(start, with_head_moved(start).to(dtype)) == {"2.weight"}
    assert coarsest(start, net().bfloat16()) == torch.bfloat16


def test_a_parameter_of_another_shape_or_none_counts_as_moved() -> None:
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    assert {"2.weight", "2.bias"} <= moved_parameters(net(), other)


def test_a_weight_that_moved_by_a_buffer_counts_by_what_it_is_made_of() -> None:
    """`orthogonal` keeps the matrix that it turns in a buffer, and starts every parameter alike."""
    orthogonal = nn.utils.parametrizations.orthogonal
    start, end = orthogonal(nn.Linear(4, 4, bias=False)), orthogonal(nn.Linear(4, 4, bias=False))
    assert torch.equal(*(m.parametrizations.weight.original for m in (start, end)))
    assert moved_parameters(start, end) == {"parametrizations.weight.original"}


def test_all_or_some_parameters_are_differentiated_and_flags_come_back() -> None:
    model = net()
    model[0].requires_grad_(False)
    assert set(functional_in(model).theta) == set(dict(model.named_parameters()))
    assert set(functional_in(model, {"0.bias"}).theta) == {"0.bias"}
    assert set(functional(model).theta) == {"2.weight", "2.bias"}
    with all_trainable(model):
        assert all(p.requires_grad for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
