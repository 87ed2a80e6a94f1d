"""Kernels between samples: tangent kernels, Gram matrices, and how two of them compare."""

from geomfeat.kernels._memory import saved_bytes
from geomfeat.kernels.alignment import cka, cka_estimate, hsic, kernel_alignment, target_alignment
from geomfeat.kernels.cka_matrix import CkaMatrix, cka_matrix
from geomfeat.kernels.cka_streaming import StreamedCka, StreamingCKA
from geomfeat.kernels.gram import label_gram, linear_gram, one_hot, rbf_gram
from geomfeat.kernels.jacobians import JacobianRows, jacobian, jacobian_rows, parameter_slices
from geomfeat.kernels.low_rank import low_rank_distance
from geomfeat.kernels.movement import (
    kernel_angle,
    kernel_distance,
    kernel_distance_centred,
    kernel_relative_change,
    relative_change,
)
from geomfeat.kernels.noise import Residuals, condition_residuals, noise_precision
from geomfeat.kernels.noise_ceiling import NoiseCeiling, noise_ceiling
from geomfeat.kernels.ntk import (
    NTKSpectrum,
    ntk,
    ntk_by_parameter_group,
    ntk_diagonal,
    ntk_spectrum,
    parameter_group,
)
from geomfeat.kernels.rdm import rdm
from geomfeat.kernels.rdm_compare import compare_rdms
from geomfeat.kernels.rdms import RDMs, stack_rdms
from geomfeat.kernels.regression import KernelRegression, Predictions, kernel_regression
from geomfeat.kernels.rsa_estimate import rsa_estimates
from geomfeat.kernels.rsa_ranking import RSARanking, rank_by_rsa
from geomfeat.kernels.silent_alignment import SilentAlignment, silent_alignment_lag
from geomfeat.kernels.tangent import feature_jvp, jvp, vjp
from geomfeat.kernels.velocity import KernelVelocity, kernel_velocity

__all__ = [
    "CkaMatrix",
    "JacobianRows",
    "KernelRegression",
    "KernelVelocity",
    "NTKSpectrum",
    "NoiseCeiling",
    "Predictions",
    "RDMs",
    "RSARanking",
    "Residuals",
    "SilentAlignment",
    "StreamedCka",
    "StreamingCKA",
    "cka",
    "cka_estimate",
    "cka_matrix",
    "compare_rdms",
    "condition_residuals",
    "feature_jvp",
    "hsic",
    "jacobian",
    "jacobian_rows",
    "jvp",
    "kernel_alignment",
    "kernel_angle",
    "kernel_distance",
    "kernel_distance_centred",
    "kernel_regression",
    "kernel_relative_change",
    "kernel_velocity",
    "label_gram",
    "linear_gram",
    "low_rank_distance",
    "noise_ceiling",
    "noise_precision",
    "ntk",
    "ntk_by_parameter_group",
    "ntk_diagonal",
    "ntk_spectrum",
    "one_hot",
    "parameter_group",
    "parameter_slices",
    "rank_by_rsa",
    "rbf_gram",
    "rdm",
    "relative_change",
    "rsa_estimates",
    "saved_bytes",
    "silent_alignment_lag",
    "stack_rdms",
    "target_alignment",
    "vjp",
]
