"""Width scaling: known slopes, every quantity by hand, the criteria where they break, what is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.width import WidthOptions, WidthScaling, estimate_r, width_scaling
from geomfeat.regimes.width.result import Criterion, richness_of
from geomfeat.statistics.power_law import WidthExponent
from tests.option_groups import grouped
from tests.reference import scaling as reference

F64 = torch.float64
LAYERS = ["fc1", "fc2", "head"]


def task(samples: int = 24, features: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs of length about sqrt(features), and a target that is not linear in them."""
    x = torch.randn(samples, features, generator=stream(0, "scaling", features), dtype=F64)
    y = torch.sign(x[:, 0] * x[:, 1] + 0.5 * x[:, 2])
    return x.to(dtype), y.to(dtype)


def ntk_mlp(width: int, seed: int) -> nn.Module:
    return mlp(8, (width, width), 1, activation="tanh", bias=False, parameterization="ntk", seed=seed)


@pytest.mark.parametrize("batched", [True, False])
def test_quantities_equal_explicit_matrices(batched: bool) -> None:
    x, y = task(10, 8, F64)
    seeds, widths, r = (3, 1), (5, 7, 11), 0.25
    found = width_scaling(
        lambda n, s: ntk_mlp(n, s).double(),
        x,
        y,
        widths,
        r=r,
        seeds=seeds,
        steps=7,
        options=WidthOptions(lr=0.1, batched=batched),
    )
    assert found.widths == widths
    assert (found.hidden, found.readout) == (("fc1", "fc2"), ("head",))
    for column, width in enumerate(widths):
        for row, seed in enumerate(seeds):
            before = ntk_mlp(width, seed).double()
            after = train_at_gamma(
                before, x, y, gamma=width**r, lr=0.1, max_steps=7, options=TrainOptions(momentum=0.0, back_off=False)
            )
            want = reference.quantities(before, after.model, x, width**r, torch.tanh, LAYERS)
            for (quantity, layer), value in want.items():
                got = found.values(quantity, layer)[row, column]
                assert_close(float(got), value, **tolerance(F64, 100), msg=f"{quantity} {layer}")
            assert float(found.values("train_loss")[row, column]) == pytest.approx(after.train_loss, rel=1e-9)


class Straight(nn.Module):
    """Two layers whose entries are known numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(1, width, bias=False), nn.Linear(width, 1, bias=False)
        nn.init.constant_(self.first.weight, 1.0)
        nn.init.constant_(self.out.weight, 2.0 / width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x))


def grown(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """Changes the first layer by width^(3/10 - 1/2) per unit, the last by width^-1.2."""
    width = model.first.out_features
    with torch.no_grad():
        model.first.weight += width**-0.2
        model.out.weight += width**-1.2
    return model


def test_an_own_training_with_known_powers() -> None:
    found = width_scaling(lambda n, s: Straight(n).double(), torch.ones(3, 1), torch.ones(3), (4, 16, 64), train=grown,
                          seeds=2)  # fmt: skip
    want = {("feature_change", "first"): 0.3, ("direct_share", "first"): 0.0, ("spectral_update", "first"): -0.2,
            ("useful_update", ""): -0.2, ("initial_output", ""): 0.0, ("direct", "out"): -0.2,
            ("inherited", "out"): -0.2, ("second_order", ""): -0.4, ("spectral_update", "out"): -0.2}  # fmt: skip
    for (quantity, layer), power in want.items():
        assert found.exponent(quantity, layer).exponent == pytest.approx(power, abs=1e-6), quantity
    assert found.r is None
    assert found.expected("feature_change") is None
    assert richness_of(found).by_layer["first"].exponent == pytest.approx(0.3, abs=1e-6)


def test_a_layer_that_is_slowed_down_violates_maximality() -> None:
    x, y = task()

    def slowed(model: nn.Module, inputs: Tensor, targets: Tensor) -> nn.Module:
        width = model.get_submodule("fc2").weight.shape[0]
        return train_at_gamma(
            model,
            inputs,
            targets,
            gamma=1.0,
            lr=0.3,
            max_steps=10,
            options=TrainOptions(momentum=0.0, back_off=False, lr_multipliers={"fc2": 16 / width}),
        ).model

    where = estimate_r(ntk_mlp, x, y, (32, 64, 128), train=slowed)
    said = [text for text in where.violations if "maximality" in text]
    assert [text[:30] for text in said] == ["maximality at fc2 (exponent -1"]
    assert where.violations[0] == said[0]


class Chooses(nn.Module):
    """Takes a path that depends on the data, which vmap cannot batch."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.net = ntk_mlp(width, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if bool((self.net[1](x)[0, 0] > -1e9).item()) else x[:, :1]


def test_networks_that_cannot_be_batched_give_the_same_numbers() -> None:
    x, y = task(6)
    one, other = (
        width_scaling(make, x, y, (4, 6, 8), r=0.25, seeds=2, steps=3) for make in (ntk_mlp, Chooses)
    )  # fmt: skip
    assert other.hidden == ("net.fc1", "net.fc2")
    for layer in one.hidden:
        for quantity in ("feature_change", "direct", "inherited", "spectral_update"):
            a, b = one.values(quantity, layer), other.values(quantity, f"net.{layer}")
            assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert_close(one.values("second_order"), other.values("second_order"), rtol=1e-3, atol=1e-6)


