"""What stands for "*" among layers that cannot all be read: those that can, and an error for one asked for by name."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.activations import readable_layers
from geomfeat.errors import BadInput
from geomfeat.numerics import stream


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=stream(seed, "default layers"), dtype=torch.float64)


# What a module with a weight returns -> which of it is a hidden layer (None: nothing), by the name of the module.
RETURNS: dict[str, tuple[Callable[[Tensor], Any], str | None]] = {
    "a tuple with None": (lambda h: (h, None), "odd"),
    "a mapping": (lambda h: {"a": h, "b": 2 * h}, "odd[a]"),
    "whole numbers before": (lambda h: (h.argmax(1), h), "odd[1]"),
    "no features before": (lambda h: (h[:, :0], h), "odd[1]"),
    "sparse": (lambda h: h.to_sparse(), "odd"),
    "sparse rows": (lambda h: h.to_sparse_csr(), "odd"),
    "half": (lambda h: h.half(), "odd"),
    "no features": (lambda h: h[:, :0], None),
    "an empty mapping": (lambda h: {}, None),
    "nothing": (lambda h: None, None),
    "a word": (lambda h: "h", None),
    "complex": (lambda h: torch.complex(h, h), None),
    "one for all": (lambda h: h.mean(), None),
    "a mean over samples": (lambda h: h.mean(0), None),
    "NaN": (lambda h: h * torch.nan, None),
    "infinities of a mask": (lambda h: torch.where(h > 0, h, -torch.inf), None),
}
UNREAD = [what for what, (_, key) in RETURNS.items() if key is None]


class _Odd(nn.Module):
    def __init__(self, returns: Callable[[Tensor], Any]):
        super().__init__()
        self.weight = nn.Parameter(normal(8, 8, seed=1) / 3)
        self.returns, self.made = returns, torch.zeros(0)

    def forward(self, x: Tensor) -> Any:
        self.made = x @ self.weight
        return self.returns(self.made)


class _Net(nn.Module):
    """fc -> odd, of which the network reads what it returned before it was made odd -> last -> out."""

    def __init__(self, returns: Callable[[Tensor], Any]):
        super().__init__()
        self.fc, self.odd, self.last, self.out = nn.Linear(5, 8), _Odd(returns), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.odd(torch.tanh(self.fc(x)))
        return self.out(torch.tanh(self.last(self.odd.made)))


def _pair(what: str) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(3)
    start = _Net(RETURNS[what][0]).double()
    start.odd.made = torch.zeros(0)
    end = copy.deepcopy(start)
    with torch.no_grad():
        for i, p in enumerate(end.parameters()):
            p.add_(0.1 * normal(*p.shape, seed=10 + i))
    return start, end, normal(12, 5, seed=2)


def _expected(what: str) -> list[str]:
    key = RETURNS[what][1]
    return ["fc", *([key] if key else []), "last"]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("what", RETURNS)
def test_default_layers_are_those_that_can_be_read(what: str) -> None:
    start, end, x = _pair(what)
    assert list(readable_layers(end, x)) == _expected(what)
    assert list(gf.extract(end, x, layers="weights", progress=False)) == _expected(what)
    measured = gf.analyze(
        end,
        x,
        initial=start,
        measures=["participation_ratio"],
        location=False,
        progress=False,
        options=gf.StudyOptions(umap=False),
    )
    table = measured.table[measured.table["measure"] == "participation_ratio"]
    assert set(table["layer"]) == set(_expected(what))
    located = gf.locate(end, x, initial=start, progress=False, options=gf.LocateOptions(n_bootstrap=2, share_left=0.01))
    assert set(located.layers["layer"]) == set(_expected(what))
    message = any(flag.startswith("Left out: odd") for flag in located.flags)
    assert message == (what in UNREAD and what not in ("an empty mapping", "nothing", "a word"))


@pytest.mark.parametrize("what", UNREAD)
def test_a_layer_given_by_name_raises_where_it_cannot_be_read(what: str) -> None:
    start, end, x = _pair(what)
    with pytest.raises(gf.errors.GeomfeatError, match="odd"):
        gf.extract(end, x, layers=["odd", "last"], progress=False)
    with pytest.raises(gf.errors.GeomfeatError, match="odd"):
        gf.analyze(
            end,
            x,
            layers=["odd", "last"],
            measures=["participation_ratio"],
            progress=False,
            options=gf.StudyOptions(umap=False),
        )
    with pytest.raises(gf.errors.GeomfeatError, match="odd"):
        gf.locate(
            end,
            x,
            initial=start,
            layers=["odd", "last"],
            progress=False,
            options=gf.LocateOptions(n_bootstrap=2, share_left=0.01),
        )


def test_a_layer_that_is_left_out_is_named_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    _, end, x = _pair("complex")
    with caplog.at_level(logging.INFO, logger="geomfeat"):
        readable_layers(end, x)
    assert any("'odd' is left out" in text and "complex numbers" in text for text in caplog.messages)


def test_nan_that_reaches_the_outputs_is_an_error_whatever_the_layers() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last, self.out = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.last(self.fc(x).log()))

    with pytest.raises(BadInput, match=r"layer 'last' holds \d+ NaN"):
        gf.extract(Broken(), normal(8, 5).float(), layers="weights", progress=False)


def test_a_layer_that_mixes_samples_is_no_default_layer_of_a_study(caplog: pytest.LogCaptureFixture) -> None:
    class Mixed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            h = super().forward(x)
            return h - h.mean(0)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), Mixed(6, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    pair = {"a": nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double(), "b": net}
    compared = gf.compare(
        pair,
        normal(20, 5),
        layers={"b": "weights"},
        progress=False,
        options=gf.CompareOptions(n_bootstrap=10, n_draws=5),
    )
    assert compared is not None
    assert any("left out" in text and "'2'" in text for text in caplog.messages)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("rows", [False, True], ids=["entries", "rows"])
def test_a_network_with_a_sparse_matrix_is_what_it_is_with_a_dense_one(rows: bool) -> None:
    class Graph(nn.Module):
        def __init__(self, matrix: Tensor):
            super().__init__()
            torch.manual_seed(1)
            self.fc, self.out = nn.Linear(5, 8), nn.Linear(8, 2)
            self.register_buffer("links", matrix)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh((self.links @ self.fc(x).T).T))

    matrix = (normal(8, 8, seed=4) > 0.8).double()
    x = normal(6, 5)
    dense, sparse = (Graph(m).double() for m in (matrix, matrix.to_sparse_csr() if rows else matrix.to_sparse()))
    torch.testing.assert_close(gf.ntk(sparse, x).gram, gf.ntk(dense, x).gram)
    kept = gf.extract(sparse, x, progress=False)["fc"].x
    torch.testing.assert_close(kept, gf.extract(dense, x, progress=False)["fc"].x)
