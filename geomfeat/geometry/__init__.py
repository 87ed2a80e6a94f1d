"""Geometry of point clouds: cones and capacity, spectra, intrinsic dimension, collapse, probes. Pure functions."""

from geomfeat.geometry.apart import copies_and_ties
from geomfeat.geometry.ball import ball_capacity
from geomfeat.geometry.capacity import capacity
from geomfeat.geometry.capacity_curve import CapacityCurve, capacity_curve
from geomfeat.geometry.capacity_layers import capacity_by_layer
from geomfeat.geometry.capacity_paired import CapacityDifference, capacity_difference, common_draws
from geomfeat.geometry.capacity_types import Capacity
from geomfeat.geometry.cca import (
    CanonicalCorrelations,
    canonical_correlations,
    cca_mean,
    cca_mean_squared,
    pwcca,
    svcca,
)
from geomfeat.geometry.centers import center_correlation
from geomfeat.geometry.cone import ConeProjections, project_on_cones
from geomfeat.geometry.correlation_dimension import CorrelationIntegral, correlation_dimension, correlation_integral
from geomfeat.geometry.crofton import predicted_capacity, predicted_separability
from geomfeat.geometry.decomposition import Decomposition, decompose, what_changed
from geomfeat.geometry.dichotomies import draw_dichotomies
from geomfeat.geometry.dimension_curve import DimensionCurve, dimension_curve
from geomfeat.geometry.gride import gride
from geomfeat.geometry.intrinsic_dimension import IntrinsicDimension, two_nn
from geomfeat.geometry.linear_predictivity import LinearPredictivity, linear_predictivity, linear_regression_r2
from geomfeat.geometry.manifolds import Manifolds, as_manifolds
from geomfeat.geometry.mle_dimension import LocalDimension, local_dimension, mle_dimension
from geomfeat.geometry.neighbour_overlap import mutual_knn, neighbour_jaccard
from geomfeat.geometry.neighbours import Neighbours, nearest_neighbours
from geomfeat.geometry.neural_collapse import nc1
from geomfeat.geometry.pairs import PerPair
from geomfeat.geometry.per_manifold import PerManifold
from geomfeat.geometry.probe import ProbeAccuracy, linear_probe
from geomfeat.geometry.replica import ReplicaCapacity, replica_capacity
from geomfeat.geometry.resampling import Interval, similarity_interval
from geomfeat.geometry.separability import Separability, margins, separability
from geomfeat.geometry.shape_metrics import procrustes_distance, shape_angle, shape_distance
from geomfeat.geometry.shuffled import shuffled_control
from geomfeat.geometry.simulated import SimulatedCapacity, simulated_capacity
from geomfeat.geometry.spectrum import (
    PowerLaw,
    components_for_variance,
    covariance_spectrum,
    effective_rank,
    group_jackknife,
    participation_ratio,
    participation_ratio_unbiased,
    participation_ratio_wishart,
    power_law,
    rankme,
    reduced,
    spread_of,
    stable_rank,
)
from geomfeat.geometry.spectrum_trials import participation_ratio_of_trials

__all__ = [
    "CanonicalCorrelations",
    "Capacity",
    "CapacityCurve",
    "CapacityDifference",
    "ConeProjections",
    "CorrelationIntegral",
    "Decomposition",
    "DimensionCurve",
    "Interval",
    "IntrinsicDimension",
    "LinearPredictivity",
    "LocalDimension",
    "Manifolds",
    "Neighbours",
    "PerManifold",
    "PerPair",
    "PowerLaw",
    "ProbeAccuracy",
    "ReplicaCapacity",
    "Separability",
    "SimulatedCapacity",
    "as_manifolds",
    "ball_capacity",
    "canonical_correlations",
    "capacity",
    "capacity_by_layer",
    "capacity_curve",
    "capacity_difference",
    "cca_mean",
    "cca_mean_squared",
    "center_correlation",
    "common_draws",
    "components_for_variance",
    "copies_and_ties",
    "correlation_dimension",
    "correlation_integral",
    "covariance_spectrum",
    "decompose",
    "dimension_curve",
    "draw_dichotomies",
    "effective_rank",
    "gride",
    "group_jackknife",
    "linear_predictivity",
    "linear_probe",
    "linear_regression_r2",
    "local_dimension",
    "margins",
    "mle_dimension",
    "mutual_knn",
    "nc1",
    "nearest_neighbours",
    "neighbour_jaccard",
    "participation_ratio",
    "participation_ratio_of_trials",
    "participation_ratio_unbiased",
    "participation_ratio_wishart",
    "power_law",
    "predicted_capacity",
    "predicted_separability",
    "procrustes_distance",
    "project_on_cones",
    "pwcca",
    "rankme",
    "reduced",
    "replica_capacity",
    "separability",
    "shape_angle",
    "shape_distance",
    "shuffled_control",
    "similarity_interval",
    "simulated_capacity",
    "spread_of",
    "stable_rank",
    "svcca",
    "two_nn",
    "what_changed",
]
