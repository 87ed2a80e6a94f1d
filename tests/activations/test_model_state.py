"""The context managers that put a model back as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from geomfeat.activations import extract
from geomfeat.activations.model_state import (
    evaluating,
    same_buffers,
    same_mode,
    uncompiled,
    unfused_attention,
    with_gradients,
)


def fail_inside(context: AbstractContextManager[None], change: Callable[[], Any]) -> None:
    """Do something inside the context, then raise through it."""

    def body() -> None:
        with context:
            change()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        body()


def test_each_submodule_gets_its_own_flag_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[1].eval()
    fail_inside(same_mode(model), lambda: (model.eval(), model[1].train()))
    assert [m.training for m in model.modules()] == [True, True, False, True]


def test_buffers_get_values_shape_and_identity_back() -> None:
    model = nn.BatchNorm1d(2)
    mean, var, count = model.running_mean, model.running_var, model.num_batches_tracked
    model.running_var[0] = float("nan")

    def change() -> None:
        model.running_mean = torch.ones(3)
        var.fill_(7)
        count.add_(5)
        mean.resize_(4).fill_(2)

    fail_inside(same_buffers(model), change)
    assert model.running_mean is mean
    assert model.running_var is var
    assert mean.tolist() == [0, 0]
    assert var.isnan().tolist() == [True, False]
    assert float(var[1]) == 1
    assert int(count) == 0


def test_gradient_flags_come_back_and_no_gradient_is_left() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    seen: list[bool] = []
    with torch.no_grad():
        fail_inside(
            with_gradients(model),
            lambda: seen.extend([model(torch.ones(1, 2)).requires_grad, model.bias.requires_grad]),
        )
    assert seen == [True, True]
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert model.weight.grad is None


def test_evaluating_sets_flags_without_calling_eval_and_fixes_the_seed() -> None:
    class Merging(nn.Module):
        def train(self, mode: bool = True) -> nn.Module:
            raise AssertionError("changes weights")

    model = Merging()
    state = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with evaluating(model, torch.device("cpu"), seed=3):
            assert not model.training
            draws.append(torch.rand(3))
    assert torch.equal(*draws)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("before", [True, False])
def test_the_fast_path_switch_comes_back(before: bool) -> None:
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(before)
    try:
        seen: list[bool] = []
        fail_inside(unfused_attention(), lambda: seen.append(torch.backends.mha.get_fastpath_enabled()))
        assert seen == [False]
        assert torch.backends.mha.get_fastpath_enabled() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def test_nothing_is_imported_where_nothing_is_compiled() -> None:
    script = "import sys, torch; from geomfeat.activations.model_state import uncompiled\n"
    script += "with uncompiled(): torch.ones(1)\n"
    script += "sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_compiled_functions_run_their_own_code() -> None:
    seen: list[bool] = []

    @torch.compile(backend="eager")
    def doubled(x: Tensor) -> Tensor:
        seen.append(torch.compiler.is_compiling())
        return 2 * x

    with uncompiled():
        assert doubled(torch.ones(1)).item() == 2
    assert seen == [False]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_are_passed_over_without_a_warning(reentrant: bool) -> None:
    """torch warns of reentrant checkpoints whenever no input asks for gradients, as none does in an extraction."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.second, self.first(x).tanh(), use_reentrant=reentrant)

    model, x = Checkpointed(), torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    found = extract(model, x, layers=["second"], progress=False)["second"]
    assert_close(found.x, model.second(model.first(x).tanh()).detach())
