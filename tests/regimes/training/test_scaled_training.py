"""Training at a chosen output scale: the lazy limit, the conventions, robustness, every kind of module."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.training import Trained, TrainOptions, scaled_outputs, train_at_gamma
from geomfeat.regimes.training.objective import centred_one_hot, objective, top_curvature
from tests.option_groups import grouped
from tests.reference import lazy

F64 = torch.float64


def small() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    g = stream(0, "knob test")
    x = torch.randn(12, 5, generator=g, dtype=F64)
    y = torch.randint(3, (12,), generator=g)
    return build("mlp", inputs=5, hidden=(32,), outputs=3, activation="tanh", seed=1).double(), x, y


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", n=100)


def movement(trained: Trained, initial: nn.Module) -> float:
    moved, size = 0.0, 0.0
    for p, q in zip(trained.model.parameters(), initial.parameters(), strict=True):
        moved += float((p.detach().double() - q.detach().double()).square().sum())
        size += float(q.detach().double().square().sum())
    return (moved / size) ** 0.5


def test_lazy_end_is_the_linearised_network():
    model, x, y = small()
    want = lazy.linearised_descent(model, x, centred_one_hot(y, 3, F64), lr=0.05, steps=200)
    errors = []
    for gamma in (1e-2, 1e-3, 1e-4):
        trained = train_at_gamma(model, x, y, gamma=gamma, lr=0.05, max_steps=200, options=TrainOptions(momentum=0.0))
        assert trained.steps == 200
        errors.append(float((trained.outputs(model, x) - want).norm() / want.norm()))
    # The deviation from the linearised network is of first order in gamma.
    assert errors[2] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("gamma", [0.1, 3.0])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_learning_rate_on_the_weights_is_eta0_gamma_squared(gamma, momentum):
    model, x, y = small()
    trained = train_at_gamma(model, x, y, gamma=gamma, lr=1e-2, max_steps=15, options=TrainOptions(momentum=momentum))
    want = lazy.descend(
        model, x, centred_one_hot(y, 3, F64), gamma, 15,
        lambda p: torch.optim.SGD(p, lr=1e-2 * gamma**2, momentum=momentum, nesterov=momentum > 0),
    )  # fmt: skip
    for p, q in zip(trained.model.parameters(), want.parameters(), strict=True):
        assert_close(p, q, **tolerance(F64, 100))


def test_adam_moves_the_weights_by_gamma_lr():
    model, x, y = small()
    trained = train_at_gamma(model, x, y, gamma=2.0, lr=1e-3, max_steps=10, options=TrainOptions(optimizer="adam"))
    want = lazy.descend(model, x, centred_one_hot(y, 3, F64), 2.0, 10,
                        lambda p: torch.optim.Adam(p, lr=2e-3, eps=1e-30))  # fmt: skip
    for p, q in zip(trained.model.parameters(), want.parameters(), strict=True):
        assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_curvature_is_the_largest_eigenvalue_of_the_kernel():
    model, x, y = small()
    problem = objective(copy.deepcopy(model), x, y, gamma=0.5, loss="mse", readout=None, mode="eval")
    value, _ = top_curvature(problem, problem.zero(), None, rounds=600)
    j = lazy.jacobian(model, x)
    unit = centred_one_hot(y, 3, F64).square().sum(1).mean()
    want = 2 / (len(y) * unit) * torch.linalg.eigvalsh(j @ j.T)[-1]
    assert value == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "lstm", "gru_loop", "transformer"])
def test_f_is_zero_at_the_start_and_any_module_trains(name, digits, device):
    model = build(name, seed=0).to(device)
    before = copy.deepcopy(model.state_dict())
    at_start = train_at_gamma(model, digits.inputs, digits.labels, gamma=0.3, max_steps=0)
    assert float(at_start.outputs(model, digits.inputs).abs().max()) == 0
    assert at_start.initial_loss == 1.0
    trained = train_at_gamma(model, digits.inputs, digits.labels, gamma=0.3, max_steps=20)
    assert trained.train_loss < 0.95
    assert trained.history["loss"].is_monotonic_decreasing
    assert list(trained.history["step"]) == list(range(21))
    after = model.state_dict()
    for key, value in before.items():
        assert torch.equal(value, after[key])
    assert next(trained.model.parameters()).device.type == device


@pytest.mark.parametrize("gamma", [1e-3, 0.3, 30.0, 100.0])
def test_matched_loss_is_hit_from_lazy_to_rich(gamma, digits):
    model = build("mlp", hidden=(64, 64), seed=0)
    trained = train_at_gamma(
        model,
        digits.inputs,
        digits.labels,
        gamma=gamma,
        target_loss=0.05,
        options=TrainOptions(test=(digits.test_inputs, digits.test_labels)),
    )
    assert trained.converged
    assert 0.0495 <= trained.train_loss <= 0.05
    assert trained.train_accuracy is not None
    assert trained.train_accuracy > 0.97
    assert trained.test_accuracy is not None
    assert trained.test_accuracy > 0.8
    assert trained.test_loss is not None
    assert trained.test_loss > trained.train_loss
    f = trained.outputs(model, digits.inputs)
    y = centred_one_hot(digits.labels, 10, f.dtype)
    assert float((f - y).square().sum() / y.square().sum()) == pytest.approx(trained.train_loss, rel=2e-3)


def test_movement_grows_with_gamma_and_is_proportional_to_it_in_the_lazy_half(digits):
    model = build("mlp", hidden=(64, 64), seed=0)
    moves = [
        movement(train_at_gamma(model, digits.inputs, digits.labels, gamma=g, target_loss=0.1), model)
        for g in (1e-3, 1e-2, 1, 30)
    ]
    assert moves[1] / moves[0] == pytest.approx(10, rel=0.02)
    assert moves[0] < moves[1] < moves[2] < moves[3]


def test_momentum_keeps_the_matched_loss_solution(digits):
    model = build("mlp", hidden=(64, 64), seed=0)
    a, b = (
        train_at_gamma(
            model,
            digits.inputs,
            digits.labels,
            gamma=1.0,
            target_loss=0.1,
            max_steps=9000,
            options=TrainOptions(momentum=m),
        )
        for m in (0.0, 0.9)
    )
    # Less than a tenth of a decade, the error that the location's movement allows.
    assert abs(math.log10(movement(b, model) / movement(a, model))) < 0.1
    fa, fb = a.outputs(model, digits.test_inputs), b.outputs(model, digits.test_inputs)
    assert float((fa - fb).norm() / fa.norm()) < 0.15


@pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"batch_size": 25}, {"optimizer": "adam"}])
def test_a_step_size_a_hundred_times_too_large_backs_off(options, digits):
    model = build("mlp", hidden=(64,), seed=0)
    sane = train_at_gamma(model, digits.inputs, digits.labels, gamma=1.0, max_steps=1).lr
    lr = 10.0 if "optimizer" in options else 100 * sane
    trained = train_at_gamma(
        model,
        digits.inputs,
        digits.labels,
        gamma=1.0,
        lr=lr,
        target_loss=0.3,
        max_steps=3000,
        options=TrainOptions(**options),
    )
    assert trained.backoffs >= 1
    assert trained.lr < lr
    assert trained.converged


def test_without_back_off_divergence_ends_at_a_finite_point(digits):
    model = build("linear", seed=0)
    trained = train_at_gamma(
        model,
        digits.inputs,
        digits.labels,
        gamma=1.0,
        lr=50.0,
        target_loss=0.1,
        options=TrainOptions(momentum=0.0, back_off=False),
    )
    assert not trained.converged
    assert "diverged" in trained.note
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())


def test_too_few_steps_are_reported(digits):
    trained = train_at_gamma(
        build("mlp", seed=0), digits.inputs, digits.labels, gamma=1.0, target_loss=1e-6, max_steps=5
    )
    assert not trained.converged
    assert "raise max_steps" in trained.note


def test_an_unreachable_target_ends_at_the_minimum():
    x, y = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    trained = train_at_gamma(build("linear", inputs=2, outputs=2, seed=0), x, y, gamma=1.0, target_loss=0.1)
    assert not trained.converged
    assert trained.train_loss == pytest.approx(1.0, abs=1e-5)
    assert "stalled" in trained.note
    assert trained.steps < 200


@pytest.mark.parametrize("options", [{}, {"batch_size": 30}, {"batch_size": 30, "optimizer": "adam"}])
def test_the_seed_decides(options, digits):
    model = build("mlp", hidden=(32,), seed=0)

    def run(seed):
        return train_at_gamma(
            model, digits.inputs, digits.labels, gamma=1.0, max_steps=12, seed=seed, options=TrainOptions(**options)
        )

    a, b, c = run(0), run(0), run(1)
    for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(p, q)
    same = all(torch.equal(p, q) for p, q in zip(a.model.parameters(), c.model.parameters(), strict=True))
    assert same == (not options)


def test_the_global_generator_is_left_alone(digits):
    state = torch.get_rng_state()
    train_at_gamma(
        build("mlp", seed=3), digits.inputs, digits.labels, gamma=1.0, max_steps=3, options=TrainOptions(batch_size=10)
    )
    assert torch.equal(state, torch.get_rng_state())


def test_snapshots_and_progress(digits):
    seen = []
    model = build("mlp", hidden=(32,), seed=0)
    trained = train_at_gamma(
        model,
        digits.inputs,
        digits.labels,
        gamma=1.0,
        max_steps=6,
        progress=lambda step, loss: seen.append((step, loss)),
        options=TrainOptions(snapshot_steps=(0, 3, 6)),
    )
    assert list(trained.snapshots) == [0, 3, 6]
    assert [s for s, _ in seen] == [1, 2, 3, 4, 5, 6]
    for p, q, r, s in zip(*(m.parameters() for m in (trained.snapshots[0], model, trained.snapshots[6], trained.model)),
                          strict=True):  # fmt: skip
        assert torch.equal(p, q)
        assert torch.equal(r, s)


def test_batchnorm_and_dropout(digits):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = build("residual", norm="batch", seed=0)
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.body(x))

    model = Net()
    fixed = train_at_gamma(model, digits.inputs, digits.labels, gamma=1.0, max_steps=5)
    assert torch.equal(fixed.model.body.stem_norm.running_mean, model.body.stem_norm.running_mean)
    assert fixed.model.training
    assert fixed.model.drop.p == 0.5
    moving = train_at_gamma(
        model, digits.inputs, digits.labels, gamma=1.0, max_steps=5, options=TrainOptions(mode="train")
    )
    assert moving.initial_loss == 1.0
    assert moving.train_loss < 1
    stem = moving.model.body.stem(digits.inputs)
    assert_close(moving.model.body.stem_norm.running_mean, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross-entropy", lambda f, y: nn.functional.cross_entropy(f, y)])
def test_other_losses_are_relative_to_their_start(loss, digits):
    trained = train_at_gamma(build("mlp", hidden=(32,), seed=0), digits.inputs, digits.labels, gamma=1.0, loss=loss,
                             target_loss=0.3)  # fmt: skip
    assert trained.initial_loss == pytest.approx(1.0)
    assert trained.converged


def test_regression_tuples_mappings_and_frozen_parameters():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 1)
            self.a.requires_grad_(False)

        def forward(self, x, shift=None):
            return self.b(torch.tanh(self.a(x + (0 if shift is None else shift))))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x, y = Pair(), torch.randn(6, 3), torch.randn(6)
    one = train_at_gamma(model, (x, torch.ones(6, 3)), y, gamma=1.0, max_steps=50)
    two = train_at_gamma(model, {"x": x, "shift": torch.ones(6, 3)}, y, gamma=1.0, max_steps=50)
    assert one.train_loss == two.train_loss < 0.9
    assert one.train_accuracy is None
    assert torch.equal(one.model.a.weight, model.a.weight)


def test_float64_where_gamma_is_tiny(digits):
    model = build("mlp", hidden=(16,), seed=0)
    tiny = train_at_gamma(model, digits.inputs, digits.labels, gamma=1e-5, target_loss=0.3, max_steps=4000)
    assert next(tiny.model.parameters()).dtype == F64
    assert tiny.converged
    assert float(scaled_outputs(tiny.model, model, digits.inputs, gamma=1e-5).abs().max()) < 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma": 0.0}, "gamma=0.0"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"target_loss": 1.5}, "target_loss=1.5"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"optimizer": "lbfgs"}, "lbfgs"),
        ({"mode": "test"}, "mode='test'"),
        ({"loss": "hinge"}, "hinge"),
        ({"targets": torch.arange(100)}, "0..99"),
        ({"targets": torch.zeros(7)}, "7 entries"),
        ({"targets": torch.zeros(100, 3)}, "3 values"),
        ({"targets": torch.zeros(100, 10)}, "all zero"),
        ({"targets": torch.randn(100, 10), "loss": "cross-entropy"}, "integer classes"),
        ({"inputs": torch.full((100, 1, 8, 8), float("nan"))}, "NaN"),
    ],
)
def test_bad_input_is_named(change, words, digits):
    given_ = {"inputs": digits.inputs, "targets": digits.labels, "gamma": 1.0} | change
    with pytest.raises(BadInput, match=words):
        train_at_gamma(build("mlp", hidden=(8,), seed=0), **grouped(train_at_gamma, given_))


class _Doubled(nn.Module):
    """Doubles its input: in place, or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2) if self.in_place else x * 2


