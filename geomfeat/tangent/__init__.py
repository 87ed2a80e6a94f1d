"""The neural tangent kernel: Jacobians, their products, spectrum, regression and change."""

from geomfeat.tangent._kernel_regression import KernelRegression, Predictions, kernel_regression
from geomfeat.tangent._kernel_velocity import KernelVelocity, kernel_velocity
from geomfeat.tangent._ntk import ntk, ntk_by_parameter_group
from geomfeat.tangent._ntk_by_rank import ntk_by_rank
from geomfeat.tangent._ntk_diagonal import ntk_diagonal
from geomfeat.tangent._ntk_spectrum import NTKSpectrum, ntk_spectrum
from geomfeat.tangent._silent_alignment import SilentAlignment, silent_alignment_lag
from geomfeat.tangent.jacobians._memory_budget import saved_bytes
from geomfeat.tangent.jacobians.products import feature_jvp, jvp, vjp
from geomfeat.tangent.jacobians.rows import JacobianRows, jacobian, jacobian_rows, parameter_slices
from geomfeat.tangent.layerwise.coverage import parameter_group
from geomfeat.tangent.optimizer_rates import OptimizerRates

__all__ = [
    "JacobianRows",
    "KernelRegression",
    "KernelVelocity",
    "NTKSpectrum",
    "OptimizerRates",
    "Predictions",
    "SilentAlignment",
    "feature_jvp",
    "jacobian",
    "jacobian_rows",
    "jvp",
    "kernel_regression",
    "kernel_velocity",
    "ntk",
    "ntk_by_parameter_group",
    "ntk_by_rank",
    "ntk_diagonal",
    "ntk_spectrum",
    "parameter_group",
    "parameter_slices",
    "saved_bytes",
    "silent_alignment_lag",
    "vjp",
]
