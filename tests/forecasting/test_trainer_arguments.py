"""Arguments of a Trainer of transformers beside the optimizer that it makes of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.forecasting.trainer_arguments import is_training_arguments, of_training_arguments
from geomfeat.models.mlp import mlp
from tests.forecasting.test_forecast import digits

FEW = gf.ForecastOptions(n_bootstrap=2, n_probes=8)


def arguments(**changed: Any) -> SimpleNamespace:
    given = {"learning_rate": 1e-3, "optim": "adamw_torch", "weight_decay": 0.1, "max_steps": -1}
    return SimpleNamespace(**{**given, **changed})


def test_a_forecast_by_arguments_is_that_by_the_optimizer() -> None:
    x, y = digits()
    net = mlp(64, (12,), 10, seed=0)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    one, other = (
        gf.forecast(net, x, y, loss="mse", target_loss=0.3, optimizer=given, options=FEW)
        for given in (arguments(optim="sgd", learning_rate=0.01, weight_decay=0.0), sgd)
    )
    assert one.to_frame().equals(other.to_frame())
    assert (one.optimizer, one.rate, one.steps) == (other.optimizer, other.rate, other.steps)
    assert one.flags == other.flags
    scheduled = arguments(optim="sgd", learning_rate=0.01, lr_scheduler_type="linear", warmup_steps=5)
    flags = gf.forecast(net, x, y, loss="mse", target_loss=0.3, optimizer=scheduled, options=FEW).flags
    assert any("rate is taken as constant" in flag and "'linear' with warm-up" in flag for flag in flags)


def test_max_steps_ends_the_training_where_nothing_else_does() -> None:
    x, y = digits()
    net = mlp(64, (12,), 10, seed=0)
    given = arguments(optim="sgd", learning_rate=0.001, max_steps=30)
    assert gf.forecast(net, x, y, loss="mse", optimizer=given, options=FEW).details["n_steps"] == 30
    for ends, wanted in (((0.5, None), None), ((None, 7), 7)):
        assert of_training_arguments(given, net, *ends)[1] == wanted


def test_those_of_transformers_make_the_groups_of_its_trainer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    given = transformers.TrainingArguments(
        output_dir=str(tmp_path), learning_rate=3e-4, weight_decay=0.02, adam_beta2=0.95, report_to=[], use_cpu=True
    )
    assert is_training_arguments(given)
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    net[2].weight.requires_grad_(False)
    theirs = transformers.Trainer(net, given).create_optimizer()
    made, steps, assumed = of_training_arguments(given, net, 0.1, None)
    assert steps is None
    assert type(made).__name__ == type(theirs).__name__ == "AdamW"
    names = {id(p): name for name, p in net.named_parameters()}
    seen = [
        {names[id(p)]: (g["lr"], tuple(g["betas"]), g["eps"], g["weight_decay"]) for g in o.param_groups
         for p in g["params"]}
        for o in (made, theirs)
    ]  # fmt: skip
    assert seen[0] == seen[1]
    assert seen[0]["1.weight"][3] == 0.0
    assert any("'linear'" in text for text in assumed)
    assert any("norm of 1" in text for text in assumed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"optim": "galore_adamw"}, "optim='galore_adamw'"), ({"learning_rate": 0.0}, "learning_rate=0")],
)
def test_arguments_that_cannot_be_followed_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        of_training_arguments(arguments(**changed), nn.Linear(2, 1), 0.1, None)
