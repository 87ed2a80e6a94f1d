"""A linear probe over more samples than fit memory: ridge regression from sums, tested on folds in a second pass.

Least squares on +-1 targets with a squared penalty needs of the samples their number by class, the sum of each class
and the scatter X'X alone, all of which add up over batches and processes without loss. Every sample has a fold that
follows from its index and the seed, and the sums of each fold are held apart, so that the read-out of a fold is that of
all samples outside it. Its accuracy needs the samples again: a second pass over them.

With z the features less the mean m and over the deviation s of the n training samples, n_c of them in class c with the
sum S_c,
    W = (Z'Z + I / strength)^-1 Z'Y,   Z'Z = n corr(X),   (Z'Y)_c = 2 (S_c - n_c m) / s,   f_c(x) = z W_c + 2 n_c/n - 1,
which is `linear_probe(..., classifier="ridge")` on these folds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomfeat.distributed import gathered, require_mergeable, summed
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.streaming_moments import MomentSums, StreamingMoments
from geomfeat.geometry.probes._linear_probe import ProbeAccuracy
from geomfeat.numerics import WORKING
from geomfeat.precision import is_constant
from geomfeat.statistics.sample_numbers import number_of_each, whole_numbers
from geomfeat.types import Points, Representation, as_layer

FOLDS_OF_SAMPLES = 1  # what the numbers of samples are for, beside those of `StreamingPoints`


class _Settings(NamedTuple):
    """See `StreamingProbe`."""

    n_classes: int
    folds: int
    strength: float
    seed: int


class _ReadOut(NamedTuple):
    """f(x) = (x - point) weights + constant: (d,), (d, C), (C,)."""

    point: Tensor
    weights: Tensor
    constant: Tensor


class StreamingProbe:
    """The held-out accuracy of a linear read-out from batches of features, in constant memory and two passes.

    It is the ridge classifier of `linear_probe` (least squares on +-1 targets, features standardised by the training
    folds), over folds that are drawn sample by sample rather than stratified: the accuracies of both agree within their
    errors. The measure `linear_probe_accuracy` fits a logistic classifier, which no sums determine; it is often a few
    per cent better, since large distances from the border cost it nothing.

    Samples with one index are held out together: give copies, views of one object or trials of one run the same index.
    The standard error counts samples as independent all the same.

    Several processes: each updates its own object with its own samples, and `all_reduce` gives that of all.

    Args:
        n_classes: labels are whole numbers from 0 to n_classes - 1.
        folds: at least 2. Memory is 8 folds d^2 bytes for d features. strength: of the inverse penalty, see
            `linear_probe`. seed: of the folds.

    Raises BadInput for fewer than two classes or folds, or a strength that is not positive.

    >>> x = torch.cat([torch.linspace(0, 1, 50), torch.linspace(2, 3, 50)])[:, None]
    >>> labels, probe = torch.arange(100) // 50, StreamingProbe(2)
    >>> for index in torch.arange(100).split(10):
    ...     probe.update(x[index], labels[index], index)
    >>> tested = probe.fitted()
    >>> for index in torch.arange(100).split(10):
    ...     tested.update(x[index], labels[index], index)
    >>> tested.result().accuracy
    1.0
    """

    def __init__(self, n_classes: int, *, folds: int = 5, strength: float = 1.0, seed: int = 0) -> None:
        if n_classes < 2 or folds < 2:
            raise BadInput(f"n_classes={n_classes} and folds={folds} must be at least 2")
        if not (strength > 0 and math.isfinite(strength)):
            raise BadInput(f"strength={strength} must be a positive number: 1 is that of `linear_probe`")
        self._settings = _Settings(n_classes, folds, float(strength), seed)
        self._folds = [StreamingMoments(n_classes, memory=0) for _ in range(folds)]  # one scatter for all classes

    def update(self, x: Points, labels: Any, index: Any) -> None:
        """Add features (m, d) of new samples, their labels (m,), and which samples of the whole data set they are (m,).

        A sample that comes twice counts twice. Raises BadInput for another width, NaN, and labels out of range.
        """
        for k, rows, own in _by_fold(x, labels, index, self._settings):
            self._folds[k].update(rows, own)

    def fitted(self) -> FittedProbe:
        """The read-outs of all folds, for a second pass over the samples.

        Raises BadInput without samples, for one class alone, and where a fold has none, or holds a class alone.
        """
        empty = [k for k, fold in enumerate(self._folds) if fold._point is None]
        if len(empty) == len(self._folds):
            raise BadInput("no samples yet: update the probe first")
        if empty:
            raise BadInput(f"fold {empty[0]} of {len(self._folds)} has no samples: give more, or pass a smaller folds=")
        counts = torch.stack([fold.sums().counts for fold in self._folds]).sum(0)
        if int((counts > 0).sum()) < 2:
            raise BadInput("a linear probe needs at least 2 classes, got 1: take inputs of more classes")
        read_outs = [self._without(k, counts) for k in range(len(self._folds))]
        return FittedProbe(self._settings, read_outs, counts.cpu())

    def _without(self, k: int, counts: Tensor) -> _ReadOut:
        """The read-out of all samples outside a fold; counts (C,) of all samples."""
        rest = StreamingMoments(self._settings.n_classes, memory=0)
        for other in self._folds[:k] + self._folds[k + 1 :]:
            rest.merge(other)
        training = rest.sums()
        alone = ((counts > 0) & (training.counts == 0)).nonzero().flatten().tolist()
        if alone:
            raise BadInput(
                f"all samples of class {alone[0]} are in one fold, so that none is left to train on: give more of "
                "them, leave the class out, or pass another seed="
            )
        return _read_out(training, self._settings.strength)

    def merge(self, other: StreamingProbe) -> None:
        """Add the samples of another object, which stays as it is. Raises BadInput for other settings or widths."""
        require_mergeable([self._facts(), other._facts()])
        for own, others in zip(self._folds, other._folds, strict=True):
            own.merge(others)

    def all_reduce(self) -> StreamingProbe:
        """That of the samples of all processes of the group, which all must call this; all get the same.

        This object stays as it is. Ranks without samples take part. Raises BadInput on all where they differ in
        settings or widths, or have no samples at all; RankLost where one has ended.
        """
        everyone = gathered(self._facts())
        require_mergeable(everyone)
        if not any(facts["shape"] for facts in everyone):
            raise BadInput("no process has samples: update the probe before all_reduce()")
        out = StreamingProbe(**self._settings._asdict())
        for k, own in enumerate(self._folds):
            if any(k in facts["folds"] for facts in everyone):
                out._folds[k] = own.all_reduce()
        return out

    def _facts(self) -> dict[str, Any]:
        there = [k for k, fold in enumerate(self._folds) if fold._point is not None]
        shape = {"d": len(self._folds[there[0]].sums().point)} if there else None
        return {"settings": self._settings._asdict(), "shape": shape, "folds": there}


class FittedProbe:
    """Read-outs of a `StreamingProbe`, each tested on the fold that it has not seen; see `StreamingProbe.fitted`."""

    def __init__(self, settings: _Settings, read_outs: list[_ReadOut], counts: Tensor) -> None:
        self._settings, self._read_outs, self._counts = settings, read_outs, counts
        self._hits = torch.zeros(2, settings.folds, dtype=torch.long)  # right, and in all

    def update(self, x: Points, labels: Any, index: Any) -> None:
        """Test features (m, d) of samples with their labels (m,) and the same index (m,) as in the first pass.

        Raises BadInput for another width, NaN, and labels out of range.
        """
        for k, rows, own in _by_fold(x, labels, index, self._settings):
            point, weights, constant = self._read_outs[k]
            if rows.d != len(point):
                raise BadInput(f"x has {rows.d} features, in the first pass {len(point)}")
            found = ((rows.x.to(WORKING) - point) @ weights + constant).argmax(1).cpu()
            self._hits += torch.tensor([int((found == own).sum()), len(own)])[:, None] * (
                torch.arange(self._settings.folds) == k
            )

    def all_reduce(self) -> FittedProbe:
        """With the tests of all processes of the group, which all must call this; RankLost where one has ended."""
        out = FittedProbe(self._settings, self._read_outs, self._counts)
        (out._hits,) = summed([self._hits])
        return out

    def result(self) -> ProbeAccuracy:
        """The share of tested samples that were classified rightly. Raises BadInput where a fold has not been tested.

        Chance is the share of the largest class in the first pass.
        """
        right, tested = self._hits.to(WORKING)
        if bool((tested == 0).any()):
            raise BadInput("samples have not been tested: update the fitted probe with all of them, in a second pass")
        n, accuracy = float(tested.sum()), float(right.sum() / tested.sum())
        error = math.sqrt(accuracy * (1 - accuracy) / n)
        chance = float(self._counts.max() / self._counts.sum())
        return ProbeAccuracy(accuracy, error, tuple((right / tested).tolist()), chance, converged=True)


def _by_fold(x: Points, labels: Any, index: Any, settings: _Settings) -> list[tuple[int, Representation, Tensor]]:
    """(fold, its features, their labels) of a batch, for the folds that are in it."""
    layer = as_layer(x)
    codes, index = whole_numbers(labels, layer.n, "labels"), whole_numbers(index, layer.n, "index")
    if layer.n and not 0 <= int(codes.min()) <= int(codes.max()) < settings.n_classes:
        raise BadInput(f"labels from {int(codes.min())} to {int(codes.max())}: give 0 to {settings.n_classes - 1}")
    numbers = number_of_each(index, settings.seed, FOLDS_OF_SAMPLES) % settings.folds
    fold = torch.from_numpy(numbers.astype("int64"))
    found = []
    for k in fold.unique().tolist():
        rows = (fold == k).nonzero().flatten()
        found.append((k, Representation(layer.x[rows.to(layer.x.device)], meta=layer.meta), codes[rows]))
    return found


def _read_out(sums: MomentSums, strength: float) -> _ReadOut:
    """The ridge classifier of the samples behind these sums; see the top."""
    counts, n = sums.counts.to(WORKING), float(sums.counts.sum())
    mean = sums.totals.sum(0) / n
    covariance = sums.scatter.sum(0) / n - torch.outer(mean, mean)
    deviation = covariance.diagonal().clamp_min(0).sqrt()
    # Units that are constant up to rounding stay out: standardising would scale their rounding up to noise.
    constant = is_constant(deviation, torch.hypot(deviation, sums.point + mean), sums.precision)
    scale = torch.where(constant, 0, 1 / torch.where(constant, 1.0, deviation))
    gram = n * covariance * torch.outer(scale, scale)
    gram.diagonal().add_(1 / strength)
    targets = 2 * scale[:, None] * (sums.totals - counts[:, None] * mean).T
    weights = scale[:, None] * torch.cholesky_solve(targets, torch.linalg.cholesky(gram))
    offset = 2 * counts / n - 1 - mean @ weights
    return _ReadOut(sums.point, weights, torch.where(counts > 0, offset, -math.inf))
