"""Grokking as a transition from lazy to rich: modular addition, polynomial regression, transition times."""

from geomfeat.regimes.grokking._modular_addition import (
    ModularRun,
    ModularTask,
    modular_addition,
    modular_network,
    train_at_alpha,
    train_with_decay,
)
from geomfeat.regimes.grokking._transitions import TransitionReport, transitions
from geomfeat.regimes.grokking.polynomial import GrokkingRun, PolynomialTask, polynomial_grokking

__all__ = [
    "GrokkingRun",
    "ModularRun",
    "ModularTask",
    "PolynomialTask",
    "TransitionReport",
    "modular_addition",
    "modular_network",
    "polynomial_grokking",
    "train_at_alpha",
    "train_with_decay",
    "transitions",
]
