"""Representational similarity analysis: dissimilarity matrices, their comparison, ranking and noise ceiling."""

from geomfeat.geometry.rsa._noise_ceiling import NoiseCeiling, noise_ceiling
from geomfeat.geometry.rsa._noise_precision import Residuals, condition_residuals, noise_precision
from geomfeat.geometry.rsa.compare import compare_rdms
from geomfeat.geometry.rsa.dissimilarity import rdm
from geomfeat.geometry.rsa.estimate import rsa_estimates
from geomfeat.geometry.rsa.ranking import RSARanking, rank_by_rsa
from geomfeat.geometry.rsa.rdms import RDMs, stack_rdms

__all__ = [
    "NoiseCeiling",
    "RDMs",
    "RSARanking",
    "Residuals",
    "compare_rdms",
    "condition_residuals",
    "noise_ceiling",
    "noise_precision",
    "rank_by_rsa",
    "rdm",
    "rsa_estimates",
    "stack_rdms",
]
