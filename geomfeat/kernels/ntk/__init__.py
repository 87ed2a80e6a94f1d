"""Neural tangent kernels of any module."""

from geomfeat.kernels.ntk.diagonal import ntk_diagonal
from geomfeat.kernels.ntk.kernel import ntk, ntk_by_parameter_group
from geomfeat.kernels.ntk.plan import parameter_group

__all__ = ["ntk", "ntk_by_parameter_group", "ntk_diagonal", "parameter_group"]
