"""How training changes with width: coordinate checks and scaling exponents."""

from geomfeat.regimes.width._coordinate_check import CoordinateCheck, coordinate_check
from geomfeat.regimes.width.options import WidthOptions
from geomfeat.regimes.width.result import RichnessEstimate, WidthScaling
from geomfeat.regimes.width.scaling import estimate_r, width_scaling

__all__ = [
    "CoordinateCheck",
    "RichnessEstimate",
    "WidthOptions",
    "WidthScaling",
    "coordinate_check",
    "estimate_r",
    "width_scaling",
]
