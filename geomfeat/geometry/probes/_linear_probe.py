"""How well a linear read-out separates the classes, on samples it was not fitted to."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat._numba.threads import in_threads
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_groups, as_labels
from geomfeat.numerics import WORKING, numpy_stream
from geomfeat.precision import Spread, roundings
from geomfeat.statistics.copies import copies_of, united
from geomfeat.statistics.group_errors import LeftOut, keep
from geomfeat.types import Points, Representation, as_layer

CLASSIFIERS = ("logistic", "ridge")


@dataclass(frozen=True)
class ProbeAccuracy(BaseResult):
    """accuracy: share of held-out samples classified rightly. by_fold: each fold's.

    stderr: binomial, over samples; where some belong together, of the mean over groups. chance: share of the largest
    class. converged: every fit reached its tolerance. n_groups: of samples that belong together, copies included; None
    where groups were not given and no sample is a copy. n_copies: samples that are equal to an earlier one.
    """

    accuracy: float
    stderr: float
    by_fold: tuple[float, ...]
    chance: float
    converged: bool
    n_groups: int | None = None
    n_copies: int = 0

    @property
    def note(self) -> str:
        """What limits the number."""
        parts = [f"chance {self.chance:.3f} (the largest class)"]
        if self.n_copies:
            parts.append(f"{self.n_copies} copies of samples, each in the fold of the first")
        if self.n_groups is not None:
            parts.append(f"{self.n_groups} groups, none of them split over folds")
        if not self.converged:
            parts.append("the fit stopped before it converged: a smaller strength= or classifier='ridge' settles")
        return "; ".join(parts)


def linear_probe(
    x: Points,
    labels: Any = None,
    *,
    groups: Any = None,
    folds: int = 5,
    classifier: str = "logistic",
    strength: float = 1.0,
    seed: int = 0,
) -> ProbeAccuracy:
    """Cross-validated accuracy of a linear classifier on standardised features (Alain & Bengio 2017).

    Args:
        x: (n, d) features. labels: (n,) classes, see `as_labels`; default those of a Representation.
        groups: (n,) samples that belong together, such as views of one object, are held out together; default those of
            a Representation. Copies (samples equal up to the rounding of their precision) always belong together.
        folds: stratified, shuffled by `seed`. Each feature is standardised by the training folds' mean and deviation.
        classifier: "logistic" (multinomial, squared penalty, inverse weight `strength`) or "ridge" (least squares on
            +-1 targets, penalty 1 / `strength`; much faster with many features).

    Raises BadInput for one class, a class with fewer samples, or fewer groups of them, than folds, or unknown options.

    >>> x = torch.cat([torch.linspace(0, 1, 10), torch.linspace(2, 3, 10)])[:, None]
    >>> linear_probe(x, torch.arange(20) // 10).accuracy
    1.0
    """
    if classifier not in CLASSIFIERS:
        raise BadInput(f"classifier={classifier!r}: use one of {', '.join(map(repr, CLASSIFIERS))}")
    layer = as_layer(x)
    if labels is None and layer.labels is not None:
        labels = Labels(layer.labels, layer.classes)
    if labels is None:
        raise BadInput("a linear probe needs labels: pass labels=, one class per sample")
    known = as_labels(labels, n=layer.n)
    groups = layer.groups if groups is None else as_groups(groups, n=layer.n)
    values, index = torch.unique(known.codes, return_inverse=True)
    y = index.cpu().numpy()
    _check(np.bincount(y), folds)
    together, n_copies = _together(layer, groups)
    alone = len(together.unique()) == layer.n
    if not alone:
        names = [known.classes[i] if known.classes else i for i in values.tolist()]
        _check_groups(y, together.numpy(), folds, names, groups is None)
    # Units that are constant up to rounding become 0: standardising would scale their rounding up to noise.
    spread = Spread.of(layer.x, layer.precision)
    features = spread.x.cpu().numpy()
    # The same holds for units that are constant up to rounding within the training folds.
    size = ((layer.x.to(WORKING) / spread.unit).square().sum(0) / layer.n).sqrt()
    floor = (2 * roundings(layer.precision)[1] * size).cpu().numpy()
    parts = list(_folds(features, y, None if alone else together.numpy(), folds, seed))
    hits = np.zeros(layer.n, bool)

    def fit(i: int, _: int) -> None:
        train, test = parts[i]
        a, b = _standardised(features[train], features[test], floor)
        hits[test] = _classified(a, y[train], b, y[test], classifier, strength)

    # Around the threads, since they share what is done with warnings.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_threads(fit, len(parts), share=1)
    converged, by_fold = not caught, tuple(float(hits[test].mean()) for _, test in parts)
    accuracy = float(hits.mean())
    error = math.sqrt(accuracy * (1 - accuracy) / layer.n) if alone else _grouped_error(hits, together.numpy())
    chance = float(np.bincount(y).max() / layer.n)
    if groups is not None:
        keep({None: _left_out(hits, groups)})
    count = None if alone and groups is None else len(together.unique())
    return ProbeAccuracy(accuracy, error, by_fold, chance, converged, count, n_copies)


def _together(layer: Representation, groups: Tensor | None) -> tuple[Tensor, int]:
    """(n,) which samples are held out together, and how many of them are copies of an earlier one."""
    copies = copies_of(layer)
    n_copies = layer.n - len(copies.unique())
    return copies if groups is None else united(copies, groups), n_copies


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


def _check_groups(y: np.ndarray, together: np.ndarray, folds: int, names: list[Any], only_copies: bool) -> None:
    """BadInput where a class is in fewer groups than folds: it would be missing from the training samples of one."""
    pairs = np.unique(np.stack([y, together], 1), axis=0)
    counts = np.bincount(pairs[:, 0])
    if counts.min() < folds:
        least = int(counts.argmin())
        what = "different samples (the others are copies)" if only_copies else "groups"
        raise BadInput(
            f"class {names[least]!r} has {counts[least]} {what}, fewer than {folds} folds, so that it cannot be held "
            "out: give more of them, leave the class out, or pass a smaller folds="
        )


def _folds(
    features: np.ndarray, y: np.ndarray, together: np.ndarray | None, folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    state = int(numpy_stream(seed, "probe").integers(2**31))
    if together is None:
        yield from StratifiedKFold(folds, shuffle=True, random_state=state).split(features, y)
        return
    n_classes = y.max() + 1
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=state).split(features, y, together):
        if not len(test) or len(np.unique(y[train])) < n_classes:
            raise BadInput(
                f"groups of samples cannot be shared out over {folds} folds so that every class is left to train on: "
                "pass a smaller folds=, or smaller groups"
            )
        yield train, test


def _classified(
    train: np.ndarray, y: np.ndarray, test: np.ndarray, wanted: np.ndarray, classifier: str, strength: float
) -> np.ndarray:
    """Which held-out samples are classified rightly; a warning where the fit did not converge."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier

    model = (
        LogisticRegression(C=strength, max_iter=5000)
        if classifier == "logistic"
        else RidgeClassifier(alpha=1 / strength)
    )
    return model.fit(train, y).predict(test) == wanted


def _grouped_error(hits: np.ndarray, together: np.ndarray) -> float:
    """Standard error of the share of hits, from the sums of groups, which are independent (Liang & Zeger 1986)."""
    sums = np.bincount(together, hits - hits.mean())
    count = len(sums)
    return math.sqrt(count / (count - 1) * float(np.square(sums).sum())) / len(hits)


def _left_out(hits: np.ndarray, groups: Tensor) -> LeftOut:
    """The share of hits of all samples, and of those without each group; the fits stay as they are."""
    part = torch.unique(groups.cpu(), return_inverse=True)[1]
    right = torch.from_numpy(hits).to(WORKING)
    sizes = torch.bincount(part)
    without = (right.sum() - torch.bincount(part, right)) / (len(part) - sizes)
    return LeftOut(torch.cat([right.mean()[None], without])[:, None], sizes)


def _standardised(train: np.ndarray, test: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both minus the training mean, over the training deviation; features with none above the floor become 0."""
    mean = train.mean(0)
    a, b = train - mean, test - mean
    deviation = np.sqrt(np.square(a).mean(0))
    moves = deviation > floor
    scale = np.where(moves, deviation, 1.0)
    for part in (a, b):
        part *= moves
        part /= scale
    if a.shape[1] <= a.shape[0]:
        return a, b
    # A penalised linear fit stays in the span of its samples, so their coordinates there give the same predictions.
    basis = np.linalg.svd(a, full_matrices=False)[2].T
    return a @ basis, b @ basis
