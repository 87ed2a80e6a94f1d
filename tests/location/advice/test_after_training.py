"""Advice after a training: the rule, and another training that follows it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.training import with_scaled_outputs
from tests.contract.result_examples import location


def test_another_training_is_lazier_by_what_was_asked() -> None:
    x = torch.randn(16, 6, generator=stream(0, "advise again"))
    y = (x[:, :1] * x[:, 1:2]).sign()
    net = with_scaled_outputs(mlp(6, (24,), 1, seed=0), 1.0)
    options = gf.PlainOptions(optimizer="sgd", lr=0.05, max_steps=3000, target_loss=0.2)
    run = gf.train_plainly(net, x, y, loss="mse", options=options)
    where = gf.locate(run.trained, x, initial=run.initial, optimizer=run.rates, progress=False,
                      options=gf.LocateOptions(n_bootstrap=2))  # fmt: skip
    advice = where.advise(where.richness - 1)
    assert advice.multiplier == pytest.approx(10.0)
    assert "lazier by 1.00 decades" in str(advice)
    assert advice.best.low == pytest.approx(where.low - 1)
    assert advice.best.kernel_demand == pytest.approx(where.kernel_demand - 1)
    assert not advice.best.verified
    scope = {"model": net, "optimizer": torch.optim.SGD(net.parameters(), lr=0.05)}
    exec(advice.code, scope)
    (group,) = scope["optimizer"].param_groups  # type: ignore[attr-defined]
    assert group["lr"] == pytest.approx(0.0005)
    options = replace(options, lr=group["lr"])
    again = gf.train_plainly(scope["model"], x, y, loss="mse", options=options)  # type: ignore[arg-type]
    assert again.converged
    there = gf.locate(again.trained, x, initial=again.initial, optimizer=again.rates, progress=False,
                      options=gf.LocateOptions(n_bootstrap=2))  # fmt: skip
    assert there.richness == pytest.approx(where.richness - 1, abs=0.12)


def test_what_limits_it_is_said() -> None:
    moved = replace(location(), richness=-1.0, excess=0.9, at_most=True, kernel_demand=-0.8)
    flags = moved.advise("rich").flags
    assert flags[0].startswith("Features moved 7.9 times as far as demanded")
    assert any("upper bound" in flag for flag in flags)
    assert moved.advise("rich").richness == pytest.approx(0.25)
    same = moved.advise("lazy")
    assert same.best.kind == "as it is"
    assert math.isnan(same.multiplier)
    with pytest.raises(BadInput, match="no hidden layer was trained"):
        replace(location(), regime="frozen").advise("lazy")
    with pytest.raises(BadInput, match="target='more'"):
        location().advise("more")
