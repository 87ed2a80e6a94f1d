"""Representational similarity analysis: dissimilarity matrices, their comparison, ranking and noise ceiling."""

from geomfeat.geometry.rsa._noise_ceiling import NoiseCeiling, noise_ceiling
from geomfeat.geometry.rsa._noise_precision import (
    Residuals,
    condition_residuals,
    noise_precision,
    noise_precision_by_run,
)
from geomfeat.geometry.rsa.compare import compare_rdms
from geomfeat.geometry.rsa.dissimilarity import rdm
from geomfeat.geometry.rsa.estimate import rsa_estimates
from geomfeat.geometry.rsa.flexible import FittedRDMs, fit_rdm_model
from geomfeat.geometry.rsa.ranking import RSARanking, rank_by_rsa
from geomfeat.geometry.rsa.rdms import RDMs, stack_rdms
from geomfeat.geometry.rsa.searchlights import Searchlights, searchlight_rdms

__all__ = [
    "FittedRDMs",
    "NoiseCeiling",
    "RDMs",
    "RSARanking",
    "Residuals",
    "Searchlights",
    "compare_rdms",
    "condition_residuals",
    "fit_rdm_model",
    "noise_ceiling",
    "noise_precision",
    "noise_precision_by_run",
    "rank_by_rsa",
    "rdm",
    "rsa_estimates",
    "searchlight_rdms",
    "stack_rdms",
]
