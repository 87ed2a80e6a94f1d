"""Ordinary training against steps written by hand: optimizers, batches, schedules, clipping, averages, dropout."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.training import PlainOptions, PlainTraining, next_tokens, train_plainly

N, D, C = 32, 5, 3
X = torch.randn(N, D, generator=stream(0, "x"), dtype=torch.float64)
Y = torch.arange(N) % C
START = mlp(D, (6,), C, seed=0).double()
CLOSE: Any = tolerance(torch.float64)


def trained(model: nn.Module = START, x: Any = X, y: Any = Y, *, seed: int = 0, **options: Any) -> PlainTraining:
    return train_plainly(model, x, y, seed=seed, options=PlainOptions(**options))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def by_hand(steps: int, lr: float, decay: float = 0.0, momentum: float = 0.0) -> nn.Module:
    """Full-batch SGD from its definition."""
    model = copy.deepcopy(START)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(steps):
        slopes = torch.autograd.grad(F.cross_entropy(model(X), Y), list(model.parameters()))
        with torch.no_grad():
            for p, slope, v in zip(model.parameters(), slopes, velocity, strict=True):
                v.mul_(momentum).add_(slope + decay * p)
                p.sub_(lr * v)
    return model


@pytest.mark.parametrize(("decay", "momentum"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.9)])
def test_sgd_is_gradient_descent_on_the_raw_weights(decay: float, momentum: float) -> None:
    before = weights(START).clone()
    found = trained(optimizer="sgd", lr=0.3, weight_decay=decay, momentum=momentum, max_steps=4)
    torch.testing.assert_close(weights(found.trained), weights(by_hand(4, 0.3, decay, momentum)), **CLOSE)
    assert torch.equal(weights(START), before)
    assert torch.equal(weights(found.initial), before)
    assert found.history["loss"].tolist()[0] == pytest.approx(F.cross_entropy(START(X), Y).item())
    assert found.initial_loss == pytest.approx(F.cross_entropy(START(X), Y).item() / math.log(C))


def test_the_decay_of_adamw_is_apart_from_its_gradient() -> None:
    """Of a weight that has no gradient, a step keeps the share 1 - lr * decay; Adam's decay is normalised away."""
    first, last = nn.Linear(D, C), nn.Linear(C, C)
    nn.init.zeros_(last.weight)  # no gradient reaches the first layer in the first step
    model = nn.Sequential(first, last).double()
    ends = {name: trained(model, optimizer=name, lr=0.1, weight_decay=0.5, max_steps=1) for name in ("adamw", "adam")}
    moved = {name: found.trained.get_parameter("0.weight") for name, found in ends.items()}
    torch.testing.assert_close(moved["adamw"], 0.95 * first.weight, **CLOSE)
    assert torch.allclose(moved["adam"], first.weight - 0.1 * first.weight.sign(), atol=1e-6)


def test_an_optimizer_of_ones_own_has_its_own_rates_and_follows_the_schedule() -> None:
    """SGD made by a function is SGD by its name; a schedule multiplies its rates; rates by group are found by name."""

    def sgd(named: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        first, rest = named[:1], named[1:]
        return torch.optim.SGD([{"params": first}, {"params": rest, "lr": 0.1}], lr=0.3, weight_decay=0.1)

    def alike(named: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(named, lr=0.3, weight_decay=0.1)

    how = {"max_steps": 5, "warmup_steps": 2, "schedule": "linear"}
    by_name = trained(optimizer="sgd", lr=0.3, weight_decay=0.1, **how)
    torch.testing.assert_close(weights(trained(optimizer=alike, **how).trained), weights(by_name.trained), **CLOSE)
    grouped = trained(optimizer=sgd, **how)
    assert grouped.history["lr"].tolist() == by_name.history["lr"].tolist()
    assert not torch.allclose(weights(grouped.trained), weights(by_name.trained), rtol=1e-3)
    assert grouped.rates is not None
    names = [name for name, _ in START.named_parameters()]
    assert grouped.rates.rates == {name: 0.3 if name == names[0] else 0.1 for name in names}


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_moves_matrices_by_steps_of_one_size() -> None:
    model = mlp(D, (6,), C, bias=False, seed=0).double()
    found = trained(model, optimizer=lambda named: torch.optim.Muon(named, lr=0.01, weight_decay=0.0), max_steps=1)
    moved = found.trained.get_parameter("fc1.weight") - model.get_parameter("fc1.weight")
    sizes = torch.linalg.svdvals(moved.detach())
    assert float(sizes.max() / sizes.min()) < 2, "Newton and Schulz leave singular values near 1"
    assert found.rates is not None
    assert found.rates.orthogonal == {"fc1.weight", "head.weight"}


def test_four_passes_of_eight_are_one_of_thirty_two() -> None:
    ids = torch.randint(0, 7, (N, 6), generator=stream(0, "ids"))
    mask = (torch.arange(6) < torch.randint(2, 7, (N, 1), generator=stream(0, "mask"))).long()
    padded = {"input_ids": ids, "attention_mask": mask}
    for model, x, y in ((START, X, Y), (Sequence(), padded, next_tokens(padded))):
        kinds = {"whole": {"batch_size": 32}, "parts": {"batch_size": 8, "accumulation": 4}}
        whole, parts = (
            weights(trained(model, x, y, optimizer="sgd", lr=0.5, max_steps=3, **how).trained) for how in kinds.values()
        )
        torch.testing.assert_close(whole, parts, **CLOSE)
        assert not torch.allclose(whole, weights(model), rtol=1e-3)


class Sequence(nn.Module):
    """Says the next token from this one."""

    def __init__(self, vocabulary: int = 7) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 4, dtype=torch.float64)
        self.head = nn.Linear(4, vocabulary, dtype=torch.float64)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=stream(0, "sequence", *p.shape), dtype=p.dtype))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.embed(input_ids).tanh())


