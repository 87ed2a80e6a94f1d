"""Regimes of learning: training at a chosen richness, its lazy limit, width, stability, exact dynamics and grokking."""

from geomfeat.regimes.coordinate_check import CoordinateCheck, coordinate_check
from geomfeat.regimes.knob import train_at_gamma
from geomfeat.regimes.lazy_agreement import LazyAgreement, lazy_agreement
from geomfeat.regimes.lazy_limit import LazyLimit, lazy_limit
from geomfeat.regimes.linear_balance import Balance, balanced_factors, balanced_network, layer_balance
from geomfeat.regimes.linear_demand import balanced_demand, one_mode_demand
from geomfeat.regimes.linear_flow import LinearPath, linear_flow
from geomfeat.regimes.linear_modes import aligned_mode
from geomfeat.regimes.linear_sequence import TaskSequence, learn_in_sequence
from geomfeat.regimes.linear_task import LinearTask, linear_task, whitened
from geomfeat.regimes.linearize import Linearised, linearisation_gaps, linearize
from geomfeat.regimes.mixed import activity_threshold, mixed_flow, n_active
from geomfeat.regimes.mixed_descent import Products, descend_products, products_of, random_products
from geomfeat.regimes.mode_regime import ModeRegimes, mode_regimes
from geomfeat.regimes.modular_addition import (
    ModularRun,
    ModularTask,
    modular_addition,
    modular_network,
    train_at_alpha,
    train_with_decay,
)
from geomfeat.regimes.phase_diagram import PhaseDiagram, noisy_low_rank, phase_diagram
from geomfeat.regimes.polynomial_grokking import GrokkingRun, PolynomialTask, polynomial_grokking
from geomfeat.regimes.richness import Richness, gamma_from
from geomfeat.regimes.scaling import estimate_r, width_scaling
from geomfeat.regimes.scaling_result import RichnessEstimate, WidthScaling
from geomfeat.regimes.sharpness import Sharpness, sharpness
from geomfeat.regimes.stability import FixedRateDescent, StabilityReport, descend_at_rate, training_flags
from geomfeat.regimes.stable_rate import StableRates, largest_stable_lr
from geomfeat.regimes.trained import Trained, scaled_outputs
from geomfeat.regimes.training_series import TrainingSeries, training_series
from geomfeat.regimes.transitions import TransitionReport, transitions
from geomfeat.regimes.wrapping import AtRichness, at_richness, parameter_groups, relative_loss

__all__ = [
    "AtRichness",
    "Balance",
    "CoordinateCheck",
    "FixedRateDescent",
    "GrokkingRun",
    "LazyAgreement",
    "LazyLimit",
    "LinearPath",
    "LinearTask",
    "Linearised",
    "ModeRegimes",
    "ModularRun",
    "ModularTask",
    "PhaseDiagram",
    "PolynomialTask",
    "Products",
    "Richness",
    "RichnessEstimate",
    "Sharpness",
    "StabilityReport",
    "StableRates",
    "TaskSequence",
    "Trained",
    "TrainingSeries",
    "TransitionReport",
    "WidthScaling",
    "activity_threshold",
    "aligned_mode",
    "at_richness",
    "balanced_demand",
    "balanced_factors",
    "balanced_network",
    "coordinate_check",
    "descend_at_rate",
    "descend_products",
    "estimate_r",
    "gamma_from",
    "largest_stable_lr",
    "layer_balance",
    "lazy_agreement",
    "lazy_limit",
    "learn_in_sequence",
    "linear_flow",
    "linear_task",
    "linearisation_gaps",
    "linearize",
    "mixed_flow",
    "mode_regimes",
    "modular_addition",
    "modular_network",
    "n_active",
    "noisy_low_rank",
    "one_mode_demand",
    "parameter_groups",
    "phase_diagram",
    "polynomial_grokking",
    "products_of",
    "random_products",
    "relative_loss",
    "scaled_outputs",
    "sharpness",
    "train_at_alpha",
    "train_at_gamma",
    "train_with_decay",
    "training_flags",
    "training_series",
    "transitions",
    "whitened",
    "width_scaling",
]
