"""Low-rank adapters of the matrices of a network, as parametrizations, and the network with the adapters merged."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from geomfeat.models.effective_weights import plain_network
from geomfeat.numerics import stream, times

ALPHA = 16.0


class LowRank(nn.Module):
    """W + (alpha / r) up @ down, with down (r, inputs) uniform of variance 1 / (3 inputs) and up (outputs, r) zero.

    Hu et al. 2021, section 4.1; the draw of `down` is that of their code and of peft.
    """

    def __init__(self, weight: Tensor, rank: int, draw: torch.Generator, alpha: float = ALPHA) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        limit = 1 / math.sqrt(inputs)
        down = limit * (2 * torch.rand(rank, inputs, generator=draw, dtype=weight.dtype) - 1)
        self.down, self.up = nn.Parameter(down.to(weight.device)), nn.Parameter(weight.new_zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        return weight + times(self.up, self.scale) @ self.down


def adapted(model: nn.Module, weights: Sequence[str], rank: int, seed: int, alpha: float = ALPHA) -> nn.Module:
    """A copy of the model with an adapter on each of these weights, of which nothing else is trained.

    >>> net = adapted(nn.Sequential(nn.Linear(3, 2)), ["0.weight"], 1, seed=0)
    >>> [name for name, p in net.named_parameters() if p.requires_grad]
    ['0.parametrizations.weight.0.down', '0.parametrizations.weight.0.up']
    """
    model = copy.deepcopy(model).requires_grad_(False)
    for name in weights:
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        low = LowRank(getattr(module, own), rank, stream(seed, "lab", "adapter", name), alpha)
        parametrize.register_parametrization(module, own, low)
    return model


def merged(model: nn.Module) -> nn.Module:
    """A copy in which the adapters are part of the weights.

    >>> list(dict(merged(adapted(nn.Sequential(nn.Linear(3, 2)), ["0.weight"], 1, seed=0)).named_parameters()))
    ['0.bias', '0.weight']
    """
    return plain_network(model)
