"""A location of inputs in batches, and of inputs whose samples are on the time axis."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from geomfeat.diagnostics.locate import locate
from geomfeat.errors import BadInput

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
    arguments: dict[str, Any] = {"initial": network(0), "n_bootstrap": 2, "n_probes": 16, "progress": False}
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
        locate(nets[1], u, initial=nets[0], layers=layers, n_bootstrap=2, progress=False)
