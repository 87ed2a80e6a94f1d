"""Flexible models: weighted sums of model RDMs, fitted to some subjects and conditions and tested on others."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa._noise_ceiling import NoiseCeiling, ceilings_per_subject, noise_ceiling
from geomfeat.geometry.rsa.ceiling_chart import models_and_ceiling
from geomfeat.geometry.rsa.compare import aligned, missing_pairs, similarities
from geomfeat.geometry.rsa.model_weights import FITTED, fitted_weights
from geomfeat.geometry.rsa.predictions import predictions_of
from geomfeat.geometry.rsa.rdms import RDMs, Triangles
from geomfeat.numerics import jackknife_stderr, stream

FITTED_NAME = "fitted"
# Conditions held out together, at least, and folds of them at most.
FOLD_SIZE, MOST_FOLDS = 4, 5


@dataclass(frozen=True, eq=False, repr=False)
class FittedRDMs(PlottableResult):
    """A weighted sum of m models and each of them alone, compared with k subjects on what was held out.

    Attributes:
        names: "fitted", then the models in the given order.
        mean, stderr: (m + 1,) mean similarity over subjects and its standard error over subjects; NaN for one subject.
        per_subject: (m + 1, k).
        p_fitted: (m + 1,) two-sided paired t test, over subjects, that a model differs from the fit; NaN for itself.
        weights: (m,) of the models in the fit to all data; they sum to 1.
        weight_stderr: (m,) jackknife over subjects; NaN for one.
        prediction: the RDM of these weights. It has seen all data: compare it with new ones only.
        ceiling: noise ceiling on the same held-out conditions; its chance is that on all conditions.
        comparator; n_folds: parts of the conditions that were held out in turn, 1: none.
        notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each name: mean, stderr, p_fitted, weight and its error (NaN for the fit).
    """

    names: tuple[str, ...]
    mean: Tensor
    stderr: Tensor
    per_subject: Tensor
    p_fitted: Tensor
    weights: Tensor
    weight_stderr: Tensor
    prediction: RDMs
    ceiling: NoiseCeiling
    comparator: str
    n_folds: int
    notes: tuple[str, ...] = ()

    def _columns(self) -> dict[str, Any]:
        none = [float("nan")]
        return {
            "names": list(self.names), "mean": self.mean.tolist(), "stderr": self.stderr.tolist(),
            "p_fitted": self.p_fitted.tolist(), "weight": none + self.weights.tolist(),
            "weight_stderr": none + self.weight_stderr.tolist(),
        }  # fmt: skip

    def __str__(self) -> str:
        wide = max(map(len, self.names))
        shares = ["", *(f"  weight {w:.3f} ± {e:.2g}" for w, e in zip(self.weights, self.weight_stderr, strict=True))]
        rows = [
            f"  {name:{wide}}  {mean:6.3f} ± {error:.2g}{share}"
            for name, mean, error, share in zip(self.names, self.mean, self.stderr, shares, strict=True)
        ]
        parts = f"{self.n_folds} parts of the conditions" if self.n_folds > 1 else "all conditions"
        head = (
            f"RSA by {self.comparator} with {self.per_subject.shape[1]} held-out subjects on {parts}, "
            f"noise ceiling {self.ceiling.lower:.3f} to {self.ceiling.upper:.3f}"
        )
        return "\n".join([head, *rows, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _chart(self) -> Plot:
        return models_and_ceiling(self.names, self.mean, self.stderr, self.ceiling)


def fit_rdm_model(
    models: RDMs | Mapping[str, Any],
    data: RDMs,
    comparator: str = "cosine",
    *,
    n_folds: int | None = None,
    dissimilarity: str = "correlation",
    seed: int = 0,
) -> FittedRDMs:
    """Fit a sum of models with non-negative weights, and test it on subjects and conditions that it has not seen.

    Args:
        models, data, dissimilarity: as for `rank_by_rsa`.
        comparator: see `compare_rdms`. Weights have the greatest mean similarity with the training subjects by
            "cosine", "correlation" or "whitened_cosine"; for comparators of ranks, by "correlation".
        n_folds: parts of the conditions, in random order; the pairs within one are tested, those within the others
            fitted to. Default as many as have at least 4 conditions, up to 5; 1: no condition is held out.
        seed: of the parts.

    Each subject in turn is held out too, where there are several. The models alone and the noise ceiling are those of
    the same held-out pairs, so that the numbers compare (Khaligh-Razavi & Kriegeskorte 2014; Schuett et al. 2023).

    Raises BadInput as `rank_by_rsa`; for one subject and too few conditions to hold out any; and parts of fewer than 4.

    >>> g = torch.Generator().manual_seed(0)
    >>> models = RDMs(torch.rand(2, 66, generator=g, dtype=torch.float64), names=["shape", "colour"])
    >>> truth = 0.8 * models.vectors[0] + 0.2 * models.vectors[1]
    >>> data = RDMs(truth + 0.05 * torch.randn(5, 66, generator=g, dtype=torch.float64))
    >>> [round(w, 1) for w in fit_rdm_model(models, data).weights.tolist()]
    [0.8, 0.2]
    """
    predicted = predictions_of(models, data, dissimilarity)
    if FITTED_NAME in predicted.names:
        raise BadInput(f"a model is named {FITTED_NAME!r}, as the weighted sum is: give it another name")
    x, y, n = aligned(predicted, data, comparator)
    m, k = len(x), len(y)
    criterion = comparator if comparator in FITTED else "correlation"
    folds = _folds(n, k, n_folds, seed)
    found = torch.stack([_held_out(x, y, comparator, criterion, fold.to(x.device)) for fold in folds])
    defined = found[:, : m + 1].isfinite().all(1)
    if not bool(defined.any(0).all()):
        lost = [name for name, there in zip(data.names, defined.any(0).tolist(), strict=True) if not there]
        raise BadInput(f"{comparator} is undefined on all held-out conditions for {lost[:5]}: use fewer n_folds")
    means = found.where(defined[:, None], torch.nan).nanmean(0)
    everything = torch.ones(n, dtype=torch.bool, device=x.device)
    # Weights of the RDMs as they were given, not scaled to largest entries of 1.
    given = predicted.vectors.to(x.device).masked_fill(x.isnan(), torch.nan)
    weights, errors = _weights(given, y, criterion, everything)
    ceiling = noise_ceiling(data, comparator, seed=seed)
    notes = _notes(predicted, data, criterion, comparator, len(folds), int((~defined).sum()))
    lower, upper = means[m + 1 :].mean(1).tolist()
    prediction = RDMs(Triangles(weights @ predicted.vectors), names=(FITTED_NAME,), conditions=data.conditions)
    return FittedRDMs(
        names=(FITTED_NAME, *predicted.names), mean=means[: m + 1].mean(1), stderr=_stderr(means[: m + 1]),
        per_subject=means[: m + 1], p_fitted=_p_fitted(means[: m + 1]), weights=weights, weight_stderr=errors,
        prediction=prediction, ceiling=replace(ceiling, lower=lower, upper=upper), comparator=comparator,
        n_folds=len(folds), notes=(*notes, *(note for note in ceiling.notes if note not in missing_pairs(data))),
    )  # fmt: skip


def _held_out(
    models: Float[Tensor, "m p"], data: Float[Tensor, "k p"], comparator: str, criterion: str, fold: Bool[Tensor, "n"]
) -> Float[Tensor, "m+3 k"]:
    """Similarity with each subject on the conditions of a part: of the fit to the rest, each model, both ceilings."""
    train = fold if bool(fold.all()) else ~fold
    fits = [_fit(models, rest, criterion, train) @ models for rest in _others(data)]
    counts = fold.to(models.dtype)[None]
    fitted = similarities(torch.stack(fits), data, comparator, counts)[0].diagonal()
    alone = similarities(models, data, comparator, counts)[0]
    return torch.cat([fitted[None], alone, *ceilings_per_subject(data, comparator, counts)])


def _others(data: Float[Tensor, "k p"]) -> list[Tensor]:
    """For each subject the RDMs of all others; of a single one its own."""
    if len(data) == 1:
        return [data]
    return [torch.cat([data[:i], data[i + 1 :]]) for i in range(len(data))]


def _fit(models: Tensor, data: Tensor, criterion: str, train: Bool[Tensor, "n"]) -> Float[Tensor, "m"]:
    return fitted_weights(models, data, criterion, train.nonzero()[:, 0], len(train))


def _weights(models: Tensor, data: Tensor, criterion: str, train: Bool[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """Of all subjects, and the error of each over subjects."""
    weights = _fit(models, data, criterion, train)
    if len(data) == 1:
        return weights, torch.full_like(weights, torch.nan)
    left_out = torch.stack([_fit(models, rest, criterion, train) for rest in _others(data)])
    return weights, weights.new_tensor([jackknife_stderr(column) for column in left_out.T])


def _stderr(per_subject: Float[Tensor, "M k"]) -> Float[Tensor, "M"]:
    k = per_subject.shape[1]
    return torch.full_like(per_subject[:, 0], torch.nan) if k == 1 else per_subject.std(1) / k**0.5


def _p_fitted(per_subject: Float[Tensor, "M k"]) -> Float[Tensor, "M"]:
    """Two-sided paired t test of each row with the first."""
    from scipy.special import stdtr

    k = per_subject.shape[1]
    gaps = per_subject[0] - per_subject
    if k == 1:
        return torch.full_like(gaps[:, 0], torch.nan)
    error = _stderr(gaps)
    t = gaps.mean(1).abs() / torch.where(error > 0, error, torch.nan)
    return 2 * torch.as_tensor(stdtr(k - 1, -t.cpu().numpy()), device=t.device)


def _notes(predicted: RDMs, data: RDMs, criterion: str, comparator: str, n_folds: int, lost: int) -> list[str]:
    notes = missing_pairs(predicted, data)
    if criterion != comparator:
        notes.append(f"weights were fitted by {criterion}, and compared by {comparator}")
    if n_folds == 1:
        notes.append("no conditions were held out, only subjects: the fit may not hold for other conditions")
    if data.n_rdms == 1:
        notes.append("no subject was held out, only conditions: the fit may not hold for other subjects")
    if lost:
        notes.append(f"{lost} of {n_folds * data.n_rdms} parts of subjects are left out: a similarity is undefined")
    return notes


def _folds(n: int, k: int, n_folds: int | None, seed: int) -> list[Bool[Tensor, "n"]]:
    """Which conditions are in each part."""
    count = max(1, min(MOST_FOLDS, n // FOLD_SIZE)) if n_folds is None else n_folds
    if count < 1 or (count > 1 and n // count < FOLD_SIZE):
        raise BadInput(f"n_folds={n_folds}: {n} conditions have parts of {FOLD_SIZE} or more in 1 to {n // FOLD_SIZE}")
    if count == 1 and k == 1:
        raise BadInput(f"one subject and one part of {n} conditions: nothing is held out; give n_folds=2, or subjects")
    order = torch.randperm(n, generator=stream(seed, "flexible rdm model"))
    places = torch.empty_like(order)
    places[order] = torch.arange(n)
    return [places % count == part for part in range(count)]
