"""Families in which not all that moves is learning: frozen parts, the head alone, catapults, weight decay."""

from __future__ import annotations

import torch

from geomfeat.comparison.validation.outcomes.descent import at_gamma, by_optimizer, stable_rate
from geomfeat.comparison.validation.outcomes.foretelling import DYNAMICS
from geomfeat.comparison.validation.outcomes.training import Conditions, OutcomeFamily, Training, teacher_task
from geomfeat.models.mlp import mlp
from geomfeat.regimes.training import TrainOptions

LAYERS = ("fc1", "fc2", "head")
FROZEN = ("fc1", "fc2", "head")
GAMMAS = (0.1, 1.0, 10.0)
HEAD_GAMMAS = (0.03, 0.1, 1.0, 10.0, 30.0)
RATES = (0.5, 0.9, 1.3, 1.8)  # of the largest stable rate at the start
DECAYS = (0.0, 0.001, 0.01, 0.1)


def frozen_part(conditions: Conditions, seed: int) -> Training:
    """A ReLU network of which one layer is frozen."""
    rates = {f"{name}.*": float(name != conditions["frozen"]) for name in LAYERS}
    return _trained(conditions, seed, rates)


def head_only(conditions: Conditions, seed: int) -> Training:
    """A ReLU network of which the head alone is trained: its kernel cannot change."""
    return _trained(conditions, seed, {"fc1.*": 0.0, "fc2.*": 0.0, "head.*": 1.0})


def catapult(conditions: Conditions, seed: int) -> Training:
    """Plain descent at a share of the largest stable rate; above 1 the loss rises first (Lewkowycz et al. 2020)."""
    gamma, net, task = float(conditions["gamma"]), mlp(10, (64,), 1, seed=seed), teacher_task(seed, outputs=1)
    rate = 2 * float(conditions["rate"]) * stable_rate(net, task, gamma=gamma)
    return by_optimizer(net, task, lambda m: torch.optim.SGD(m.parameters(), lr=rate), gamma=gamma)


def decay(conditions: Conditions, seed: int) -> Training:
    """Weight decay, for a fixed number of steps."""
    options = TrainOptions(weight_decay=float(conditions["decay"]))
    return at_gamma(
        mlp(10, (48, 48), 2, seed=seed), teacher_task(seed), float(conditions["gamma"]), options=options,
        target_loss=None, max_steps=600,
    )  # fmt: skip


def _trained(conditions: Conditions, seed: int, rates: dict[str, float]) -> Training:
    return at_gamma(mlp(10, (48, 48), 2, seed=seed), teacher_task(seed), float(conditions["gamma"]), rates=rates)


FAMILIES = (
    OutcomeFamily(
        "frozen part", "partial", tuple({"frozen": part, "gamma": g} for part in FROZEN for g in GAMMAS), frozen_part
    ),
    OutcomeFamily("head only", "partial", tuple({"gamma": g} for g in HEAD_GAMMAS), head_only),
    OutcomeFamily(
        "catapult", DYNAMICS, tuple({"rate": r, "gamma": g} for r in RATES for g in (0.1, 0.3, 1.0)), catapult
    ),
    OutcomeFamily(
        "weight decay", DYNAMICS, tuple({"decay": d, "gamma": g} for d in DECAYS for g in (0.1, 0.3, 1.0)), decay
    ),
)  # fmt: skip
