"""Trainings in this process: they end at the loss, move what they should, and the stable rate is one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from geomfeat.comparison.validation.outcomes.descent import at_gamma, by_optimizer, grouped, stable_rate
from geomfeat.comparison.validation.outcomes.training import teacher_task
from geomfeat.errors import GeomfeatError
from geomfeat.models.mlp import mlp

TASK = teacher_task(0, n=20, outputs=1)


def net() -> nn.Module:
    return mlp(10, (16,), 1, seed=0).double()


def test_a_training_ends_at_its_loss_and_leaves_the_start_as_it_was() -> None:
    begun = net()
    kept = copy.deepcopy(begun.state_dict())
    rate = stable_rate(begun, TASK)
    for found in (
        by_optimizer(begun, TASK, lambda m: torch.optim.SGD(m.parameters(), lr=rate), target_loss=0.2),
        at_gamma(begun, TASK, 1.0, target_loss=0.2),
    ):
        assert 0.15 < found.loss <= 0.2
        assert all(torch.equal(value, kept[name]) for name, value in found.initial.state_dict().items())
        change = (found.trained(TASK.inputs) - found.initial(TASK.inputs)).detach()
        share = float((change - TASK.targets).square().sum() / TASK.targets.square().sum())
        assert share == pytest.approx(found.loss, rel=1e-6)


def test_a_linear_model_diverges_beyond_twice_the_stable_rate() -> None:
    line = nn.Sequential(nn.Linear(10, 1, bias=False)).double()
    rate = stable_rate(line, TASK)

    def trained(factor: float) -> float:
        make = lambda m: torch.optim.SGD(m.parameters(), lr=factor * rate)  # noqa: E731
        return by_optimizer(line, TASK, make, target_loss=0.0, max_steps=400).loss

    assert trained(1.9) < 1
    with pytest.raises(GeomfeatError, match="diverged"):
        trained(2.1)


def test_the_stable_rate_counts_ratios_and_output_scale() -> None:
    plain = stable_rate(net(), TASK)
    assert stable_rate(net(), TASK, {"*": 4.0}) == pytest.approx(plain / 4)
    assert stable_rate(net(), TASK, gamma=0.1) == pytest.approx(plain / 100)
    assert plain < stable_rate(net(), TASK, {"fc1.*": 1.0, "head.*": 1e-9}) < float("inf")


def test_a_rate_of_zero_freezes() -> None:
    found = at_gamma(net(), TASK, 1.0, rates={"fc1.*": 0.0, "head.*": 1.0}, target_loss=0.5)
    moved = {
        name for name, p in found.trained.named_parameters() if not torch.equal(p, found.initial.get_parameter(name))
    }
    assert moved == {"head.weight", "head.bias"}
    assert found.given() == {"head.*": 1.0}


def test_groups_have_the_rates_of_their_globs() -> None:
    groups = grouped(net(), {"fc1.*": 2.0, "head.weight": 0.5, "head.bias": 0.0}, 0.1)
    rates = {name: group["lr"] for group in groups for name, _ in group["params"]}
    assert rates == {"fc1.weight": 0.2, "fc1.bias": 0.2, "head.weight": 0.05}
