"""Deep linear networks, whose gradient flow is known exactly."""

from geomfeat.regimes.linear_networks._phase_diagram import PhaseDiagram, noisy_low_rank, phase_diagram
from geomfeat.regimes.linear_networks.balance import Balance, balanced_factors, balanced_network, layer_balance
from geomfeat.regimes.linear_networks.demand import balanced_demand, one_mode_demand
from geomfeat.regimes.linear_networks.flow import LinearPath, linear_flow
from geomfeat.regimes.linear_networks.mixed_descent import Products, descend_products, products_of, random_products
from geomfeat.regimes.linear_networks.mixed_dynamics import activity_threshold, mixed_flow, n_active
from geomfeat.regimes.linear_networks.mode_regime import ModeRegimes, mode_regimes
from geomfeat.regimes.linear_networks.modes import aligned_mode
from geomfeat.regimes.linear_networks.task import LinearTask, linear_task, whitened
from geomfeat.regimes.linear_networks.task_sequence import TaskSequence, learn_in_sequence

__all__ = [
    "Balance",
    "LinearPath",
    "LinearTask",
    "ModeRegimes",
    "PhaseDiagram",
    "Products",
    "TaskSequence",
    "activity_threshold",
    "aligned_mode",
    "balanced_demand",
    "balanced_factors",
    "balanced_network",
    "descend_products",
    "layer_balance",
    "learn_in_sequence",
    "linear_flow",
    "linear_task",
    "mixed_flow",
    "mode_regimes",
    "n_active",
    "noisy_low_rank",
    "one_mode_demand",
    "phase_diagram",
    "products_of",
    "random_products",
    "whitened",
]
