"""Networks, recordings and brain data compared on the same samples."""

from geomfeat.comparison.models._compare import compare_models
from geomfeat.comparison.models.result import ModelComparison

__all__ = ["ModelComparison", "compare_models"]
