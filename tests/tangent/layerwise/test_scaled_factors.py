"""Kernels and products in the coordinates of an optimizer, from factors: those of the Jacobian times its factors."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.models.functional import Functional, functional
from geomfeat.numerics import stream
from geomfeat.tangent import ntk
from geomfeat.tangent.layerwise.factored_jacobian import factored_jacobian
from geomfeat.tangent.layerwise.structured_kernel import structured

N = 5


class Tied(nn.Module):
    """An embedding whose weight is the read-out too; which of the two comes first depends on `late`."""

    def __init__(self, *, summed: bool) -> None:
        super().__init__()
        self.table, self.mix, self.norm = nn.Embedding(11, 6), nn.Linear(6, 6), nn.LayerNorm(6)
        self.summed = summed

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(torch.tanh(self.mix(self.table(ids))))
        return (x.mean(1) if self.summed else x[:, -1]) @ self.table.weight.T


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 2, bias=False), nn.Flatten(), nn.Linear(27, 4)
    )


NETWORKS: dict[str, tuple[Any, Any]] = {
    "dense": (
        lambda: nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)),
        lambda g: torch.randn(N, 4, generator=g),
    ),
    "convolutions in groups": (convolutional, lambda g: torch.randn(N, 2, 6, 6, generator=g)),
    "tied": (lambda: Tied(summed=False), lambda g: torch.randint(0, 11, (N, 4), generator=g)),
    "tied, many positions": (lambda: Tied(summed=True), lambda g: torch.randint(0, 11, (N, 4), generator=g)),
}


def scaled(name: str, *, numbers: bool = False) -> tuple[Functional, Any]:
    make, draw = NETWORKS[name]
    torch.manual_seed(1)
    f = functional(make())
    g = stream(0, name)
    scale: dict[str, Tensor | float] = {}
    for i, (key, value) in enumerate(f.theta.items()):
        if i != 1:  # one parameter keeps its own coordinates
            scale[key] = 0.5 + i if numbers else torch.rand(value.shape, generator=g, dtype=torch.float64) + 0.5
    f = f.scaled(scale)
    return f, f.inputs(draw(g))


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("room", [2**26, 1], ids=["whole", "one output at a time"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kernel_and_products_are_those_of_the_scaled_jacobian(
    name: str, room: int, numbers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geomfeat.tangent.layerwise.scaled_factors.SCRATCH", room)
    f, x = scaled(name, numbers=numbers)
    with torch.no_grad():
        c = f(f.theta, x).shape[1]
    rows = factored_jacobian(f, x, torch.eye(c, dtype=torch.float64)[:, :3])
    assert rows is not None
    explicit = jacobian(f, x)[:, :3]
    flat = explicit.reshape(N * 3, -1)
    torch.testing.assert_close(rows.kernel(), flat @ flat.mT, rtol=1e-9, atol=1e-11)
    a = torch.randn(N, 3, generator=stream(1, "a"), dtype=torch.float64)
    pulled = torch.cat([rows.pulled(a)[key].flatten() for key in f.theta])
    torch.testing.assert_close(pulled, a.flatten() @ flat, rtol=1e-9, atol=1e-11)


def jacobian(f: Functional, x: Any) -> Tensor:
    """(n, C, p) by torch.func, sample by sample."""
    rows = torch.func.jacrev(lambda theta: f(theta, x))(dict(f.theta))
    return torch.cat([rows[key].flatten(2) for key in f.theta], 2)


@pytest.mark.parametrize("outputs", ["full", "trace"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_ntk_takes_the_rules_in_any_coordinates(name: str, outputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, x = scaled(name)
    monkeypatch.setattr("geomfeat.tangent._ntk.SMALL", 0)
    engine = structured(f, x)
    assert engine is not None
    assert engine.rest is None
    found = ntk(f, x, outputs=outputs).gram
    j = jacobian(f, x)
    expected = j.flatten(0, 1) @ j.flatten(0, 1).mT if outputs == "full" else j.flatten(1) @ j.flatten(1).mT
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_some_parameters_without_rules_are_left_to_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.odd, self.last = nn.Linear(4, 6), nn.Parameter(torch.rand(6) + 0.5), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)).abs() ** self.odd)

    torch.manual_seed(0)
    f = functional(Odd())
    f = f.scaled({key: torch.rand(value.shape).double() + 0.5 for key, value in f.theta.items()})
    x = torch.randn(N, 4, generator=stream(0, "odd"), dtype=torch.float64)
    monkeypatch.setattr("geomfeat.tangent._ntk.SMALL", 0)
    engine = structured(f, x)
    assert engine is not None
    assert engine.rest is not None
    assert list(engine.rest.theta) == ["odd"]
    j = jacobian(f, x).flatten(0, 1)
    torch.testing.assert_close(ntk(f, x, outputs="full").gram, j @ j.mT, rtol=1e-9, atol=1e-11)


def test_the_place_of_a_language_model_trained_by_adam_is_that_by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("needs the package transformers (extra [models])")
    from geomfeat.location import LocateOptions, demand, locate
    from tests.location.test_locate_transformers import LAYERS, last, trained_and_start

    model, start, inputs = trained_and_start()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=stream(0, "gradient", *p.shape))
    import copy

    kept = copy.deepcopy(model.state_dict())
    optimizer.step()
    model.load_state_dict(kept)
    arguments: dict[str, Any] = {
        "initial": start, "readout": last, "layers": LAYERS, "optimizer": optimizer, "progress": False,
        "options": LocateOptions(n_bootstrap=2, projections=4),
    }  # fmt: skip
    usual = locate(model, inputs, **arguments)
    monkeypatch.setattr(demand, "FACTORED", 0)
    factored = locate(model, inputs, **arguments)
    assert factored.metric == usual.metric == "Adam state"
    assert factored.richness == pytest.approx(usual.richness, abs=1e-9)
    model.load_state_dict(kept)
