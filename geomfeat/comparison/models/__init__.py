"""Networks, recordings and brain data compared on the same samples."""

from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.comparison.models.result import ModelComparison

__all__ = ["CompareOptions", "ModelComparison", "compare"]
