"""Capacity and geometry of class manifolds (GLUE), and theories that predict them."""

from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds._capacity_curve import CapacityCurve, capacity_curve
from geomfeat.geometry.manifolds.by_layer import capacity_by_layer
from geomfeat.geometry.manifolds.center_correlations import center_correlation
from geomfeat.geometry.manifolds.cones._separability import Separability, margins, separability
from geomfeat.geometry.manifolds.cones.project import ConeProjections, project_on_cones
from geomfeat.geometry.manifolds.decomposition import Decomposition, decompose, what_changed
from geomfeat.geometry.manifolds.dichotomies import draw_dichotomies
from geomfeat.geometry.manifolds.paired_difference import CapacityDifference, capacity_difference, common_draws
from geomfeat.geometry.manifolds.per_manifold import PerManifold
from geomfeat.geometry.manifolds.per_pair import PerPair
from geomfeat.geometry.manifolds.point_clouds import Manifolds, as_manifolds
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.geometry.manifolds.shuffled_labels import shuffled_control
from geomfeat.geometry.manifolds.theory._ball_capacity import ball_capacity
from geomfeat.geometry.manifolds.theory._simulated_capacity import SimulatedCapacity, simulated_capacity
from geomfeat.geometry.manifolds.theory.crofton_prediction import predicted_capacity, predicted_separability
from geomfeat.geometry.manifolds.theory.replica_theory import ReplicaCapacity, replica_capacity

__all__ = [
    "Capacity",
    "CapacityCurve",
    "CapacityDifference",
    "ConeProjections",
    "Decomposition",
    "Manifolds",
    "PerManifold",
    "PerPair",
    "ReplicaCapacity",
    "Separability",
    "SimulatedCapacity",
    "as_manifolds",
    "ball_capacity",
    "capacity",
    "capacity_by_layer",
    "capacity_curve",
    "capacity_difference",
    "center_correlation",
    "common_draws",
    "decompose",
    "draw_dichotomies",
    "margins",
    "predicted_capacity",
    "predicted_separability",
    "project_on_cones",
    "replica_capacity",
    "separability",
    "shuffled_control",
    "simulated_capacity",
    "what_changed",
]
