"""Models whose correspondence is known: layers are mixtures of hidden factors, rotated, scaled and shifted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomfeat.numerics import WORKING, stream
from geomfeat.types import Representation

N = 32
LABELS = torch.arange(N) % 4


def normal(*shape: int, seed: int = 0, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "planted", name), dtype=WORKING)


def rotation(d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed, name="rotation"))[0]


def layer(factor: int, d: int = 12, seed: int = 0, noise: float = 0.0) -> Tensor:
    """(N, d) features of hidden factor number `factor`, turned and scaled by `seed`, with noise of its own."""
    x = normal(N, d, name=f"factor {factor}") @ rotation(d, seed) * (1 + seed) + 3 * seed
    return x + noise * (1 + seed) * normal(N, d, seed=seed, name=f"noise {factor}")


def model(factors: Sequence[int], seed: int = 0, noise: float = 0.0, labels: bool = False) -> dict[str, Representation]:
    """One layer for each factor, named by its place."""
    return {
        f"layer{i}": Representation(layer(f, seed=seed, noise=noise), LABELS if labels else None, f"layer{i}")
        for i, f in enumerate(factors)
    }
