"""Similarity of two representations of the same samples: CKA, CCA, Procrustes, regression, neighbours."""

from geomfeat.geometry.similarity._cka import cka, hsic, kernel_alignment, target_alignment
from geomfeat.geometry.similarity._cka_matrix import CkaMatrix, cka_matrix
from geomfeat.geometry.similarity._linear_predictivity import (
    LinearPredictivity,
    linear_predictivity,
    linear_regression_r2,
)
from geomfeat.geometry.similarity.cca import (
    CanonicalCorrelations,
    canonical_correlations,
    cca_mean,
    cca_mean_squared,
    pwcca,
    svcca,
)
from geomfeat.geometry.similarity.gram import label_gram, linear_gram, one_hot, rbf_gram
from geomfeat.geometry.similarity.interval import Interval, similarity_interval
from geomfeat.geometry.similarity.kernel_change import (
    kernel_angle,
    kernel_distance,
    kernel_distance_centred,
    kernel_relative_change,
    relative_change,
)
from geomfeat.geometry.similarity.neighbour_overlap import mutual_knn, neighbour_jaccard
from geomfeat.geometry.similarity.procrustes import procrustes_distance, shape_angle, shape_distance
from geomfeat.geometry.similarity.streaming_cka import StreamedCka, StreamingCKA

__all__ = [
    "CanonicalCorrelations",
    "CkaMatrix",
    "Interval",
    "LinearPredictivity",
    "StreamedCka",
    "StreamingCKA",
    "canonical_correlations",
    "cca_mean",
    "cca_mean_squared",
    "cka",
    "cka_matrix",
    "hsic",
    "kernel_alignment",
    "kernel_angle",
    "kernel_distance",
    "kernel_distance_centred",
    "kernel_relative_change",
    "label_gram",
    "linear_gram",
    "linear_predictivity",
    "linear_regression_r2",
    "mutual_knn",
    "neighbour_jaccard",
    "one_hot",
    "procrustes_distance",
    "pwcca",
    "rbf_gram",
    "relative_change",
    "shape_angle",
    "shape_distance",
    "similarity_interval",
    "svcca",
    "target_alignment",
]
