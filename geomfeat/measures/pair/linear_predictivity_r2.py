"""How much of the second layer a linear map of the first predicts on samples it was not fitted to."""

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
