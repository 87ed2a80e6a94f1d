"""The knob's options against loops written from the definition: decay, rates by layer, optimizers, centring."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.training import Trained, TrainOptions, train_at_gamma
from geomfeat.regimes.training.objective import centred_one_hot, objective, top_curvature
from tests.option_groups import grouped
from tests.reference import lazy

F64 = torch.float64
Y = torch.tensor([0, 1, 2, 0, 1, 1, 0, 0, 1, 0, 1, 0])  # no class holds a third: its bias would start at slope 0


def small() -> tuple[nn.Module, torch.Tensor]:
    g = stream(0, "options test")
    x = torch.randn(12, 5, generator=g, dtype=F64)
    return build("mlp", inputs=5, hidden=(16,), outputs=3, activation="tanh", seed=1).double(), x


def assert_agree(trained: nn.Module, wanted: nn.Module, **how: float) -> None:
    assert_close(trained.state_dict(), wanted.state_dict(), **(how or tolerance(F64, 100)))


@pytest.mark.parametrize("gamma", [0.1, 3.0])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weight_decay_shrinks_raw_weights_by_lr_gamma_squared(gamma, momentum):
    model, x = small()
    trained = train_at_gamma(
        model,
        x,
        Y,
        gamma=gamma,
        lr=1e-2,
        max_steps=20,
        options=TrainOptions(momentum=momentum, weight_decay=0.3, back_off=False),
    )
    want = lazy.descend(
        model, x, centred_one_hot(Y, 3, F64), gamma, 20,
        lambda p: torch.optim.SGD(p, lr=1e-2 * gamma**2, momentum=momentum, nesterov=momentum > 0, weight_decay=0.3),
    )  # fmt: skip
    assert_agree(trained.model, want)


def test_weight_decay_of_adam_is_torchs_own():
    model, x = small()
    trained = train_at_gamma(
        model, x, Y, gamma=2.0, lr=1e-3, max_steps=10, options=TrainOptions(optimizer="adam", weight_decay=0.5)
    )
    want = lazy.descend(model, x, centred_one_hot(Y, 3, F64), 2.0, 10,
                        lambda p: torch.optim.Adam(p, lr=2e-3, eps=1e-30, weight_decay=0.5))  # fmt: skip
    assert_agree(trained.model, want, rtol=1e-5, atol=1e-7)


def test_strong_decay_stops_at_the_minimum_of_loss_and_penalty():
    model, x = small()
    trained = train_at_gamma(
        model, x, Y, gamma=1.0, target_loss=1e-6, max_steps=1500, options=TrainOptions(weight_decay=0.2)
    )
    assert not trained.converged
    assert "stalled" in trained.note
    # At the minimum, gradient of the loss and of the penalty cancel.
    start = model(x).detach()
    y = centred_one_hot(Y, 3, F64)
    f = trained.model(x) - start
    grads = torch.autograd.grad((f - y).square().sum() / y.square().sum(), list(trained.model.parameters()))
    for g, w in zip(grads, trained.model.parameters(), strict=True):
        assert_close(g, -0.2 * w, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "torch sgd", "torch adam"])
def test_rates_by_layer_are_torchs_parameter_groups(optimizer):
    model, x = small()
    factors = {"*": 0.25, "*.bias": 3.0}
    how = {
        "sgd": {"lr": 0.02, "momentum": 0.0},
        "adam": {"lr": 0.02, "optimizer": "adam"},
        "torch sgd": {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.02)},
        "torch adam": {"optimizer": lambda groups: torch.optim.Adam(groups, lr=0.02, eps=1e-30)},
    }[optimizer]
    given = {"gamma": 0.5, "max_steps": 10, "back_off": False, "lr_multipliers": factors} | how
    trained = train_at_gamma(model, x, Y, **grouped(train_at_gamma, given))

    def groups(parameters):
        given_ = list(parameters)
        weights, biases = [p for p in given_ if p.ndim > 1], [p for p in given_ if p.ndim == 1]
        rate = 0.02 * (0.5 if "adam" in optimizer else 0.25)
        made = [{"params": weights, "lr": 0.25 * rate}, {"params": biases, "lr": 3 * rate}]
        return torch.optim.Adam(made, eps=1e-30) if "adam" in optimizer else torch.optim.SGD(made)

    want = lazy.descend(model, x, centred_one_hot(Y, 3, F64), 0.5, 10, groups)
    assert_agree(trained.model, want, **({"rtol": 1e-5, "atol": 1e-7} if "adam" in optimizer else {}))


def test_a_factor_of_zero_is_a_frozen_layer():
    model, x = small()
    by_rate = train_at_gamma(
        model, x, Y, gamma=1.0, max_steps=30, options=TrainOptions(lr_multipliers={"*": 0.0, "head": 1.0})
    )
    fixed = copy.deepcopy(model)
    for name, p in fixed.named_parameters():
        p.requires_grad_(name.startswith("head"))
    by_hand = train_at_gamma(fixed, x, Y, gamma=1.0, max_steps=30)
    assert_agree(by_rate.model, by_hand.model, rtol=0, atol=0)
    assert torch.equal(by_rate.model.fc1.weight, model.fc1.weight)
    assert not torch.equal(by_rate.model.head.weight, model.head.weight)
    assert all(p.requires_grad for p in by_rate.model.parameters())


def test_rates_turn_one_parameterization_into_the_other():
    """Weights c W at rate c^2 each: the standard network with these rates is the network in NTK parameterization."""
    x = small()[1]
    ntk = build("mlp", inputs=5, hidden=(16, 16), outputs=3, parameterization="ntk", seed=2).double()
    standard = build("mlp", inputs=5, hidden=(16, 16), outputs=3, seed=2).double()
    factors = {}
    for (name, a), b in zip(ntk.named_children(), standard.children(), strict=True):
        if hasattr(a, "multiplier"):
            b.weight.data, b.bias.data = a.multiplier * a.weight.data, a.bias.data.clone()
            factors[f"{name}.weight"] = a.multiplier**2
    one = train_at_gamma(ntk, x, Y, gamma=0.7, lr=0.02, max_steps=40)
    other = train_at_gamma(
        standard, x, Y, gamma=0.7, lr=0.02, max_steps=40, options=TrainOptions(lr_multipliers=factors)
    )
    assert one.train_loss < 0.9
    assert_close(one.model(x), other.model(x), **tolerance(F64, 100))
    # The step that the curvature asks for knows of the rates too.
    one, other = (train_at_gamma(m, x, Y, gamma=0.7, max_steps=5, options=TrainOptions(lr_multipliers=f)) for m, f in
                  ((ntk, None), (standard, factors)))  # fmt: skip
    assert one.lr == pytest.approx(other.lr, rel=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.AdamW(groups, lr=1e-2),
        lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9),
        lambda groups: torch.optim.RMSprop(groups, lr=1e-2),
        lambda groups: torch.optim.LBFGS(groups, lr=0.1),
        lambda groups: torch.optim.Rprop(groups, lr=1e-2),
    ],
    ids=["AdamW", "SGD", "RMSprop", "LBFGS", "Rprop"],
)
def test_any_torch_optimizer_reaches_the_target(make):
    model, x = small()
    trained = train_at_gamma(
        model, x, Y, gamma=0.5, target_loss=0.1, max_steps=3000, options=TrainOptions(optimizer=make, batch_size=12)
    )
    assert trained.converged
    assert 0.099 <= trained.train_loss <= 0.1
    f = trained.outputs(model, x)
    y = centred_one_hot(Y, 3, F64)
    assert float((f - y).square().sum() / y.square().sum()) == pytest.approx(trained.train_loss, rel=1e-9)


def test_an_optimizers_first_step_scales_with_gamma():
    """Sign-like steps move the raw weights by gamma lr, at every gamma."""
    model, x = small()
    moves = []
    for gamma in (1e-4, 1e-2):
        run = train_at_gamma(
            model,
            x,
            Y,
            gamma=gamma,
            max_steps=1,
            options=TrainOptions(back_off=False, optimizer=lambda g: torch.optim.Adam(g, lr=0.1)),
        )
        moves.append(float((run.model.fc1.weight - model.fc1.weight).detach().abs().max()))
    assert moves[0] == pytest.approx(1e-5, rel=1e-3)
    assert moves[1] == pytest.approx(1e-3, rel=1e-3)


def test_an_optimizers_rate_backs_off():
    model, x = small()
    trained = train_at_gamma(
        model,
        x,
        Y,
        gamma=1.0,
        target_loss=0.2,
        max_steps=3000,
        options=TrainOptions(optimizer=lambda groups: torch.optim.SGD(groups, lr=1e4), lr_multipliers={"fc1": 0.5}),
    )
    assert trained.backoffs >= 1
    assert trained.lr == pytest.approx(1e4 / 2**trained.backoffs)
    assert trained.converged


@pytest.mark.parametrize("optimizer", ["sgd", "minibatch", "torch"])
def test_divergence_keeps_the_last_good_point(optimizer):
    x = small()[1]
    model = build("linear", inputs=5, outputs=3, hidden=(8,), seed=1).double()
    how = {
        "sgd": {"lr": 1e3, "momentum": 0.0},
        "minibatch": {"lr": 1e3, "batch_size": 6},
        "torch": {"optimizer": lambda groups: torch.optim.SGD(groups, lr=1e3)},
    }[optimizer]
    given = {"gamma": 1.0, "max_steps": 200, "back_off": False, "snapshot_steps": "log"} | how
    trained = train_at_gamma(model, x, Y, **grouped(train_at_gamma, given))
    assert trained.diverged
    assert not trained.converged
    assert "diverged" in trained.note
    assert max(trained.snapshots) == trained.steps < 200
    for snapshot in [*trained.snapshots.values(), trained.model]:
        assert all(torch.isfinite(p).all() for p in snapshot.parameters())


def test_a_catapult_runs_its_course_without_back_off():
    """Above 2 / curvature the loss first rises; it then falls at a flatter place (Lewkowycz et al. 2020)."""
    x = torch.randn(6, 4, generator=stream(0, "catapult"), dtype=F64)
    y = torch.randn(6, 1, generator=stream(1, "catapult"), dtype=F64)
    model = build("mlp", inputs=4, hidden=(256,), outputs=1, parameterization="ntk", seed=0).double()

    def curvature(network: nn.Module) -> float:
        problem = objective(copy.deepcopy(network), x, y, gamma=0.05, loss="mse", readout=None, mode="eval")
        return top_curvature(problem, problem.zero(), None, 100)[0]

    before = curvature(model)
    how = {"gamma": 0.05, "lr": 3.0 / before, "target_loss": 0.01, "max_steps": 2000}
    flying = train_at_gamma(model, x, y, options=TrainOptions(momentum=0.0, back_off=False), **how)
    careful = train_at_gamma(model, x, y, options=TrainOptions(momentum=0.0), **how)
    assert flying.history["loss"].max() > 5
    assert flying.converged
    assert flying.backoffs == 0
    assert curvature(flying.model) < 0.9 * before
    assert careful.converged
    assert careful.history["loss"].max() == 1
    assert curvature(careful.model) > 0.95 * before


def test_uncentred_outputs_start_where_the_network_is():
    model, x = small()
    y = centred_one_hot(Y, 3, F64)
    trained = train_at_gamma(
        model, x, Y, gamma=0.5, lr=0.02, max_steps=20, options=TrainOptions(centered=False, momentum=0.0)
    )
    assert trained.initial_loss == pytest.approx(
        float((model(x).detach() / 0.5 - y).square().sum() / y.square().sum()), rel=1e-9
    )
    net = copy.deepcopy(model)
    opt = torch.optim.SGD(net.parameters(), lr=0.02 * 0.25)
    for _ in range(20):
        opt.zero_grad()
        ((net(x) / 0.5 - y).square().sum() / y.square().sum()).backward()
        opt.step()
    assert_agree(trained.model, net)
    assert_close(trained.outputs(model, x), net(x) / 0.5, **tolerance(F64, 100))
    reached = train_at_gamma(model, x, Y, gamma=0.5, target_loss=0.1, options=TrainOptions(centered=False, test=(x, Y)))
    assert reached.converged
    assert reached.test_loss == pytest.approx(reached.train_loss, rel=1e-6)


def test_uncentred_batch_statistics(device):
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double().to(device)
    x = small()[1].to(device)
    trained = train_at_gamma(model, x, Y, gamma=1.0, max_steps=30, options=TrainOptions(centered=False, mode="train"))
    assert trained.initial_loss != 1
    assert trained.train_loss < 0.9 * trained.initial_loss
    assert_close(trained.model[1].running_mean, trained.model[0](x).mean(0), rtol=1e-6, atol=1e-9)


def kept(trained: Trained) -> list[int]:
    return [int(s.conditions["step"]) for s in trained.snapshots_list]


@pytest.mark.parametrize("batch_size", [None, 5])
def test_checkpoints_at_log_spaced_steps(batch_size):
    model, x = small()
    trained = train_at_gamma(
        model,
        x,
        Y,
        gamma=2.0,
        lr=0.01,
        max_steps=44,
        seed=7,
        options=TrainOptions(snapshot_steps="log", batch_size=batch_size),
    )
    assert kept(trained) == [0, 1, 2, 3, 6, 10, 18, 32, 44]
    assert trained.at(0).at == "init"
    assert trained.at(18).at == 18
    y = centred_one_hot(Y, 3, F64)
    for snapshot in trained.snapshots_list:
        assert dict(snapshot.conditions) | {"step": 0, "loss": 0} == {
            "gamma": 2.0, "lr": trained.lr, "seed": 7, "step": 0, "loss": 0,
        }  # fmt: skip
        f = (snapshot.model(x) - model(x)) / 2.0
        assert snapshot.conditions["loss"] == pytest.approx(
            float(((f - y).square().sum() / y.square().sum()).detach()), rel=1e-9
        )
    with pytest.raises(BadInput, match="no checkpoint of step 5"):
        trained.at(5)


def test_no_checkpoint_is_of_an_epoch_that_was_taken_back():
    model, x = small()
    trained = train_at_gamma(
        model,
        x,
        Y,
        gamma=1.0,
        lr=1e9,
        max_steps=30,
        options=TrainOptions(optimizer="adam", batch_size=4, snapshot_steps=range(31)),
    )
    assert trained.backoffs > 0
    assert max(kept(trained)) == trained.steps
    assert all(snapshot.conditions["loss"] < 100 for snapshot in trained.snapshots_list)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": lambda f, y: (f.argmax(1) - y).float()}, r"one number, got shape \(12,\)"),
        ({"loss": lambda f, y: 1.0}, "one number, got float: take the mean"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"weight_decay": float("inf")}, "weight_decay=inf"),
        ({"optimizer": lambda groups: None}, "torch.optim.Optimizer, got NoneType"),
        ({"optimizer": lambda groups: torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)}, "all groups"),
        (
            {"optimizer": lambda groups: torch.optim.AdamW(groups, weight_decay=0.3)},
            r"TrainOptions\(weight_decay=...\) to train_at_gamma",
        ),
        ({"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.1), "lr": 0.1}, "set it in the optimizer"),
        ({"lr_multipliers": {"fc9": 1.0}}, "fc9.*near: fc"),
        ({"lr_multipliers": {"fc1": -1.0}}, r"fc1.*=-1.0"),
        ({"lr_multipliers": {"*": 0.0}}, "no trainable parameters"),
        ({"snapshot_steps": "linear"}, "'log'"),
        ({"snapshot_steps": (-1,)}, "at least 0"),
        ({"loss": lambda f, y: torch.tensor(1.0)}, "no gradient in f"),
        ({"dtype": torch.int32}, "dtype=torch.int32"),
        ({"test": (torch.zeros(0, 5), Y[:0])}, "positive number of samples"),
        ({"test": (torch.zeros(12, 5), Y[:5])}, r"shape \(5,\), but test inputs 12 samples"),
        ({"test": (torch.zeros(12, 5), Y + 5)}, "must be classes 0..2"),
    ],
)
def test_bad_options_are_named(change, words):
    model, x = small()
    with pytest.raises(BadInput, match=words):
        train_at_gamma(model, x, Y, **grouped(train_at_gamma, {"gamma": 1.0} | change))


def test_targets_with_nan_and_test_data_are_refused_before_training():
    model, x = small()

    def training(step: int, loss: float) -> None:
        raise AssertionError("it trained")

    for change in ({"targets": torch.full((12, 3), float("nan"))}, {"test": (x, Y[:5])}, {"test": (x, Y + 5)}):
        with pytest.raises(BadInput):
            train_at_gamma(
                model, x, **grouped(train_at_gamma, {"targets": Y, "gamma": 1.0, "progress": training} | change)
            )


def test_outputs_without_the_samples_first_are_reported():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(5, 2)

        def forward(self, x):
            return self.body(x).T

    x = torch.randn(12, 5, generator=stream(0, "turned"))
    with pytest.raises(BadInput, match="2 rows of outputs for 12 samples: pass readout="):
        train_at_gamma(Turned(), x, torch.ones(12, 12), gamma=1.0)


def test_whole_numbers_for_one_output_are_reported_to_be_floats():
    with pytest.raises(BadInput, match="must be floats"):
        train_at_gamma(nn.Linear(2, 1), torch.ones(3, 2), torch.arange(3), gamma=1.0)


def test_checkpoints_may_be_named_by_a_generator():
    model, x = small()
    trained = train_at_gamma(
        model, x, Y, gamma=1.0, max_steps=4, options=TrainOptions(snapshot_steps=(i for i in (0, 2)))
    )
    assert kept(trained) == [0, 2]


def test_an_optimizer_may_say_that_it_has_no_decay():
    model, x = small()
    one, two = (
        train_at_gamma(model, x, Y, gamma=1.0, max_steps=5, options=TrainOptions(optimizer=make))
        for make in (lambda g: torch.optim.AdamW(g, weight_decay=0.0), lambda g: torch.optim.AdamW(g))
    )
    assert one.train_loss == two.train_loss


def test_a_last_sample_alone_joins_the_batch_before_where_batches_have_statistics():
    g = stream(0, "batch norm")
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(11, 5, generator=g)
    trained = train_at_gamma(net, x, Y[:11], gamma=1.0, max_steps=6, options=TrainOptions(mode="train", batch_size=5))
    assert trained.steps == 6  # 5 + 6 samples: two steps an epoch, not three
    assert trained.train_loss < 1
    for change in ({"batch_size": 1}, {"inputs": x[:1], "targets": Y[:1]}):
        given = {"inputs": x, "targets": Y[:11], "gamma": 1.0, "mode": "train"} | change
        with pytest.raises(BadInput, match="one sample has none"):
            train_at_gamma(net, **grouped(train_at_gamma, given))


def test_outputs_that_are_no_tensor_or_too_large():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(5, 3)

        def forward(self, x):
            return {"words": str(self.body(x).shape)}

    model, x = small()
    with pytest.raises(BadInput, match="not a tensor: pass readout="):
        train_at_gamma(Words(), x.float(), Y, gamma=1.0)
    with pytest.raises(BadInput, match="centre the outputs"):
        train_at_gamma(model, x, Y, gamma=1e-300, options=TrainOptions(centered=False))
