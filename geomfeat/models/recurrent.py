"""Two recurrent classifiers: a fused LSTM and a loop over one GRU cell."""

from __future__ import annotations

from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models._sequence_input import as_sequence
from geomfeat.models.parameterization import scaled, seeded


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
