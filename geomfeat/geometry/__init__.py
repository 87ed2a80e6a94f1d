"""Geometry of point clouds: cones and capacity, spectra, intrinsic dimension, collapse, probes. Pure functions."""

from geomfeat.geometry.ball import ball_capacity
from geomfeat.geometry.capacity import Capacity, capacity
from geomfeat.geometry.centers import center_correlation
from geomfeat.geometry.cone import ConeProjections, project_on_cones
from geomfeat.geometry.dichotomies import draw_dichotomies
from geomfeat.geometry.intrinsic_dimension import IntrinsicDimension, two_nn
from geomfeat.geometry.manifolds import Manifolds, as_manifolds
from geomfeat.geometry.neural_collapse import nc1
from geomfeat.geometry.probe import ProbeAccuracy, linear_probe
from geomfeat.geometry.replica import ReplicaCapacity, replica_capacity
from geomfeat.geometry.separability import Separability, margins, separability
from geomfeat.geometry.spectrum import (
    PowerLaw,
    covariance_spectrum,
    effective_rank,
    group_jackknife,
    participation_ratio,
    participation_ratio_unbiased,
    participation_ratio_wishart,
    power_law,
    rankme,
    reduced,
    stable_rank,
)

__all__ = [
    "Capacity",
    "ConeProjections",
    "IntrinsicDimension",
    "Manifolds",
    "PowerLaw",
    "ProbeAccuracy",
    "ReplicaCapacity",
    "Separability",
    "as_manifolds",
    "ball_capacity",
    "capacity",
    "center_correlation",
    "covariance_spectrum",
    "draw_dichotomies",
    "effective_rank",
    "group_jackknife",
    "linear_probe",
    "margins",
    "nc1",
    "participation_ratio",
    "participation_ratio_unbiased",
    "participation_ratio_wishart",
    "power_law",
    "project_on_cones",
    "rankme",
    "reduced",
    "replica_capacity",
    "separability",
    "stable_rank",
    "two_nn",
]
