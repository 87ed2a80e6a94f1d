"""Dimension of a point cloud: linear, from the spectrum of its covariance, and intrinsic, from neighbours."""

from geomfeat.geometry.dimension._correlation_dimension import (
    CorrelationIntegral,
    correlation_dimension,
    correlation_integral,
)
from geomfeat.geometry.dimension._cross_validated_spectrum import CrossValidatedSpectrum, cross_validated_spectrum
from geomfeat.geometry.dimension._gride import gride
from geomfeat.geometry.dimension._nearest_neighbours import Neighbours, nearest_neighbours
from geomfeat.geometry.dimension._two_nn import IntrinsicDimension, two_nn
from geomfeat.geometry.dimension._valid_neighbours import copies_and_ties
from geomfeat.geometry.dimension.distinct_samples import participation_ratio_unbiased
from geomfeat.geometry.dimension.eigenspectrum import (
    PowerLaw,
    components_for_variance,
    covariance_spectrum,
    effective_rank,
    group_jackknife,
    participation_ratio,
    participation_ratio_wishart,
    power_law,
    rankme,
    reduced,
    spread_of,
    stable_rank,
)
from geomfeat.geometry.dimension.mle import LocalDimension, local_dimension, mle_dimension
from geomfeat.geometry.dimension.scale_curve import DimensionCurve, dimension_curve
from geomfeat.geometry.dimension.signal_participation_ratio import (
    participation_ratio_of_trials,
    participation_ratio_of_unequal_trials,
)
from geomfeat.geometry.dimension.streamed_moments import StreamedMoments
from geomfeat.geometry.dimension.streaming_moments import StreamingMoments

__all__ = [
    "CorrelationIntegral",
    "CrossValidatedSpectrum",
    "DimensionCurve",
    "IntrinsicDimension",
    "LocalDimension",
    "Neighbours",
    "PowerLaw",
    "StreamedMoments",
    "StreamingMoments",
    "components_for_variance",
    "copies_and_ties",
    "correlation_dimension",
    "correlation_integral",
    "covariance_spectrum",
    "cross_validated_spectrum",
    "dimension_curve",
    "effective_rank",
    "gride",
    "group_jackknife",
    "local_dimension",
    "mle_dimension",
    "nearest_neighbours",
    "participation_ratio",
    "participation_ratio_of_trials",
    "participation_ratio_of_unequal_trials",
    "participation_ratio_unbiased",
    "participation_ratio_wishart",
    "power_law",
    "rankme",
    "reduced",
    "spread_of",
    "stable_rank",
    "two_nn",
]
