"""Measuring what a backward pass keeps, without keeping it."""

from __future__ import annotations

import copy
import gc
import importlib
from typing import Any

import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.errors import OutOfMemory
from geomfeat.models.functional import Functional, functional
from geomfeat.tangent import jacobian, jvp, saved_bytes, vjp


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
    products(20)
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


def test_locations_leave_no_tensors_behind() -> None:
    start = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
    end = copy.deepcopy(start)
    with torch.no_grad():
        for parameter in end.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = torch.randn(8, 5)

    def locations(times: int) -> None:
        for _ in range(times):
            gf.locate(end, inputs, initial=start, progress=False, options=gf.LocateOptions(n_bootstrap=2))

    locations(2)
    before = live_tensors()
    locations(3)
    assert live_tensors() <= before


SAID = "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Passes of more than `most` samples fail as torch does on Linux; the sizes that were tried."""
    tried = []
    plain = Functional.__call__

    def call(self: Functional, theta: Any, inputs: Any) -> torch.Tensor:
        tried.append(len(inputs))
        if len(inputs) > most:
            raise RuntimeError(SAID)
        return plain(self, theta, inputs)

    monkeypatch.setattr(Functional, "__call__", call)
    return tried


def test_products_are_taken_in_smaller_batches_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    f = functional(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)))
    inputs, cotangent = f.inputs(torch.randn(9, 5)), torch.ones(9, 2)
    direction = vjp(f, inputs, cotangent)
    expected = jvp(f, inputs, direction)
    tried = limited(monkeypatch, 4)
    monkeypatch.setattr("geomfeat.tangent.jacobians.products.BUDGET", 9 * 2 * saved_bytes(f, inputs)[0])
    for name, pulled in vjp(f, inputs, cotangent).items():
        torch.testing.assert_close(pulled, direction[name])
    torch.testing.assert_close(jvp(f, inputs, direction), expected)
    assert max(tried) == 9
    limited(monkeypatch, 0)
    with pytest.raises(OutOfMemory, match=r"a product with the Jacobian takes .* GB are free: restrict params="):
        vjp(f, inputs, cotangent)


def test_what_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = nn.Linear(400, 100), torch.randn(40, 400)
    monkeypatch.setattr("geomfeat.memory.free_bytes", lambda *_: 2**20)
    with pytest.raises(OutOfMemory, match=r"the Jacobian of 40 samples x 100 outputs x 40100 parameters takes 1.3 GB, "
                                          r"and 0.001 GB are free: use fewer samples"):  # fmt: skip
        jacobian(functional(net), inputs)
    monkeypatch.setattr(importlib.import_module("geomfeat.tangent._ntk"), "free_bytes", lambda *_: 2**10)
    with pytest.raises(OutOfMemory, match=r"the tangent kernel of 40 samples .* does not fit"):
        gf.ntk(net, inputs)
