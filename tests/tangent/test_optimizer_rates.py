"""Rates and sizes of gradients in torch's optimizers, by hand; and optimizers that cannot be those of the model."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, OutputExists
from geomfeat.models.weights import save_weights
from geomfeat.tangent.optimizer_rates import OptimizerRates, optimizer_rates


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> list[dict[str, Tensor]]:
    """Gradients of every step."""
    torch.manual_seed(1)
    x, found = torch.randn(5, 3), []
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        found.append({name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
    return found


def test_groups_have_their_rates_by_identity_names_and_order() -> None:
    model = net()
    groups = [{"params": model[2].parameters(), "lr": 0.3}, {"params": model[0].parameters()}]
    want = {"0.weight": 0.1, "0.bias": 0.1, "2.weight": 0.3, "2.bias": 0.3}
    assert optimizer_rates(torch.optim.SGD(groups, lr=0.1), model).rates == want
    named = [
        {"params": [(f"2.{n}", p) for n, p in model[2].named_parameters()], "lr": 0.3},
        {"params": [(f"0.{n}", p) for n, p in model[0].named_parameters()]},
    ]
    by_name = torch.optim.SGD(named, lr=0.1)
    assert optimizer_rates(by_name.state_dict(), copy.deepcopy(model)).rates == want
    one = torch.optim.SGD(model.parameters(), lr=0.2)
    assert optimizer_rates(one.state_dict(), model).rates == dict.fromkeys(want, 0.2)
    assert optimizer_rates(one, copy.deepcopy(model)).rates == dict.fromkeys(want, 0.2)


def test_a_schedule_is_left_aside() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    assert set(optimizer_rates(optimizer, model).rates.values()) == {0.2}


def test_patterns_give_rates_and_later_ones_count() -> None:
    assert optimizer_rates({"*": 1, "2.*": 0.5}, net()).rates == {
        "0.weight": 1.0, "0.bias": 1.0, "2.weight": 0.5, "2.bias": 0.5
    }  # fmt: skip


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam])
def test_the_size_of_gradients_is_the_unbiased_root_mean_square(kind: Any) -> None:
    model = net()
    optimizer = kind(model.parameters(), lr=0.01, betas=(0.9, 0.95))
    gradients = stepped(model, optimizer)
    weights = [0.05 * 0.95**k for k in range(3)][::-1]
    for found in (optimizer_rates(optimizer, model), optimizer_rates(optimizer.state_dict(), model)):
        assert found.adaptive == set(found.rates)
        for name, size in found.sizes.items():
            squares = sum(w * g[name].square() for w, g in zip(weights, gradients, strict=True)) / sum(weights)
            torch.testing.assert_close(size.square(), squares, rtol=1e-5, atol=1e-12)


def test_other_running_sizes_are_read() -> None:
    model = net()
    by_squares = torch.optim.RMSprop(model.parameters(), lr=0.01, alpha=0.5)
    gradients = stepped(copy.deepcopy(model), torch.optim.SGD(model.parameters(), lr=0.0), 1)
    stepped(model, by_squares, 1)
    for name, size in optimizer_rates(by_squares, model).sizes.items():
        torch.testing.assert_close(size, gradients[0][name].abs() * 0.5**0.5, rtol=1e-5, atol=1e-12)
    model = net()
    adafactor = torch.optim.Adafactor(model.parameters(), lr=0.01, eps=(None, 1e-30))
    stepped(model, adafactor, 1)
    size = optimizer_rates(adafactor, model).sizes["0.weight"]
    squares = gradients[0]["0.weight"].square()
    rank_one = squares.mean(1, keepdim=True) * squares.mean(0, keepdim=True) / squares.mean()
    torch.testing.assert_close(size.square(), rank_one, rtol=1e-4, atol=1e-12)


def test_optimizers_without_a_step_are_known_to_be_adaptive() -> None:
    model = net()
    fresh = optimizer_rates(torch.optim.AdamW(model.parameters(), lr=0.01), model)
    assert (fresh.sizes, fresh.adaptive) == ({}, set(fresh.rates))
    plain = optimizer_rates(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), model)
    assert plain.adaptive == set()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    assert optimizer_rates(torch.optim.Muon(matrices, lr=0.01), model).orthogonal == {"0.weight", "2.weight"}


def test_a_file_gives_the_same_as_what_was_saved(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    stepped(model, optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "last.ckpt")
    found, want = optimizer_rates(tmp_path / "last.ckpt", net()), optimizer_rates(optimizer, model)
    assert (found.rates, found.adaptive) == (want.rates, want.adaptive)
    torch.testing.assert_close(dict(found.sizes), dict(want.sizes))
    (tmp_path / "rates.json").write_text('{"*": 0.1, "2.*": 0.3}')
    assert optimizer_rates(str(tmp_path / "rates.json"), model).rates["2.bias"] == 0.3
    with pytest.raises(BadInput, match=r"optimizer '.*last.ckpt': it holds \(4, 3\) where parameter 'weight' of"):
        optimizer_rates(tmp_path / "last.ckpt", nn.Linear(2, 2))


def test_saved_rates_are_the_same_again(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    stepped(model, optimizer)
    first = optimizer_rates(optimizer, model)
    want = OptimizerRates(first.rates, first.sizes, first.adaptive, frozenset({"2.weight"}))
    path = want.save(tmp_path / "deep" / "optimizer.safetensors")
    for found in (OptimizerRates.load(path), optimizer_rates(path, model), optimizer_rates(str(path), net())):
        assert (found.rates, found.adaptive, found.orthogonal) == (want.rates, want.adaptive, want.orthogonal)
        torch.testing.assert_close(dict(found.sizes), dict(want.sizes), rtol=0, atol=0)
    assert path.read_bytes() == want.save(path).read_bytes()
    plain = OptimizerRates({"0.weight": 0.1})
    assert OptimizerRates.load(plain.save(tmp_path / "plain.safetensors")).rates == {"0.weight": 0.1}
    with pytest.raises(BadInput, match=r"holds \(4, 3\) where parameter '0.weight' of the model is \(5, 3\)"):
        optimizer_rates(path, nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))


def test_files_that_hold_no_rates_are_refused(tmp_path: Path) -> None:
    weights = save_weights(net(), tmp_path / "weights.safetensors")
    with pytest.raises(BadInput, match="holds no optimizer: it is a file of weights"):
        optimizer_rates(weights, net())
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:90])
    with pytest.raises(BadInput, match="cannot be read"):
        OptimizerRates.load(tmp_path / "cut.safetensors")
    with pytest.raises(BadInput, match="no such file"):
        OptimizerRates.load(tmp_path / "absent.safetensors")
    with pytest.raises(BadInput, match=r"saved as \.safetensors"):
        OptimizerRates({"0.weight": 1.0}).save(tmp_path / "rates.pt")
    (tmp_path / "mine.safetensors").write_text("mine")
    with pytest.raises(OutputExists):
        OptimizerRates({"0.weight": 1.0}).save(tmp_path / "mine.safetensors")


def test_states_by_name_and_sizes_of_other_shapes_are_read() -> None:
    """As torch's distributed checkpoints name parameters; and rules with one size for a tensor, or in blocks."""
    groups = [{"params": ["2.bias", "0.bias", "0.weight", "2.weight"], "lr": 0.1, "betas": (0.9, 0.99)}]
    state = {
        "0.weight": {"exp_avg": torch.ones(4, 3), "exp_avg_sq": torch.tensor(4.0)},
        "2.weight": {"exp_avg": torch.ones(2, 4), "exp_avg_sq": torch.ones(5)},
        "2.bias": {"exp_avg_sq": torch.tensor([1.0, 9.0])},
    }
    found = optimizer_rates({"param_groups": groups, "state": state}, net())
    assert found.adaptive == set(found.rates) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    torch.testing.assert_close(
        dict(found.sizes),
        {"0.weight": torch.full((4, 3), 2.0).double(), "2.bias": torch.tensor([1.0, 3.0]).double()},
    )


