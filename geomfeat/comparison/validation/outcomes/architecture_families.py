"""Ladders of output scale on architectures and losses: plain, convolutional, recurrent, residual, transformer."""

from __future__ import annotations

from functools import partial

import torch

from geomfeat.comparison.validation.outcomes.descent import at_gamma, by_optimizer
from geomfeat.comparison.validation.outcomes.networks import RateNetwork, ResidualBlocks
from geomfeat.comparison.validation.outcomes.training import (
    Conditions,
    OutcomeFamily,
    Training,
    centred_values,
    digits_task,
    teacher_task,
)
from geomfeat.models import build
from geomfeat.models.mlp import mlp
from geomfeat.models.transformer import transformer

LADDER = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
GAINS, RANKS = (0.2, 0.5, 1.0, 1.5, 2.0, 2.5), (1, 4, 16, 0)  # rank 0: full
CLASSES = 3


def perceptron(conditions: Conditions, seed: int, *, activation: str) -> Training:
    """Two hidden layers on a regression."""
    return at_gamma(mlp(10, (48, 48), 2, activation=activation, seed=seed), teacher_task(seed), _gamma(conditions))


def cross_entropy(conditions: Conditions, seed: int) -> Training:
    """Two hidden layers on three classes of digits, with cross-entropy."""
    return at_gamma(
        mlp(64, (48, 48), CLASSES, seed=seed), digits_task(seed), _gamma(conditions), loss="cross-entropy",
        target_loss=0.1,
    )  # fmt: skip


def convolutional(conditions: Conditions, seed: int) -> Training:
    """Two convolutions on three classes of digits."""
    net = build("cnn", image=(1, 8, 8), channels=(8, 8), outputs=CLASSES, seed=seed)
    return at_gamma(net, digits_task(seed), _gamma(conditions))


def recurrent(conditions: Conditions, seed: int) -> Training:
    """A recurrent network of rate units, by gain or by the rank of its recurrent weights."""
    net = RateNetwork(10, 48, 2, float(conditions["gain"]), int(conditions.get("rank", 0)) or None, seed)
    return at_gamma(net, teacher_task(seed), _gamma(conditions), layers=["sense", "recur"])


def residual_blocks(conditions: Conditions, seed: int) -> Training:
    """Three residual blocks of two layers each."""
    torch.manual_seed(seed)
    return at_gamma(ResidualBlocks(10, 32, 2, 3), teacher_task(seed), _gamma(conditions))


def transformer_block(conditions: Conditions, seed: int) -> Training:
    """One pre-norm transformer block on the rows of digits, by Adam."""
    gamma = _gamma(conditions)
    net = transformer(8, CLASSES, width=16, heads=2, depth=1, steps=8, seed=seed)
    task = centred_values(digits_task(seed, n=24), CLASSES)
    rate = 1e-3 * min(gamma, 1.0)
    return by_optimizer(net, task, lambda m: torch.optim.Adam(m.named_parameters(), lr=rate), gamma=gamma)


def _gamma(conditions: Conditions) -> float:
    return float(conditions["gamma"])


_ON_LADDER = tuple({"gamma": g} for g in LADDER)
FAMILIES = (
    OutcomeFamily("perceptron, relu", "architecture", _ON_LADDER, partial(perceptron, activation="relu")),
    OutcomeFamily("perceptron, tanh", "architecture", _ON_LADDER, partial(perceptron, activation="tanh")),
    OutcomeFamily("convolutional", "architecture", _ON_LADDER, convolutional),
    OutcomeFamily(
        "recurrent, gain", "architecture", tuple({"gain": g, "gamma": s} for g in GAINS for s in (0.3, 3.0)), recurrent
    ),
    OutcomeFamily(
        "recurrent, rank", "architecture",
        tuple({"gain": 1.5, "rank": r, "gamma": s} for r in RANKS for s in (0.1, 1.0, 10.0)), recurrent,
    ),
    OutcomeFamily("residual blocks", "architecture", _ON_LADDER, residual_blocks),
    OutcomeFamily("transformer block", "architecture", _ON_LADDER, transformer_block),
    OutcomeFamily("cross-entropy on digits", "loss", _ON_LADDER, cross_entropy),
)  # fmt: skip
