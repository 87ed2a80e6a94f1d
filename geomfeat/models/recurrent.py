"""Recurrent networks: a fused LSTM, a loop over one GRU cell, and a vanilla rate network of bare parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models._sequence_input import as_sequence
from geomfeat.models.parameterization import scaled, seeded
from geomfeat.numerics import times


class LSTMClassifier(nn.Module):
    """`rnn` (nn.LSTM, batch first), the hidden state of the last step, `head`."""

    def __init__(self, features: int, hidden: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(features, hidden, depth, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, features) or images (n, c, h, w) -> (n, outputs)."""
        states, _ = self.rnn(as_sequence(x))
        return self.head(states[:, -1])


class GRULoop(nn.Module):
    """One `cell` (nn.GRUCell) called once per step, then `head`: a module that runs many times in one forward pass."""

    def __init__(self, features: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(features, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, features) or images (n, c, h, w) -> (n, outputs)."""
        x = as_sequence(x)
        state = x.new_zeros(x.shape[0], self.cell.hidden_size)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class RateNetwork(nn.Module):
    """x <- (1 - a) x + a (W r + U u + b) with r = tanh(x) from x = 0 on, outputs s V r: bare parameters W, U, b, V.

    Euler steps of a rate network (Sompolinsky et al. 1988). W (`recurrent`) has independent entries of variance
    gain^2 / units, or is the product of two Gaussian factors of that rank whose entries have this variance too. U
    (`input`) has variance 1 / features, V (`readout`) 1 / units, b is 0.

    `rates`: an identity that is called on r at every step, so that it is a layer.
    """

    def __init__(
        self, features: int, hidden: int, outputs: int, gain: float, rank: int | None, leak: float,
        output_scale: float, every_step: bool, batch_first: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.gain, self.rank, self.leak, self.output_scale = gain, rank, leak, output_scale
        self.every_step, self.batch_first = every_step, batch_first
        self.recurrent = nn.Parameter(torch.empty(hidden, hidden))
        self.input = nn.Parameter(torch.empty(hidden, features))
        self.bias = nn.Parameter(torch.empty(hidden))
        self.readout = nn.Parameter(torch.empty(outputs, hidden))
        self.rates = nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights of the same gain and rank, and biases 0."""
        units, features = self.input.shape
        if self.rank is None:
            nn.init.normal_(self.recurrent, std=self.gain / math.sqrt(units))
        else:
            left, right = torch.randn(units, self.rank), torch.randn(units, self.rank)
            with torch.no_grad():
                self.recurrent.copy_(self.gain / math.sqrt(units * self.rank) * left @ right.mT)
        nn.init.normal_(self.input, std=features**-0.5)
        nn.init.normal_(self.readout, std=units**-0.5)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, steps, features) or images -> (n, outputs) at the last step, or (n, steps, outputs) at every step.

        Time first, it takes (steps, n, features) and returns (steps, n, outputs) at every step. mask: (n, steps), or
        (steps, n) time first: the outputs of every step are 0 where it is.
        """
        drive = as_sequence(x) @ self.input.mT + self.bias
        over_time = drive.unbind(1 if self.batch_first else 0)
        state = torch.zeros_like(over_time[0])
        seen = []
        for now in over_time:
            state = times(state, 1 - self.leak) + times(torch.tanh(state) @ self.recurrent.mT + now, self.leak)
            seen.append(self.rates(torch.tanh(state)))
        if not self.every_step:
            return times(seen[-1], self.output_scale) @ self.readout.mT
        made = times(torch.stack(seen, 1 if self.batch_first else 0), self.output_scale) @ self.readout.mT
        return made if mask is None else made * mask[..., None].to(made.dtype)


class SamplesFirst(nn.Module):
    """A network over (steps, n, ...) as one over (n, steps, ...): `net` is given time first what comes samples first.

    Outputs of every step are turned back. Its layers must have the samples first themselves, or at every step.

    >>> SamplesFirst(rate_rnn(3, outputs=2, batch_first=False, every_step=True))(torch.zeros(5, 7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, steps, features) -> what the network returns, samples first."""
        given = {} if mask is None else {"mask": mask.transpose(0, 1)}
        made = self.net(x.transpose(0, 1), **given)
        return made.transpose(0, 1) if made.ndim == 3 else made


def lstm(
    features: int = 8,
    hidden: int = 32,
    outputs: int = 10,
    *,
    depth: int = 1,
    init_scale: float = 1.0,
    seed: int | None = None,
) -> LSTMClassifier:
    """An LSTM classifier; the defaults read a digit row by row.

    Raises BadInput for sizes below 1.

    >>> import torch
    >>> lstm()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    if min(features, hidden, outputs, depth) < 1:
        raise BadInput(f"features={features}, hidden={hidden}, outputs={outputs}, depth={depth} must be at least 1")
    with seeded(seed, "lstm"):
        return scaled(LSTMClassifier(features, hidden, depth, outputs), init_scale)  # pyright: ignore[reportReturnType]


def gru_loop(
    features: int = 8, hidden: int = 32, outputs: int = 10, *, init_scale: float = 1.0, seed: int | None = None
) -> GRULoop:
    """A classifier that loops over a GRU cell; the defaults read a digit row by row.

    Raises BadInput for sizes below 1.

    >>> import torch
    >>> gru_loop()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    if min(features, hidden, outputs) < 1:
        raise BadInput(f"features={features}, hidden={hidden}, outputs={outputs} must be at least 1")
    with seeded(seed, "gru_loop"):
        return scaled(GRULoop(features, hidden, outputs), init_scale)  # pyright: ignore[reportReturnType]


def rate_rnn(
    features: int = 8,
    hidden: int = 32,
    outputs: int = 10,
    *,
    gain: float = 1.0,
    rank: int | None = None,
    leak: float = 0.5,
    output_scale: float = 1.0,
    every_step: bool = False,
    batch_first: bool = True,
    init_scale: float = 1.0,
    seed: int | None = None,
) -> RateNetwork:
    """A vanilla rate network, see `RateNetwork`; the defaults read a digit row by row.

    Args:
        gain: g of the recurrent weights, whose spectral radius it is at full rank. rank: of the recurrent weights at
            the start; None for full. Their mean square is the same at every rank.
        leak: a, the Euler step over the time constant, in (0, 1]. output_scale: s, a factor on the outputs.
        every_step: whether outputs are those of every step, or of the last. batch_first: False for time first.

    Raises BadInput for sizes below 1, a rank above `hidden`, and numbers out of range.

    >>> net = rate_rnn(3, 16, 1, rank=2, gain=1.5, seed=0)
    >>> net(torch.zeros(5, 12, 3)).shape, int(torch.linalg.matrix_rank(net.recurrent.detach()))
    (torch.Size([5, 1]), 2)
    """
    if min(features, hidden, outputs) < 1:
        raise BadInput(f"features={features}, hidden={hidden}, outputs={outputs} must be at least 1")
    if rank is not None and not 1 <= rank <= hidden:
        raise BadInput(f"rank={rank} of recurrent weights must be in 1..{hidden}, or None for full rank")
    if not 0 < leak <= 1:
        raise BadInput(f"leak={leak} must be in (0, 1]: the Euler step over the time constant")
    for name, value in (("gain", gain), ("output_scale", output_scale)):
        if not 0 < value < math.inf:
            raise BadInput(f"{name}={value} must be a positive number")
    with seeded(seed, "rate_rnn"):
        net = RateNetwork(features, hidden, outputs, gain, rank, leak, output_scale, every_step, batch_first)
        return scaled(net, init_scale)  # pyright: ignore[reportReturnType]
