"""What moved is judged by values: flags, wrappers and the rounding of saved weights do not count."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geomfeat.models.functional import functional
from geomfeat.models.trained_parameters import (
    all_trainable,
    coarsest,
    functional_in,
    moved_parameters,
    with_iterations_of,
)


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


def mapped(model: nn.Module, function: Callable[[Tensor], Tensor]) -> nn.Module:
    copied = copy.deepcopy(model)
    copied.load_state_dict({name: function(value) for name, value in model.state_dict().items()})
    return copied


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rounded_start", [False, True])
def test_weights_rounded_to_half_precision_and_widened_again_did_not_move(
    half: torch.dtype, rounded_start: bool
) -> None:
    start = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 2), nn.Tanh(), nn.Linear(2, 1))
    end = copy.deepcopy(start)
    with torch.no_grad():
        end[4].weight.add_(1.0)
    start = mapped(start, Tensor.half) if rounded_start else start
    assert moved_parameters(start, mapped(end, lambda value: value.to(half))) == {"4.weight"}
    widened = mapped(start, lambda value: value.to(half))
    assert coarsest(widened, start) == coarsest(start, widened) == half


def test_a_few_steps_of_rounding_are_no_movement_and_more_are() -> None:
    start = net()
    assert moved_parameters(start, mapped(start, lambda value: value * (1 / 3) * 3)) == frozenset()
    assert len(moved_parameters(start, mapped(start, lambda value: value * (1 + 1e-5)))) == 4
    start = start.double()
    assert moved_parameters(start, mapped(start, lambda value: value + 1e-12)) == set(start.state_dict())


def test_a_scaled_direction_that_changes_no_weight_did_not_move() -> None:
    start = nn.utils.parametrizations.weight_norm(nn.Linear(30, 4))
    end = copy.deepcopy(start)
    with torch.no_grad():
        end.parametrizations.weight.original1.mul_(1.7)
    assert moved_parameters(start, end) == frozenset()
    with torch.no_grad():
        end.parametrizations.weight.original0.mul_(1.7)
    assert moved_parameters(start, end) == {f"parametrizations.weight.original{i}" for i in (0, 1)}


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_power_iterations_go_on_without_training(norm: Callable[[nn.Module], nn.Module]) -> None:
    start = nn.Sequential(norm(nn.Linear(30, 20)), nn.Linear(20, 1))
    end = copy.deepcopy(start).train()
    for _ in range(30):
        end(torch.ones(2, 30))
    assert moved_parameters(start, end) == frozenset()
    assert moved_parameters(with_iterations_of(start, end), end) == frozenset()
    settled = with_iterations_of(start.eval(), end.eval())
    assert torch.equal(settled(torch.ones(2, 30)), end(torch.ones(2, 30)))
    assert with_iterations_of(end, end) is end


def test_a_parameter_of_another_shape_or_none_counts_as_moved() -> None:
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    assert {"2.weight", "2.bias"} <= moved_parameters(net(), other)


def test_a_weight_that_moved_by_a_buffer_counts_by_what_it_is_made_of() -> None:
    """`orthogonal` keeps the matrix that it turns in a buffer, and starts every parameter alike."""
    orthogonal = nn.utils.parametrizations.orthogonal
    start, end = orthogonal(nn.Linear(4, 4, bias=False)), orthogonal(nn.Linear(4, 4, bias=False))
    assert torch.equal(*(m.parametrizations.weight.original for m in (start, end)))
    assert moved_parameters(start, end) == {"parametrizations.weight.original"}


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(1, 3)), nn.Parameter(torch.zeros(4, 1))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.up @ self.down


def test_the_base_under_an_adapter_did_not_move_although_the_weight_did() -> None:
    start = nn.Linear(3, 4)
    nn.utils.parametrize.register_parametrization(start, "weight", LowRank())
    end = copy.deepcopy(start)
    with torch.no_grad():
        end.parametrizations.weight[0].up.add_(1.0)
    assert moved_parameters(start, end) == {"parametrizations.weight.0.up"}
    with torch.no_grad():
        end.parametrizations.weight[0].down.mul_(2.0)
    assert moved_parameters(start, end) == {f"parametrizations.weight.0.{name}" for name in ("up", "down")}


def test_all_or_some_parameters_are_differentiated_and_flags_come_back() -> None:
    model = net()
    model[0].requires_grad_(False)
    assert set(functional_in(model).theta) == set(dict(model.named_parameters()))
    assert set(functional_in(model, {"0.bias"}).theta) == {"0.bias"}
    assert set(functional(model).theta) == {"2.weight", "2.bias"}
    with all_trainable(model):
        assert all(p.requires_grad for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
