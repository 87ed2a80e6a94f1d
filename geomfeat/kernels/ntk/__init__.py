"""Neural tangent kernels of any module."""

from geomfeat.kernels.ntk.diagonal import ntk_diagonal
from geomfeat.kernels.ntk.kernel import ntk, ntk_by_parameter_group
from geomfeat.kernels.ntk.plan import parameter_group
from geomfeat.kernels.ntk.spectrum import NTKSpectrum, ntk_spectrum

__all__ = ["NTKSpectrum", "ntk", "ntk_by_parameter_group", "ntk_diagonal", "ntk_spectrum", "parameter_group"]
