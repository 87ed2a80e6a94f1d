"""What the linearised network leaves of a step, for networks that differ by weights alone and by buffers too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from geomfeat.models.functional import functional
from geomfeat.numerics import stream
from geomfeat.regimes.width.parallel_training import family
from geomfeat.regimes.width.readings import _second_order

X = torch.randn(5, 3, generator=stream(0, "second order"), dtype=torch.float64)


class Scaled(nn.Module):
    """A hidden layer of tanh units, each over a scale that is a buffer, or 1."""

    scale: Tensor | None

    def __init__(self, seed: int, buffer: bool) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)
        draw = stream(seed, "scaled")
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=draw))
        self.register_buffer("scale", 0.5 + torch.rand(4, generator=draw) if buffer else None)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        return self.outer(torch.tanh(hidden if self.scale is None else hidden / self.scale))


@pytest.mark.parametrize("buffer", [False, True])
def test_each_network_is_taken_with_its_own_weights_and_buffers(buffer: bool) -> None:
    nets = [Scaled(seed, buffer) for seed in range(3)]
    together = family(nets)
    after = {name: 1.1 * value for name, value in together.start.items()}
    expected = []
    for net in nets:
        f = functional(net)
        ends = [
            f({name: size * value for name, value in f.theta.items()}, X) for size in (1.0, 1.1, 1 + 1e-6, 1 - 1e-6)
        ]
        slope = (ends[2] - ends[3]) / 2e-6  # of the outputs along the weights themselves
        expected.append((ends[1] - ends[0] - 0.1 * slope).norm())
    found = _second_order(together, together.start, after, X, None)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-8)
