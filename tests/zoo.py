"""Small networks of every awkward kind, with inputs: what gradients and hooks must cope with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.numerics import stream


@dataclass(frozen=True)
class Case:
    """A model with inputs, the name of one of its hidden layers as recorded, and whether torch.func can batch it."""

    name: str
    model: nn.Module
    inputs: Tensor | tuple[Tensor, ...]
    layer: str
    vectorised: bool = True

    def __str__(self) -> str:
        return self.name


class Recurrent(nn.Module):
    """An LSTM read out at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class CellLoop(nn.Module):
    """A GRU cell called once per step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return self.head(h)


class Masked(nn.Module):
    """A transformer encoder with a padding mask, averaged over the valid tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        h = self.encoder(self.embed(tokens), src_key_padding_mask=padding)
        keep = (~padding).to(h.dtype)[..., None]
        return self.head((h * keep).sum(1) / keep.sum(1))


class Residual(nn.Module):
    """Convolutions with BatchNorm, in-place and functional ReLU, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.stem(x)))
        h = F.relu(h + self.conv(h))
        return self.head(h.mean((2, 3)))


class Shared(nn.Module):
    """The same layer twice, and a read-out tied to the first layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.again = nn.Linear(5, 5)
        self.head = nn.Linear(5, 5, bias=False)
        self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.again(torch.tanh(self.again(self.first(x))))))


class Branching(nn.Module):
    """Chooses its path by the data: torch.func cannot batch it."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 3)
        self.down = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.up(row) if bool(row.sum() > 0) else self.down(row).tanh() for row in x])


class _SquareByHand(torch.autograd.Function):
    """An old-style custom function, which has no rule for torch.func or forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class ByHand(nn.Module):
    """A layer, a custom function, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(_SquareByHand.apply(self.first(x)))


def _drawn(build: Callable[[], nn.Module], name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(0, "zoo", name).initial_seed() % 2**31)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))


def _frozen() -> nn.Module:
    model = _mlp()
    model[0].requires_grad_(False)
    return model


def zoo() -> list[Case]:
    """Fresh models and inputs of every kind."""
    g = stream(0, "zoo inputs")
    flat = torch.randn(6, 4, generator=g)
    steps = torch.randn(5, 4, 3, generator=g)
    images = torch.randn(5, 1, 5, 5, generator=g)
    tokens = torch.randint(0, 9, (5, 6), generator=g)
    padding = torch.arange(6)[None] >= torch.tensor([6, 4, 5, 3, 6])[:, None]
    wide = torch.randn(5, 5, generator=g)
    return [
        Case("mlp", _drawn(_mlp, "mlp"), flat, "2"),
        Case("frozen", _drawn(_frozen, "frozen"), flat, "2"),
        Case("residual", _drawn(Residual, "residual"), images, "stem"),
        Case("lstm", _drawn(Recurrent, "lstm"), steps, "rnn[0]", vectorised=False),
        Case("gru cell", _drawn(CellLoop, "gru"), steps, "cell"),
        Case("transformer", _drawn(Masked, "transformer"), (tokens, padding), "encoder.layers.0"),
        Case("shared", _drawn(Shared, "shared"), wide, "again"),
        Case("branching", _drawn(Branching, "branching"), flat, "", vectorised=False),
        Case("custom function", _drawn(ByHand, "by hand"), flat, "first", vectorised=False),
    ]


def nudged(model: nn.Module, size: float, seed: int = 0) -> nn.Module:
    """A copy whose parameters moved by normal noise of standard deviation `size`; frozen ones too."""
    out = copy.deepcopy(model)
    with torch.no_grad():
        for name, p in out.named_parameters():
            p.add_(size * torch.randn(p.shape, generator=stream(seed, "nudge", name)).to(p))
    return out