def test_the_average_is_the_recursion() -> None:
    found = trained(lr=0.05, ema=0.8, max_steps=5, snapshot_steps=range(1, 6))
    average = weights(found.snapshots[1])
    for step in range(2, 6):
        average = 0.8 * average + 0.2 * weights(found.snapshots[step])
    assert found.ema is not None
    torch.testing.assert_close(weights(found.ema), average, **CLOSE)
    assert trained(max_steps=1).ema is None


def test_clipping_bounds_the_gradient_and_keeps_its_direction() -> None:
    free, cut = (trained(optimizer="sgd", lr=1.0, clip=clip, max_steps=1) for clip in (None, 0.01))
    norm = free.history["gradient_norm"].tolist()[0]
    assert norm == pytest.approx(float((weights(free.trained) - weights(START)).norm()))
    step = weights(cut.trained) - weights(START)
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-4)  # torch adds 1e-6 to the norm that it divides by
    assert torch.allclose(step / step.norm(), (weights(free.trained) - weights(START)) / norm, rtol=1e-5)
    assert cut.history["gradient_norm"].tolist()[0] == norm


def test_the_rates_are_those_of_the_formula() -> None:
    for schedule, factor in {
        "constant": lambda p: 1.0, "linear": lambda p: 1 - p, "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p))
    }.items():  # fmt: skip
        found = trained(lr=0.02, schedule=schedule, warmup_steps=4, max_steps=10).history["lr"]
        wanted = [0.02 * (k + 1) / 4 if k < 4 else 0.02 * factor((k - 4) / 6) for k in range(10)]
        assert found.tolist() == pytest.approx(wanted)


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop = copy.deepcopy(START), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.drop(x))


def test_dropout_works_in_training_and_is_off_in_what_is_returned() -> None:
    found = trained(Dropped(), optimizer="sgd", lr=0.3, max_steps=4, ema=0.5, snapshot_steps=[2])
    assert not torch.allclose(weights(found.trained), weights(by_hand(4, 0.3)), rtol=1e-3)
    assert found.ema is not None
    for model in (found.initial, found.trained, found.ema, found.snapshots[2]):
        assert not any(module.training for module in model.modules())
        assert torch.equal(model(X), model(X))


def test_a_longer_training_passes_through_a_shorter_one_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    how = {"batch_size": 10, "accumulation": 1, "lr": 0.01}
    short = trained(Dropped(), seed=3, max_steps=5, **how)
    torch.rand(7)
    state = torch.get_rng_state()
    long = trained(Dropped(), seed=3, max_steps=9, snapshot_steps=[5], **how)
    assert torch.equal(weights(long.snapshots[5]), weights(short.trained))
    assert not torch.equal(weights(trained(Dropped(), seed=4, max_steps=5, **how).trained), weights(short.trained))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(before, state)


class Drawing(nn.Linear):
    """Adds what it draws from torch's generator while it is trained, and keeps it."""

    drawn: list[float] = []  # noqa: RUF012  # of all copies: the one that is trained is a copy

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(float(torch.rand(())))
        return super().forward(x)


def test_each_step_draws_its_own_numbers_which_follow_from_the_seed() -> None:
    found = []
    for seed in (0, 1, 0):
        Drawing.drawn.clear()
        trained(Drawing(X.shape[1], 3), lr=0.01, max_steps=5, optimizer="sgd", seed=seed)
        found.append(list(Drawing.drawn))
        torch.rand(7)
    assert len(set(found[0])) == 5
    assert found[0] == found[2]
    assert not set(found[0]) & set(found[1])


