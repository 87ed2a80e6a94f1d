"""Pairs of layers whose units can be rescaled: all asked at once, as each is alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.location.rescalable_units import FACTOR, FEWEST_UNITS, SAME, rescalable_pairs
from geomfeat.models.functional import Functional, functional


class Attention(nn.Module):
    """Queries, keys, values and a projection back, then a gated pair: all by layers that are called one by one."""

    def __init__(self) -> None:
        super().__init__()
        names = ("query", "key", "value", "out", "gate", "up", "down", "first", "second", "head")
        self.layers = nn.ModuleDict({name: nn.Linear(8, 8) for name in names})
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        of = self.layers
        q, k, v = of["query"](x), of["key"](x), of["value"](x)
        x = x + of["out"](torch.softmax(q @ k.mT, -1) @ v)
        x = x + of["down"](F.silu(of["gate"](x)) * of["up"](x))
        x = x + of["second"](F.leaky_relu(of["first"](self.norm(x))))
        return of["head"](x).mean(1)


class Watched(nn.Module):
    """Units between two layers that a third one reads too, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.d(F.relu(self.c(F.relu(self.c(self.b(h)))))) + h


def mlp(*between: nn.Module) -> nn.Module:
    layers = [nn.Linear(8, 8), *itertools.chain.from_iterable((act, nn.Linear(8, 8)) for act in between)]
    return nn.Sequential(*layers)


def one_by_one(f: Functional, inputs: Tensor) -> list[tuple[str, str]]:
    """By a whole pass for each pair, with its weights rescaled alone."""
    names: list[str] = []
    hooks = [
        m.register_forward_pre_hook(lambda *_, name=name: None if name in names else names.append(name))
        for name, m in f.model.named_modules()
        if type(m) is nn.Linear
    ]
    with torch.no_grad():
        outputs = f(f.theta, inputs)
    for hook in hooks:
        hook.remove()
    found = []
    for first, second in itertools.pairwise(names):
        if not FEWEST_UNITS <= f.theta[f"{first}.weight"].shape[0] == f.theta[f"{second}.weight"].shape[1]:
            continue
        factors = {f"{first}.weight": FACTOR, f"{first}.bias": FACTOR, f"{second}.weight": 1 / FACTOR}
        rescaled = f({name: value * factors.get(name, 1.0) for name, value in f.theta.items()}, inputs)
        if float((rescaled - outputs).norm()) <= SAME * float(outputs.norm()):
            found.append((first, second))
    return found


CASES: dict[str, tuple[Any, tuple[int, ...], list[tuple[str, str]]]] = {
    "attention": (
        Attention, (6, 5, 8),
        [("layers.value", "layers.out"), ("layers.up", "layers.down"), ("layers.first", "layers.second")],
    ),
    "watched": (Watched, (6, 8), []),
    "kinds": (lambda: mlp(nn.ReLU(), nn.Tanh(), nn.Identity(), nn.GELU()), (6, 8), [("0", "2"), ("4", "6")]),
    "in a row": (lambda: mlp(nn.ReLU(), nn.LeakyReLU(), nn.ReLU()), (6, 8), [("0", "2"), ("2", "4"), ("4", "6")]),
    "none": (lambda: nn.Sequential(nn.Linear(8, 8)), (6, 8), []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_all_at_once_are_those_that_pass_alone(case: str) -> None:
    torch.manual_seed(0)
    make, shape, expected = CASES[case]
    f, x = functional(make().double()), torch.randn(*shape, dtype=torch.float64)
    assert rescalable_pairs(f, x) == expected
    # Larger queries make up for smaller keys, but are not what these read.
    assert [pair for pair in one_by_one(f, x) if pair != ("layers.query", "layers.key")] == expected
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in f.model.modules())


def test_a_bias_that_was_not_trained_is_no_part_of_the_rescaling() -> None:
    net = mlp(nn.ReLU(), nn.ReLU()).double()
    trained = [name for name, _ in net.named_parameters() if name != "0.bias"]
    x = torch.randn(6, 8, dtype=torch.float64)
    assert rescalable_pairs(functional(net, params=trained.__contains__), x) == [("2", "4")]


def test_a_path_chosen_by_the_data_is_followed_without_an_error() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
            self.size = 0.0

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.a(x))
            for _ in range(1 + int(float(h.norm()) / self.size > 1.2)):
                h = F.relu(self.b(h))
            return self.c(h)

    torch.manual_seed(0)
    net, x = Branching().double(), torch.randn(6, 8, dtype=torch.float64)
    with torch.no_grad():
        net.size = float(F.relu(net.a(x)).norm())
    assert rescalable_pairs(functional(net), x) == [("b", "c")]


def test_inputs_given_by_name_are_left_out() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(input=F.relu(self.a(input=x)))

    assert rescalable_pairs(functional(Named()), torch.randn(6, 8)) == []
