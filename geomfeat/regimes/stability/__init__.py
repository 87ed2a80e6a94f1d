"""Sharpness and the largest stable learning rate."""

from geomfeat.regimes.stability.fixed_rate import FixedRateDescent, StabilityReport, descend_at_rate, training_flags
from geomfeat.regimes.stability.hessian_spectrum import Sharpness, sharpness
from geomfeat.regimes.stability.largest_stable_rate import StableRates, largest_stable_lr

__all__ = [
    "FixedRateDescent",
    "Sharpness",
    "StabilityReport",
    "StableRates",
    "descend_at_rate",
    "largest_stable_lr",
    "sharpness",
    "training_flags",
]
