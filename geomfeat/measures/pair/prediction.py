"""How much of the second layer a linear map of the first gives."""

from __future__ import annotations

import math

import numpy as np

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="ridge regression with leave-one-out choice of the penalty: Hastie et al. 2009, eq. 7.64",
    bounds=(-math.inf, 1),
    unit="share of held-out variance",
    direction="higher = b can be predicted from a; 0 or below for independent features",
    invariant_to={"rotation", "scale", "shift", "unit order"},
    stochastic=True,
    min_samples=4,
    by_default=False,
)
def linear_predictivity_r2(a: Representation, b: Representation, *, folds: int = 5, seed: int = 0) -> Estimate:
    """Share of the second layer's variance that ridge regression on the first predicts, cross-validated (a to b).

    folds: at most half the samples are used. The error is that of the mean over folds.

    >>> import torch
    >>> a = Representation(torch.randn(40, 5, generator=torch.Generator().manual_seed(0)))
    >>> linear_predictivity_r2(a, a.with_(x=a.x[:, :2] + 1)).value > 0.99
    True
    """
    found = geometry.linear_predictivity(a, b, folds=min(folds, a.n // 2), seed=seed)
    error = float(np.std(found.by_fold, ddof=1)) / len(found.by_fold) ** 0.5
    return Estimate(found.r2, error if math.isfinite(error) else None)


@measure(
    source="Kornblith et al. 2019, table 1 (linear regression), from the first layer to the second",
    bounds=(0, 1),
    unit="share of variance",
    direction="higher = b follows from a; units / (samples - 1) by chance",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=3,
    by_default=False,
)
def linear_regression_r2(a: Representation, b: Representation) -> Estimate:
    """Share of the second layer's variance that a linear map of the first explains on the same samples (a to b).

    >>> import torch
    >>> a = Representation(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    >>> round(linear_regression_r2(a, a.with_(x=a.x[:, :2] + 1)).value, 6)
    1.0
    """
    return geometry.linear_regression_r2(a, b)