def test_recurrent_layers_are_measured_one_by_one() -> None:
    class Recurrent(nn.Module):
        def __init__(self, width: int, seed: int) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.rnn, self.head = nn.LSTM(2, width, batch_first=True), nn.Linear(width, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x.reshape(len(x), -1, 2))[0][:, -1])

    x, y = task(6)
    found = width_scaling(Recurrent, x, y, (4, 6, 8), seeds=2, steps=3)
    assert found.hidden == ("rnn",)
    assert_close(found.values("direct", "rnn"), found.values("feature_change", "rnn"))
    assert bool((found.values("second_order") > 0).all())


def test_diverged_networks_are_flagged_and_left_out() -> None:
    x, y = task(6)

    def breaks(model: nn.Module, inputs: Tensor, targets: Tensor) -> nn.Module:
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.5)
            if model.get_submodule("fc1").weight.shape[0] == 6 and float(p.flatten()[0]) > 0:
                p.fill_(math.nan)
        return model

    found = width_scaling(ntk_mlp, x, y, (4, 6, 8, 10), train=breaks, seeds=6)
    bad = [x for x in found.readings if not x.ok]
    assert bad
    assert {x.width for x in bad} == {6}
    assert all(math.isnan(x.value) and "not finite" in x.note for x in bad)
    lost = {x.seed for x in bad}
    assert 0 < len(lost) < 6
    assert found.notes == (f"width 6, seed {', '.join(map(str, sorted(lost)))} left out: {bad[0].note}",)
    assert found.exponent("feature_change", "fc1").n_seeds == 6
    assert found.notes[0] in str(found)
    everything = width_scaling(ntk_mlp, x, y, (4, 6, 8), seeds=2, options=WidthOptions(lr=1e6))
    assert not any(x.ok for x in everything.readings)
    with pytest.raises(BadInput, match=r"diverged.*lower lr"):
        richness_of(everything)


def test_a_network_does_not_depend_on_its_company() -> None:
    x, y = task(6)
    many = width_scaling(ntk_mlp, x, y, (4, 6, 8), r=0.5, seeds=(5, 2, 9), steps=3, options=WidthOptions(lr=0.1))
    alone = width_scaling(ntk_mlp, x, y, (8, 4, 6), r=0.5, seeds=(2,), steps=3, options=WidthOptions(lr=0.1))
    assert_close(many.values("feature_change", "fc2")[1:2], alone.values("feature_change", "fc2"), rtol=1e-5, atol=0)


def test_the_given_networks_and_data_are_untouched() -> None:
    x, y = task(6)
    kept = {(n, s): ntk_mlp(n, s) for n in (4, 6, 8) for s in range(2)}
    before = copy.deepcopy([dict(m.state_dict()) for m in kept.values()])
    data = x.clone()
    width_scaling(lambda n, s: kept[n, s], x, y, (4, 6, 8), seeds=2, steps=2)
    for state, model in zip(before, kept.values(), strict=True):
        for name, value in model.state_dict().items():
            assert torch.equal(value, state[name])
    assert torch.equal(x, data)


@pytest.mark.parametrize(
    ("law", "verdict"),
    [((0.02, -0.1, 0.14), "holds"), ((-1.0, -1.2, -0.8), "violated"), ((0.4, -0.2, 1.0), "unclear"),
     ((0.1, -0.9, 1.1), "unclear"), ((0.3, 0.1, 0.5), "violated")],
)  # fmt: skip
def test_verdicts(law: tuple[float, float, float], verdict: str) -> None:
    assert Criterion("maximality", "fc2", WidthExponent(*law, n_seeds=4)).verdict == verdict


def call(**changes: object) -> WidthScaling:
    x, y = task(6)
    settings = {"build": ntk_mlp, "inputs": x, "targets": y, "widths": (4, 6, 8), "seeds": 2, "steps": 1} | changes
    return width_scaling(**grouped(width_scaling, settings))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"widths": (4, 6, 6)}, "at least 3 different"),
        ({"widths": (0, 6, 8)}, "at least 1"),
        ({"r": 0.6}, "outside .0, 1/2."),
        ({"r": -0.1}, "outside .0, 1/2."),
        ({"gamma": -1.0}, "gamma=-1.0"),
        ({"r": 0.1, "gamma": 2.0}, "at most one of"),
        ({"build": lambda n, s: ntk_mlp(5, s)}, "ignores the width"),
        ({"build": lambda n, s: ntk_mlp(n, 0)}, "ignores the seed"),
        ({"build": lambda n, s: ntk_mlp(n + s, s)}, "different architectures"),
        ({"build": lambda n, s: n}, "not a torch.nn.Module"),
        ({"build": lambda n, s: nn.Linear(8, n), "lr": 0.1}, "none of them hidden"),
        ({"train": lambda m, x, y: None}, "train returned NoneType"),
        ({"train": lambda m, x, y: nn.Linear(8, 1)}, "another architecture"),
        ({"seeds": 0}, "seeds=0"),
        ({"steps": 0}, "steps=0"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"targets": torch.zeros(6)}, "all zero"),
        ({"targets": torch.zeros(5)}, "5 entries"),
        ({"targets": torch.full((6,), math.nan)}, "targets holds 6 NaN"),
        ({"loss": lambda f, y: torch.tensor(1.0), "lr": 0.1}, "no gradient in f"),
    ],
)  # fmt: skip
def test_bad_input_is_reported(changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call(**changes)


def test_an_unknown_quantity_is_reported() -> None:
    with pytest.raises(BadInput, match="no reading of 'speed'"):
        call().values("speed", "fc1")