def test_next_tokens_are_learned_where_there_is_one() -> None:
    """A sequence that counts up is learned to certainty, and padding is never a target."""
    ids = (torch.arange(8)[:, None] + torch.arange(5)) % 7
    mask = torch.ones_like(ids)
    mask[::2, 3:] = 0
    inputs = {"input_ids": torch.where(mask == 1, ids, 6), "attention_mask": mask}
    targets = next_tokens(inputs)
    assert targets[0].tolist() == [1, 2, -100, -100, -100]
    assert targets[1].tolist() == [2, 3, 4, 5, -100]
    found = trained(Sequence(), inputs, targets, lr=0.1, max_steps=200, target_loss=0.05)
    assert found.converged
    assert found.train_loss <= 0.05 < found.initial_loss
    assert found.train_accuracy == 1.0
    assert found.unit == pytest.approx(math.log(7))
    valid = targets != -100
    said = found.trained(**inputs)
    assert found.train_loss * found.unit == pytest.approx(F.cross_entropy(said[valid], targets[valid]).item())


def test_values_are_learned_by_squares_and_tests_are_in_the_unit_of_the_training() -> None:
    values = X[:, :2] * 3
    model = nn.Linear(D, 2).double()
    found = trained(model, X, values, lr=0.1, max_steps=300, target_loss=0.01, test=(X[:4], values[:4]))
    assert found.unit == pytest.approx(float(values.square().sum(1).mean()))
    assert found.converged
    assert found.test_loss == pytest.approx(
        (found.trained(X[:4]) - values[:4]).square().sum(1).mean().item() / found.unit
    )
    assert (found.train_accuracy, found.test_accuracy) == (None, None)


def test_what_the_optimizer_held_locates_the_network() -> None:
    found = trained(lr=0.02, schedule="cosine", max_steps=30)
    assert found.rates is not None
    assert set(found.rates.rates.values()) == {0.02}
    assert set(found.rates.sizes) == {name for name, _ in START.named_parameters()}
    options = gf.LocateOptions(n_bootstrap=2, loss="cross-entropy")
    located = [
        gf.locate(found.trained, X, initial=START, optimizer=how, progress=False, options=options)
        for how in (found.rates, found.optimizer)
    ]
    assert located[0].metric == "Adam state"
    assert located[0].richness == located[1].richness


def test_a_training_that_diverges_ends_at_the_last_weights_with_a_finite_loss() -> None:
    found = trained(optimizer="sgd", lr=1e200, max_steps=20, target_loss=0.5)
    assert (found.diverged, found.converged, found.rates) == (True, False, None)
    assert "diverged at step" in found.note
    assert math.isfinite(found.train_loss)
    assert bool(torch.isfinite(weights(found.trained)).all())


def test_a_target_that_is_not_reached_is_said() -> None:
    found = trained(max_steps=2, target_loss=0.01)
    assert (found.converged, found.diverged, found.steps) == (False, False, 2)
    assert "was not reached in 2 steps" in found.note


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlainOptions(optimizer="adamax"), "optimizer='adamax' must be one of adamw, adam, sgd"),
        (lambda: PlainOptions(lr=0), "lr=0 must be positive"),
        (lambda: PlainOptions(ema=1.0), "ema=1.0 must be between 0 and 1"),
        (lambda: PlainOptions(accumulation=4), "give batch_size too"),
        (lambda: PlainOptions(momentum=0.9), "only sgd has a momentum"),
        (lambda: PlainOptions(optimizer=torch.optim.SGD, weight_decay=0.1), "set it in the optimizer"),
        (lambda: trained(optimizer=lambda named: None), "must return a torch optimizer, got NoneType"),
        (lambda: PlainOptions(schedule="step"), "schedule='step' must be one of constant, cosine, linear"),
        (lambda: trained(y=Y[:5]), "targets have shape \\(5,\\), but inputs 32 samples"),
        (lambda: trained(y=Y % 2 + 2), "integer targets must be classes 0..2"),
        (lambda: trained(x=X[:, :2]), "cannot be called on these inputs"),
        (lambda: trained(y=torch.zeros(N, 4, dtype=torch.long)), "the model must return \\(n, 4, classes\\)"),
        (lambda: next_tokens(X), "token ids \\(n, tokens\\)"),
        (lambda: next_tokens(torch.ones(3, 1, dtype=torch.long)), "no sequence has two tokens"),
        (lambda: trained(Sequence(3), torch.full((2, 3), 2), torch.full((2, 3), 5)), "targets run from 5 to 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(make: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()