def test_a_complex_parameter_has_a_size_for_each_part() -> None:
    model = nn.Linear(3, 2, dtype=torch.complex64)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3, dtype=torch.complex64)).abs().square().sum().backward()
    gradient = model.weight.grad
    assert gradient is not None
    optimizer.step()
    size = optimizer_rates(optimizer, model).sizes["weight"]
    torch.testing.assert_close(size, torch.view_as_real(gradient).abs().double(), rtol=1e-4, atol=1e-7)


def without_steps(model: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    stepped(model, optimizer)
    state = optimizer.state_dict()
    for part in state["state"].values():
        part["step"] = torch.tensor(0.0)
    return state


def with_squares(model: nn.Module, value: float) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    stepped(model, optimizer)
    state = optimizer.state_dict()
    state["state"][0]["exp_avg_sq"][0] = value
    return state


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: torch.optim.SGD(nn.Linear(3, 4).parameters(), lr=0.1), "holds 2 parameters, the model 4"),
        (lambda m: torch.optim.SGD(nn.Linear(5, 4).parameters(), lr=0.1), r"holds \(4, 5\) where parameter '0.weight'"),
        (
            lambda m: torch.optim.SGD([*nn.Linear(5, 4).parameters(), *m[2].parameters()], lr=0.1),
            r"holds \(4, 5\) where parameter '0.weight' of the model is \(4, 3\)",
        ),
        (
            lambda m: torch.optim.SGD(
                [{"params": m[0].parameters()}, {"params": m[2].parameters()}], lr=1
            ).state_dict(),
            "2 groups without parameter names",
        ),
        (lambda m: {"fc.*": 0.1}, "'fc.*' matches no parameter"),
        (lambda m: {"*": -0.1}, "rate of '\\*' is -0.1"),
        (lambda m: {"*": "fast"}, "is 'fast'"),
        (lambda m: {"*": 0.0}, "all rates are 0"),
        (lambda m: torch.optim.SGD(m.parameters(), lr=0.0), "all rates are 0"),
        (lambda m: 0.1, "optimizer is a float"),
        (lambda m: "absent.pt", "optimizer 'absent.pt': no such file"),
        (without_steps, "'0.weight' has made no step"),
        (lambda m: torch.optim.Adam(m.parameters()).state_dict(), "its state has made no step"),
        (lambda m: {"param_groups": 3}, "not that of a torch optimizer"),
        (lambda m: {"param_groups": [{"lr": 0.1}]}, "not that of a torch optimizer"),
        (lambda m: {"param_groups": [{"params": [0, 1, 2, 3]}]}, "the rate of '0.weight, 0.bias' is None"),
        (
            lambda m: {"param_groups": [{"params": ["0.weight", "head"], "lr": 0.1}]},
            "the model has no parameter 'head'",
        ),
        (lambda m: with_squares(m, -1.0), "'0.weight' holds NaN, infinite or negative"),
        (lambda m: with_squares(m, math.nan), "'0.weight' holds NaN, infinite or negative"),
        (lambda m: OptimizerRates({"fc.weight": 1.0}), "the model has no parameter 'fc.weight'"),
        (
            lambda m: OptimizerRates({"0.bias": 1.0}, {"0.bias": torch.ones(9)}),
            r"holds \(9,\) where parameter '0.bias' of the model is \(4,\)",
        ),
    ],
)
def test_optimizers_that_cannot_be_those_of_the_model(make: Any, words: str) -> None:
    model = net()
    with pytest.raises(BadInput, match=words):
        optimizer_rates(make(model), model)
