"""A location of inputs in batches, and of inputs whose samples are on the time axis."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from geomfeat.activations import hidden_weight_layers
from geomfeat.errors import BadInput
from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 3


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


class Recurrent(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(5, 8, batch_first=batch_first), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def test_a_loader_gives_the_probes_and_the_ladder_of_the_tensor() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=7)
    options = LocateOptions(n_bootstrap=2, n_probes=16)
    arguments: dict[str, Any] = {"initial": network(0), "options": options, "progress": False}
    plain = locate(network(1), X, Y, ladder=2, **arguments)
    found = locate(network(1), loader, ladder=2, **arguments)
    assert found.richness == pytest.approx(plain.richness)
    assert found.equivalent_gamma == pytest.approx(plain.equivalent_gamma)
    with pytest.raises(BadInput, match="shuffle=False"):
        locate(network(1), DataLoader(TensorDataset(X), shuffle=True), **arguments)


@pytest.mark.parametrize("layers", ["*", ["rnn"]])
def test_time_taken_for_samples_is_refused(layers: Any) -> None:
    nets = [Recurrent(False), Recurrent(False)]
    u = torch.randn(9, 30, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BadInput, match=r"layer 'rnn' is an? GRU with batch_first=False.* time"):
        locate(nets[1], u, initial=nets[0], layers=layers, progress=False, options=LocateOptions(n_bootstrap=2))


class _Tokens(nn.Module):
    def __init__(self, seed: int, bag: bool):
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.EmbeddingBag(9, 8) if bag else nn.Embedding(9, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.table(tokens)
        return self.head(h if h.ndim == 2 else h.mean(1))


@pytest.mark.parametrize("bag", [False, True])
def test_embedding_tables_are_located_where_they_are_named_and_else_the_remedy_is_said(bag: bool) -> None:
    end, start = _Tokens(1, bag), _Tokens(0, bag)
    x = torch.randint(9, (20, 3), generator=torch.Generator().manual_seed(0))
    with pytest.raises(BadInput, match=r"embedding tables \(table\).*layers=\['table'\]"):
        locate(end, x, initial=start, progress=False, options=LocateOptions(n_bootstrap=3))
    found = locate(end, x, initial=start, layers=["table"], progress=False, options=LocateOptions(n_bootstrap=3))
    assert math.isfinite(found.richness)


class _Held(nn.Module):
    """A network whose weights lie in a list or dict of parameters."""

    def __init__(self, seed: int, kind: str, seen: bool):
        super().__init__()
        torch.manual_seed(seed)
        weights = [nn.Parameter(torch.randn(4, 8) / 2), nn.Parameter(torch.randn(8, 2) / 3)]
        self.held = (
            nn.ParameterList(weights) if kind == "list" else nn.ParameterDict(dict(zip("01", weights, strict=True)))
        )
        self.hidden = nn.Tanh() if seen else torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.held[i] if isinstance(self.held, nn.ParameterList) else self.held[str(i)] for i in (0, 1))
        return self.hidden(x @ first) @ second


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_weights_in_lists_of_parameters_are_those_of_the_model(kind: str) -> None:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    found = locate(
        _Held(1, kind, True), x, initial=_Held(0, kind, True), progress=False, options=LocateOptions(n_bootstrap=3)
    )
    assert math.isfinite(found.richness)
    assert hidden_weight_layers(_Held(1, kind, True), x) == ["hidden"]
    with pytest.raises(BadInput, match=r"\(held\.0, held\.1\) are bare nn\.Parameters.*nn\.Identity"):
        locate(
            _Held(1, kind, False),
            x,
            initial=_Held(0, kind, False),
            progress=False,
            options=LocateOptions(n_bootstrap=3),
        )


def test_labels_that_fit_no_output_and_a_network_in_their_place_are_refused() -> None:
    end, start = (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)) for _ in range(2))
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BadInput, match=r"labels has shape \(20, 5\), but the model has 2 outputs"):
        locate(end, x, torch.zeros(20, 5, dtype=torch.int64), initial=start, progress=False)
    with pytest.raises(BadInput, match=r"labels is a Sequential: .* initial="):
        locate(end, x, start, progress=False)


def test_a_ladder_is_not_compared_with_a_model_at_one_share() -> None:
    start, end = (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2))
    options = LocateOptions(share_left=0.1)
    with pytest.raises(BadInput, match=r"ladder= with share_left=0.1: .* leave share_left out"):
        locate(end, torch.randn(12, 3), torch.randn(12, 2), initial=start, ladder=3, progress=False, options=options)