def test_a_network_that_works_in_place_trains_on_what_it_is_given():
    torch.manual_seed(0)
    tail = [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)]
    x = torch.randn(8, 3, generator=stream(0, "in place"))
    held, classes = x.clone(), torch.arange(8) % 2
    runs = [
        train_at_gamma(nn.Sequential(_Doubled(in_place), *tail), x, classes, gamma=0.5, max_steps=20, seed=0)
        for in_place in (True, False)
    ]
    assert torch.equal(x, held)
    assert runs[0].train_loss == runs[1].train_loss < 1
    for a, b in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_module_under_two_names_trains_and_stays_one():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.again = self.first
            self.tied = nn.Linear(3, 3)
            self.tied.weight = self.first.weight
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.tied(torch.tanh(self.again(torch.tanh(self.first(x))))))

    torch.manual_seed(0)
    model = Shared()
    start = copy.deepcopy(model)
    x = torch.randn(8, 3, generator=stream(0, "shared"))
    run = train_at_gamma(model, x, torch.arange(8) % 2, gamma=0.5, max_steps=30, seed=0)
    assert run.model.first is run.model.again
    assert run.model.tied.weight is run.model.first.weight
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in run.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True))
    f = (run.model(x) - start(x)).detach() / run.gamma
    goal = centred_one_hot(torch.arange(8) % 2, 2)
    assert run.train_loss == pytest.approx(float((f - goal).square().sum() / goal.square().sum()), rel=1e-4)
    assert run.train_loss < 1
