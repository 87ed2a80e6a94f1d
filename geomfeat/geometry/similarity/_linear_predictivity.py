"""How much of one representation a linear map of another gives: a -> b, which is another number than b -> a."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import reduced, spread_of
from geomfeat.geometry.similarity._validation import same_samples, with_error
from geomfeat.geometry.similarity.cca import span_of_features
from geomfeat.numerics import WORKING, numpy_stream
from geomfeat.statistics.copies import copies_of, united
from geomfeat.statistics.group_errors import common_groups
from geomfeat.types import Estimate, Points, Representation

# Penalties relative to the mean squared singular value: from nearly none to one that predicts the mean.
PENALTIES = tuple(10.0**p for p in range(-6, 5))


@dataclass(frozen=True)
class LinearPredictivity(BaseResult):
    """r2: share of b's variance, held out. by_fold: of each fold. penalties: that each fold chose, relative.

    `to_frame()`: one row for each fold: by_fold, penalties, r2.
    """

    r2: float
    by_fold: tuple[float, ...]
    penalties: tuple[float, ...]

    _rows = ("by_fold", "penalties")


def linear_regression_r2(a: Points, b: Points) -> Estimate:
    """Share of b's variance that least squares on a explains, on the samples it is fitted to, in 0..1.

    |Q_a' B|^2 / |B|^2 with centred features ("linear regression" of Kornblith et al. 2019, table 1, which fits the
    other way). d/(n-1) of it comes from fitting noise. With its error. Raises BadInput for other numbers of samples and
    for features a that span all samples, NoVariance for a constant layer.

    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    >>> round(linear_regression_r2(x, 1 - 2 * x), 6)
    1.0
    """

    def explained(a: Representation, b: Representation) -> Estimate:
        target = spread_of(b).x
        return Estimate(min(1.0, float((span_of_features(a, "a").T @ target).square().sum() / target.square().sum())))

    return with_error(explained, a, b, 3)


def linear_predictivity(a: Points, b: Points, *, folds: int = 5, seed: int = 0) -> LinearPredictivity:
    """Share of b's variance that ridge regression on a predicts on held-out samples, at most 1; below 0 if misled.

    Args:
        folds: shuffled by `seed`. In each the penalty of least squared leave-one-out error on the training samples is
            taken of `PENALTIES`, one for all units of b. Where a Representation has groups, samples of a group are held
            out together, and so are samples that are copies of each other in a.

    Errors are summed over units and folds, against predicting the training mean. Raises BadInput for other numbers of
    samples, fewer than 2 training samples, fewer groups than folds, and NoVariance for a constant layer.

    >>> x = torch.arange(20.0)[:, None]
    >>> linear_predictivity(x, 1 - 2 * x).r2 > 0.999
    True
    """
    a, b = same_samples(a, b)
    n = a.n
    if not 2 <= folds <= n // 2:
        raise BadInput(f"folds={folds} of {n} samples: use at least 2 folds, of at least 2 samples each")
    spreads = spread_of(a), spread_of(b)
    features, targets = (reduced(spread.x) for spread in spreads)
    floor, level = (spread.of_directions for spread in spreads)
    # A copy of a held-out sample in the training folds would give its value away.
    groups, copies = common_groups(a, b), copies_of(a)
    if len(copies.unique()) < n:
        groups = copies if groups is None else united(copies, groups)
    fold_of = _folds(groups, n, folds, seed).to(features.device)
    errors, totals, penalties = [], [], []
    for fold in range(folds):
        test, train = torch.nonzero(fold_of == fold)[:, 0], torch.nonzero(fold_of != fold)[:, 0]
        predicted, penalty = _ridge(features[train], targets[train], features[test], floor)
        errors.append(float((targets[test] - predicted).square().sum()))
        totals.append(float((targets[test] - targets[train].mean(0)).square().sum()))
        penalties.append(penalty)
    by_fold = tuple(1 - e / t if t > level**2 else float("nan") for e, t in zip(errors, totals, strict=True))
    return LinearPredictivity(1 - float(np.sum(errors) / np.sum(totals)), by_fold, tuple(penalties))


def _folds(groups: Tensor | None, n: int, folds: int, seed: int) -> Tensor:
    """(n,) the fold of every sample: in turn in a seeded order, of samples or of groups."""
    which = torch.arange(n) if groups is None else torch.unique(groups, return_inverse=True)[1]
    count = int(which.max()) + 1
    if count < folds:
        raise BadInput(
            f"folds={folds} of {count} groups (copies of a sample are one): use at most as many folds as groups of "
            "samples"
        )
    order = torch.from_numpy(numpy_stream(seed, "linear predictivity").permutation(count))
    fold_of = torch.empty(count, dtype=torch.int64)
    fold_of[order] = torch.arange(count) % folds
    return fold_of[which]


def _ridge(x: Tensor, y: Tensor, new: Tensor, floor: float = 0.0) -> tuple[Tensor, float]:
    """Predictions for `new`, with the penalty of least leave-one-out error (Hastie et al. 2009, eq. 7.64).

    Features whose directions are all below `floor` are constant, and predict the mean.
    """
    mean, level = x.mean(0), y.mean(0)
    u, s, vh = torch.linalg.svd(x - mean, full_matrices=False)
    target = u.T @ (y - level)
    # Penalties count in mean squared singular values, so that the features' unit does not matter.
    size = s.square().mean()
    if not s[0] > floor:
        return level.expand(len(new), -1), PENALTIES[-1]

    def left_out(penalty: float) -> float:
        shrunk = s.square() / (s.square() + penalty * size)
        # Leave-one-out residual = residual / (1 - leverage); the fitted mean adds 1/n to every leverage.
        leverage = u.square() @ shrunk + 1 / len(x)
        residual = y - level - (u * shrunk) @ target
        return float((residual / (1 - leverage).clamp_min(torch.finfo(WORKING).eps)[:, None]).square().sum())

    penalty = min(PENALTIES, key=left_out)
    weights = (s / (s.square() + penalty * size))[:, None] * target
    return level + (new - mean) @ vh.T @ weights, penalty
