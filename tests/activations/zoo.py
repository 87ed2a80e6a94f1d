"""A small zoo: every kind of network that extraction must see through, each with inputs. All are seeded.

Every function returns (model, inputs). Models are in training mode, as a user would hand them over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

N = 6


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)
    return model


def mlp(n: int = N) -> tuple[nn.Module, Tensor]:
    """Linear, in-place ReLU, dropout, linear, tanh, linear."""
    layers = lambda: nn.Sequential(  # noqa: E731
        nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)
    )
    return _seeded(layers), _normal(n, 5)


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm and an in-place ReLU that overwrites what the layer before it returned."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.relu(y)


class ResidualNet(nn.Module):
    """A stem, two stages of residual blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.Sequential(ResidualBlock(4), ResidualBlock(4))
        self.layer2 = nn.Sequential(ResidualBlock(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


def conv_bn_residual(n: int = N) -> tuple[nn.Module, Tensor]:
    """A residual CNN with BatchNorm and in-place ReLU."""
    return _seeded(ResidualNet), _normal(n, 3, 5, 5)


class LastState(nn.Module):
    """An LSTM that returns (out, (h, c)), read out at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def lstm(n: int = N) -> tuple[nn.Module, Tensor]:
    """Two-layer LSTM; its final states are (layers, n, hidden), with the samples second."""
    return _seeded(LastState), _normal(n, 5, 3)


class CellLoop(nn.Module):
    """A GRU cell called once per step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 4)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return self.head(h)


def gru_cell_loop(n: int = N) -> tuple[nn.Module, Tensor]:
    """A GRU cell in a loop of four steps."""
    return _seeded(CellLoop), _normal(n, 4, 3)


class MaskedEncoder(nn.Module):
    """torch's own TransformerEncoder over tokens with a padding mask, then the mean of the valid tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, src: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        hidden = self.encoder(src, src_key_padding_mask=src_key_padding_mask)
        valid = torch.ones(src.shape[:2]) if src_key_padding_mask is None else (~src_key_padding_mask).to(src.dtype)
        valid = valid.to(src)[..., None]
        return self.head((hidden * valid).sum(1) / valid.sum(1))


def transformer_encoder_masked(n: int = N, as_tuple: bool = False) -> tuple[nn.Module, Any]:
    """A transformer encoder; inputs as a dict (or a tuple) of tokens and mask, padded to 5 tokens."""
    lengths = torch.tensor([5, 3, 4, 1, 2, 5]).repeat(n // 6 + 1)[:n]
    padding = torch.arange(5) >= lengths[:, None]
    inputs = {"src": _normal(n, 5, 8), "src_key_padding_mask": padding}
    return _seeded(MaskedEncoder), tuple(inputs.values()) if as_tuple else inputs


class Shared(nn.Module):
    """One module under two names, called twice, and two modules with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tied(torch.relu(self.again(torch.relu(self.first(x))))))


def shared_weights(n: int = N) -> tuple[nn.Module, Tensor]:
    """Shared modules and tied weights."""
    return _seeded(Shared), _normal(n, 4)


ZOO: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "mlp": mlp,
    "conv_bn_residual": conv_bn_residual,
    "lstm": lstm,
    "gru_cell_loop": gru_cell_loop,
    "transformer_encoder_masked": transformer_encoder_masked,
    "shared_weights": shared_weights,
}
