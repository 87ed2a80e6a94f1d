"""The trace over many outputs of a last linear layer: the rows' own kernel, in the memory of few of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.models.functional import functional
from geomfeat.models.readouts.reading import reading_of
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import jacobian, ntk_by_parameter_group, ntk_diagonal
from geomfeat.tangent.jacobians.rows import Identity
from geomfeat.tangent.layerwise import wide_head as module
from geomfeat.tangent.layerwise.wide_head import wide_head

TOKENS = torch.arange(24).reshape(6, 4) * 5 % 11


class Language(nn.Module):
    """An embedding, a hidden layer and a vocabulary; what `forward` does with the head's weight varies."""

    def __init__(self, bias: bool = True, kind: str = "plain") -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.e, self.l, self.o = nn.Embedding(11, 3), nn.Linear(3, 3), nn.Linear(3, 11, bias=bias)
        self.kind = kind
        if kind == "tied":
            self.o.weight = self.e.weight

    def forward(self, t: Tensor) -> Tensor:
        h = torch.tanh(self.l(self.e(t)))
        if self.kind == "used twice":
            h = h * self.o.weight.mean()
        y = self.o(h)
        match self.kind:
            case "scaled":
                return nn.functional.linear(h, self.o.weight / 4, self.o.bias)
            case "scaled bias":
                return nn.functional.linear(h, self.o.weight, 3 * self.o.bias)
            case "sized":
                return y.view(len(t), 44)
            case "averaged":
                return y.mean(1)
            case "squared":
                return y.square()
        return y


@pytest.fixture(autouse=True)
def few_outputs_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 8)


def plain(model: nn.Module, x: Any) -> Tensor:
    f = functional(model)
    j = jacobian(f, x).view(len(x), -1, f.n_parameters)
    return torch.einsum("acp,bcp->ab", j, j)


@pytest.mark.parametrize(("bias", "kind", "taken"), [
    (True, "plain", True), (False, "plain", True), (True, "tied", False), (True, "used twice", False),
    (True, "sized", False), (True, "averaged", False), (False, "squared", False), (True, "scaled", True),
    (True, "scaled bias", False),
])  # fmt: skip
def test_the_trace_is_that_of_the_rows(bias: bool, kind: str, taken: bool) -> None:
    net = Language(bias, kind)
    f = functional(net)
    assert (wide_head(f, TOKENS, f(f.theta, TOKENS).shape[1]) is not None) == taken
    expected = plain(net, TOKENS)
    torch.testing.assert_close(gf.ntk(net, TOKENS).gram, expected, **tolerance(scale=10))
    torch.testing.assert_close(gf.ntk(net, TOKENS, TOKENS[:2]).gram, expected[:, :2], **tolerance(scale=10))
    torch.testing.assert_close(ntk_diagonal(net, TOKENS), expected.diagonal(), **tolerance(scale=10))
    groups = ntk_by_parameter_group(net, TOKENS)
    for name, kernel in groups.items():
        own = functional(net, params=[f"{name}.*"])
        j = jacobian(own, TOKENS).view(len(TOKENS), -1, own.n_parameters)
        torch.testing.assert_close(kernel.gram, torch.einsum("acp,bcp->ab", j, j), **tolerance(scale=10))


@pytest.mark.parametrize("readout", [None, "last", "mean", "token:1", "masked"])
def test_logits_less_their_mean_of_some_tokens_are_taken_so_too(readout: str | None) -> None:
    class Logits(Language):
        def forward(self, t: Tensor, attention_mask: Tensor) -> Any:  # type: ignore[override]
            return {"logits": super().forward(t)}

    net = Logits(bias=readout != "masked").double()
    inputs = {"t": TOKENS, "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).repeat(3, 1)}
    f = functional(net, readout=reading_of(net, readout, inputs=inputs))
    taken = wide_head(f, inputs, f(f.theta, inputs).shape[1])
    assert (taken is not None) == (readout is not None)
    assert taken is None or taken.free == 10
    found = gf.ntk(f, inputs)
    rows = jacobian(f, inputs).view(6, -1, f.n_parameters)
    torch.testing.assert_close(found.gram, torch.einsum("acp,bcp->ab", rows, rows), **tolerance())
    torch.testing.assert_close(ntk_diagonal(f, inputs), found.gram.diagonal(), **tolerance())


@pytest.mark.parametrize("params", ["o.weight", "o.bias", "e.*", "l.*"])
def test_parameters_can_be_chosen(params: str) -> None:
    net = Language()
    f = functional(net, params=params)
    j = jacobian(f, TOKENS).view(len(TOKENS), -1, f.n_parameters)
    expected = torch.einsum("acp,bcp->ab", j, j)
    torch.testing.assert_close(gf.ntk(net, TOKENS, params=params).gram, expected, **tolerance(scale=10))
    torch.testing.assert_close(ntk_diagonal(net, TOKENS, params=params), expected.diagonal(), **tolerance(scale=10))


def test_a_vocabulary_of_thousands_by_the_closed_form() -> None:
    # K(a, b) = sum over equal steps of V h_s(a) . h_s(b), and |W|^2 where the tokens are equal.
    net = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 3000, bias=False)).double()
    ids = torch.randint(0, 30, (6, 8), generator=stream(0, "ids"))
    h = net[0](ids).detach()
    same = (ids[:, None] == ids[None]).double().sum(-1)
    expected = 3000 * torch.einsum("atd,btd->ab", h, h) + same * net[1].weight.detach().square().sum()
    torch.testing.assert_close(gf.ntk(net, ids).gram, expected, **tolerance(scale=10))


def test_columns_of_the_identity() -> None:
    whole = Identity(4, torch.float64, torch.device("cpu"))
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.equal(whole[:, 1:3], eye[:, 1:3])
    assert torch.equal(whole[:, [2]], eye[:, [2]])
    assert torch.equal(whole[:, 3], eye[:, 3])
    assert whole.shape == (4, 4)


def test_rows_of_many_outputs_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Language(kind="tied")
    whole = jacobian(functional(net), TOKENS)
    monkeypatch.setattr("geomfeat.tangent.jacobians.rows.CPU_CALL", 1)
    torch.testing.assert_close(jacobian(functional(net), TOKENS), whole, **tolerance())
