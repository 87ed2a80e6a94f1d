"""Kernels between samples: tangent kernels, Gram matrices, and how two of them compare."""

from geomfeat.kernels.jacobians import jacobian, jacobian_rows, parameter_slices
from geomfeat.kernels.ntk import ntk, ntk_by_parameter_group, parameter_group
from geomfeat.kernels.tangent import feature_jvp, jvp, vjp

__all__ = [
    "feature_jvp",
    "jacobian",
    "jacobian_rows",
    "jvp",
    "ntk",
    "ntk_by_parameter_group",
    "parameter_group",
    "parameter_slices",
    "vjp",
]
