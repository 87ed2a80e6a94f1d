"""How well a linear read-out tells the classes apart, on samples it was not fitted to."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import numpy_stream
from geomfeat.precision import Spread, precision_of

CLASSIFIERS = ("logistic", "ridge")


@dataclass(frozen=True)
class ProbeAccuracy:
    """accuracy: share of held-out samples classified rightly. stderr: binomial, over samples. by_fold: each fold's.

    chance: share of the largest class. converged: every fit reached its tolerance.
    """

    accuracy: float
    stderr: float
    by_fold: tuple[float, ...]
    chance: float
    converged: bool


def linear_probe(
    x: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n"],
    *,
    folds: int = 5,
    classifier: str = "logistic",
    strength: float = 1.0,
    seed: int = 0,
) -> ProbeAccuracy:
    """Cross-validated accuracy of a linear classifier on standardised features (Alain & Bengio 2017).

    Args:
        folds: stratified, shuffled by `seed`. Each feature is standardised by the training folds' mean and deviation.
        classifier: "logistic" (multinomial, squared penalty, inverse weight `strength`) or "ridge" (least squares on
            +-1 targets, penalty 1 / `strength`; much faster with many features).

    Raises BadInput for one class, a class with fewer samples than folds, or unknown options.

    >>> x = torch.cat([torch.zeros(10, 1), torch.ones(10, 1)]).double()
    >>> linear_probe(x, torch.arange(20) // 10).accuracy
    1.0
    """
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.model_selection import StratifiedKFold

    if classifier not in CLASSIFIERS:
        raise BadInput(f"classifier={classifier!r}: use one of {', '.join(map(repr, CLASSIFIERS))}")
    y = torch.unique(labels, return_inverse=True)[1].cpu().numpy()
    _check(np.bincount(y), folds)
    # Units that are constant up to rounding are 0, or they would be scaled up to noise.
    features = Spread.of(x.detach(), precision_of(x)).x.cpu().numpy()
    split = StratifiedKFold(folds, shuffle=True, random_state=int(numpy_stream(seed, "probe").integers(2**31)))
    right, by_fold, converged = 0, [], True
    for train, test in split.split(features, y):
        if classifier == "logistic":
            model = LogisticRegression(C=strength, max_iter=5000)
        else:
            model = RidgeClassifier(alpha=1 / strength)
        a, b = _standardised(features[train], features[test])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hits = model.fit(a, y[train]).predict(b) == y[test]
        converged &= not caught
        right += int(hits.sum())
        by_fold.append(float(hits.mean()))
    accuracy = right / len(y)
    stderr = math.sqrt(accuracy * (1 - accuracy) / len(y))
    return ProbeAccuracy(accuracy, stderr, tuple(by_fold), float(np.bincount(y).max() / len(y)), converged)


def _check(counts: np.ndarray, folds: int) -> None:
    if folds < 2:
        raise BadInput(f"folds={folds}: cross-validation needs at least 2")
    if len(counts) < 2:
        raise BadInput("a linear probe needs at least 2 classes, got 1: take inputs of more classes")
    if counts.min() < folds:
        raise BadInput(
            f"the smallest class has {counts.min()} samples, fewer than {folds} folds: "
            "give more samples of it, leave it out, or pass a smaller folds="
        )


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both minus the training mean, over the training deviation; features constant in training become 0."""
    mean = train.mean(0)
    deviation = train.std(0)
    size = np.abs(train).max(0)
    moves = deviation > 1e-12 * size
    scale = np.where(moves, deviation, 1.0)
    a, b = (train - mean) * moves / scale, (test - mean) * moves / scale
    if a.shape[1] <= a.shape[0]:
        return a, b
    # A penalised linear fit stays in the span of its samples, so their coordinates there give the same predictions.
    basis = np.linalg.svd(a, full_matrices=False)[2].T
    return a @ basis, b @ basis
