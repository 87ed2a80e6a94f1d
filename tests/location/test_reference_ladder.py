"""Ladders for models of any optimizer: rungs descend at its rates by layer, and R is in its coordinates."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location import LocateOptions, locate
from geomfeat.location.reference_ladder import Ladder, train_ladder
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.tangent import OptimizerRates
from tests.geometry.clouds import normal

X, Y = normal(40, 4, seed=5), normal(40, 2, seed=6)
# Where more of the loss is left, the scale fitted to the labels is not gamma, for plain descent neither.
GAMMAS, TARGET = (0.3, 3.0), 0.1
FAST: dict[str, Any] = {"progress": False, "options": LocateOptions(n_bootstrap=2, n_probes=40)}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2)).double()


def ladder(optimizer: Any = None) -> Ladder:
    return train_ladder(
        net(), X, Y, GAMMAS, target_loss=TARGET, n_probes=40, optimizer=optimizer, progress=False
    )  # fmt: skip


@cache
def plain_ladder() -> Ladder:
    return ladder()


def test_equal_rates_make_the_ladder_of_plain_descent() -> None:
    plain, known = plain_ladder(), ladder({"*": 0.1})
    assert plain.metric == known.metric == "given rates"
    assert plain.rungs["richness"].tolist() == known.rungs["richness"].tolist()
    start = net()
    for gamma, richness in zip(GAMMAS, plain.rungs["richness"], strict=True):
        trained = train_at_gamma(start, X, Y, gamma=gamma, target_loss=TARGET)
        assert richness == pytest.approx(locate(trained.model, X, initial=start, **FAST).richness, rel=1e-9)


@cache
def trained_by(kind: str, gamma: float = 1.0) -> tuple[nn.Module, Any]:
    """A network trained at gamma with rates by layer, or by Adam; and its optimizer."""
    by_layer = {"*": 1.0, "0": 10.0, "4": 0.05}
    options = TrainOptions(optimizer="adam" if kind == "Adam state" else "sgd", lr_multipliers=by_layer)
    trained = train_at_gamma(net(), X, Y, gamma=gamma, target_loss=TARGET, max_steps=6000, options=options)
    assert trained.converged
    return trained.model, trained.rates


@pytest.mark.parametrize("kind", ["given rates", "Adam state"])
def test_gamma_is_read_in_the_coordinates_of_the_optimizer(kind: str) -> None:
    model, rates = trained_by(kind)
    found = locate(model, X, Y, initial=net(), optimizer=rates, ladder=3, **FAST)
    assert found.metric == kind
    assert found.equivalent_gamma is not None
    assert np.log10(found.equivalent_gamma) == pytest.approx(0, abs=0.15)


def test_rungs_descend_at_the_rates_by_layer_and_leave_out_what_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainOptions] = []

    def spied(*given: Any, options: TrainOptions, **more: Any) -> Any:
        seen.append(options)
        return train_at_gamma(*given, options=options, **more)

    monkeypatch.setattr("geomfeat.location.reference_ladder.train_at_gamma", spied)
    made = ladder({"0.*": 0.2, "2.*": 0.1})
    want = {"0.weight": 1.0, "0.bias": 1.0, "2.weight": 0.5, "2.bias": 0.5, "4.weight": 0.0, "4.bias": 0.0}
    assert [options.lr_multipliers for options in seen] == [want] * 2
    assert np.isfinite(np.asarray(made.rungs["richness"], float)).all()


def test_a_ladder_in_other_coordinates_is_refused(tmp_path: Path) -> None:
    model, rates = trained_by("Adam state")
    with pytest.raises(BadInput, match="measured in the coordinates of 'given rates', the model in those of 'Adam"):
        locate(model, X, Y, initial=net(), optimizer=rates, ladder=plain_ladder(), **FAST)
    again = Ladder.load(ladder(rates).save(tmp_path / "ladder.json"))
    assert again.metric == "Adam state"
    assert locate(model, X, Y, initial=net(), optimizer=rates, ladder=again, **FAST).equivalent_gamma is not None
    old = json.loads((tmp_path / "ladder.json").read_text())
    del old["metric"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert Ladder.load(tmp_path / "old.json").metric == "given rates"


def test_an_optimizer_of_another_model_makes_no_ladder() -> None:
    other: dict[str, Tensor] = {"0.weight": torch.ones(3, 3)}
    with pytest.raises(BadInput, match=r"holds \(3, 3\) where parameter '0.weight'"):
        ladder(OptimizerRates(dict.fromkeys(dict(copy.deepcopy(net()).named_parameters()), 1.0), other))
