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
from geomfeat.geometry.manifolds.resampling.streaming_points import StreamingPoints
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.geometry.manifolds.shuffled_labels import shuffled_control
from geomfeat.geometry.manifolds.theory._ball_capacity import ball_capacity
from geomfeat.geometry.manifolds.theory._simulated_capacity import SimulatedCapacity, simulated_capacity
from geomfeat.geometry.manifolds.theory.crofton_prediction import predicted_capacity, predicted_separability
from geomfeat.geometry.manifolds.theory.replica_theory import ReplicaCapacity, replica_capacity
from geomfeat.geometry.manifolds.trials._capacity_with_controls import capacity_with_controls
from geomfeat.geometry.manifolds.trials._matched_capacities import MatchedCapacities, matched_capacities
from geomfeat.geometry.manifolds.trials._noise_corrected_capacity import noise_corrected_capacity
from geomfeat.geometry.manifolds.trials.noise_control import noise_control
from geomfeat.geometry.manifolds.trials.noise_corrected import NoiseCorrectedCapacity

__all__ = [
    "Capacity",
    "CapacityCurve",
    "CapacityDifference",
    "ConeProjections",
    "Decomposition",
    "Manifolds",
    "MatchedCapacities",
    "NoiseCorrectedCapacity",
    "PerManifold",
    "PerPair",
    "ReplicaCapacity",
    "Separability",
    "SimulatedCapacity",
    "StreamingPoints",
    "as_manifolds",
    "ball_capacity",
    "capacity",
    "capacity_by_layer",
    "capacity_curve",
    "capacity_difference",
    "capacity_with_controls",
    "center_correlation",
    "common_draws",
    "decompose",
    "draw_dichotomies",
    "margins",
    "matched_capacities",
    "noise_control",
    "noise_corrected_capacity",
    "predicted_capacity",
    "predicted_separability",
    "project_on_cones",
    "replica_capacity",
    "separability",
    "shuffled_control",
    "simulated_capacity",
    "what_changed",
]
