"""Measuring what a backward pass keeps, without keeping it."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from geomfeat.kernels import jvp, vjp
from geomfeat.kernels._memory import saved_bytes
from geomfeat.models.functional import Functional, functional


def test_saved_bytes_count_activations_and_not_parameters() -> None:
    # tanh keeps its 6 outputs, the last layer its 6 inputs (the same tensor), the first layer its 100 inputs.
    model = nn.Sequential(nn.Linear(100, 6), nn.Tanh(), nn.Linear(6, 2))
    total, largest = saved_bytes(functional(model), torch.ones(5, 100, dtype=torch.float64))
    assert (total, largest) == (106 * 8, 100 * 8)


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Softmax(1), nn.ELU(), nn.Softplus(), nn.LayerNorm(6)],
    ids=repr,
)
def test_products_leave_no_tensors_behind(activation: nn.Module) -> None:
    f = functional(nn.Sequential(nn.Linear(5, 6), activation, nn.Linear(6, 2)))
    inputs, cotangent = torch.randn(7, 5), torch.ones(7, 2)

    def products(times: int) -> None:
        for _ in range(times):
            jvp(f, inputs, vjp(f, inputs, cotangent))

    products(2)
    before = live_tensors()
    products(100)
    assert live_tensors() <= before


def test_measuring_leaves_no_tensors_behind() -> None:
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
    saved_bytes(functional(net), torch.ones(1, 5, dtype=torch.float64))
    before = live_tensors()
    for _ in range(5):
        saved_bytes(functional(net), torch.ones(1, 5, dtype=torch.float64))
    assert live_tensors() <= before


def test_sizes_are_measured_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    f = functional(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Tanh()))
    passes = 0
    plain = Functional.__call__

    def counted(self: Functional, *args: object) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return plain(self, *args)

    monkeypatch.setattr(Functional, "__call__", counted)
    short, long = torch.ones(4, 1, 8, dtype=torch.float64), torch.ones(4, 1, 80, dtype=torch.float64)
    assert saved_bytes(f, short) == saved_bytes(f, short[:2])
    assert passes == 1
    assert saved_bytes(f, long)[0] > saved_bytes(f, short)[0]
    assert passes == 2
