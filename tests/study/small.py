"""A small network before and after training on digits, for tests of everything that takes one."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from geomfeat.data._load_data import load_data


def make() -> nn.Module:
    """16-12-10 on digits of 8 x 8 pixels, weights from the global random state."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))


def make_seeded(seed: int = 0) -> nn.Module:
    """`make` from its own random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


@cache
def digits(n: int = 60) -> tuple[Tensor, Tensor]:
    """`n` digits, balanced, with labels."""
    data = load_data("digits", n=n)
    assert data.labels is not None
    return data.inputs, data.labels


@cache
def states(steps: int = 60) -> tuple[dict[str, Tensor], ...]:
    """States of the network: initial, after a third of the training, trained."""
    model, (x, y) = make_seeded(), digits(200)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    kept = []
    for step in range(steps + 1):
        if step in (0, steps // 3, steps):
            kept.append({k: v.clone() for k, v in model.state_dict().items()})
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return tuple(kept)


def model_at(which: int) -> nn.Module:
    """A fresh module in state 0 (initial), 1 (on the way) or 2 (trained)."""
    model = make_seeded()
    model.load_state_dict(states()[which])
    return model
