"""Models ranked by the similarity of their RDMs with those of subjects, with errors, tests and the noise ceiling."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa._noise_ceiling import NoiseCeiling, ceilings_per_subject, noise_ceiling
from geomfeat.geometry.rsa.bootstrap import OVER, BootstrapSpread, resample, spread
from geomfeat.geometry.rsa.ceiling_chart import models_and_ceiling
from geomfeat.geometry.rsa.compare import FEWEST_STIMULI, aligned, missing_pairs, similarities
from geomfeat.geometry.rsa.predictions import predictions_of
from geomfeat.geometry.rsa.rdms import RDMs

LEVEL = 0.95


@dataclass(frozen=True, eq=False, repr=False)
class RSARanking(PlottableResult):
    """m models, best first, against k subjects.

    Attributes:
        names: the models.
        mean: (m,) similarity with the subjects' RDMs, mean over subjects.
        stderr, low, high: (m,) standard error, and the 95 % confidence interval mean +- t stderr.
        per_subject: (m, k).
        p_zero: (m,) one-sided t test that the mean is above 0.
        p_ceiling: (m,) one-sided t test that it is below the lower noise ceiling; NaN for one subject.
        p_pairwise: (m, m) two-sided t test that two models differ; not corrected for the number of pairs.
        ceiling: the noise ceiling of the subjects.
        samples: (n_bootstrap - n_failed, m) means in the bootstrap samples.
        comparator, over, n_bootstrap, n_failed: as asked for; `over` is "stimuli" for a single subject.
        notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each model, best first: names, mean, stderr, low, high, p_zero, p_ceiling, then what
    is common to all.
    """

    names: tuple[str, ...]
    mean: Tensor
    stderr: Tensor
    low: Tensor
    high: Tensor
    per_subject: Tensor
    p_zero: Tensor
    p_ceiling: Tensor
    p_pairwise: Tensor
    ceiling: NoiseCeiling
    samples: Tensor
    comparator: str
    over: str
    n_bootstrap: int
    n_failed: int
    notes: tuple[str, ...] = ()

    _rows = ("names", "mean", "stderr", "low", "high", "p_zero", "p_ceiling")

    def __str__(self) -> str:
        wide = max(len(name) for name in self.names)
        rows = [
            f"  {name:{wide}}  {mean:6.3f} [{low:.3f}, {high:.3f}]"
            for name, mean, low, high in zip(
                self.names, self.mean.tolist(), self.low.tolist(), self.high.tolist(), strict=True
            )
        ]
        bounds = self.ceiling
        ceiling = f"noise ceiling {bounds.lower:.3f} to {bounds.upper:.3f}"
        if bounds.p_chance == bounds.p_chance:
            ceiling += f" (by chance {bounds.chance:.3f}, p = {bounds.p_chance:.3f})"
        head = f"RSA by {self.comparator} with {self.per_subject.shape[1]} subjects, 95 % intervals, {ceiling}"
        return "\n".join([head, *rows, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _chart(self) -> Plot:
        return models_and_ceiling(self.names, self.mean, self.stderr, self.ceiling)


def rank_by_rsa(
    models: RDMs | Mapping[str, Any],
    data: RDMs,
    comparator: str = "rho_a",
    *,
    n_bootstrap: int = 1000,
    over: str = "both",
    dissimilarity: str = "correlation",
    seed: int = 0,
) -> RSARanking:
    """Rank models (layers, networks, other brains) by the similarity of their geometry to that of subjects.

    Args:
        models: RDMs, or names with a model each: RDMs of one matrix, a Representation or an array (conditions, units)
            with its rows in the order of data.conditions, whose RDM is taken by `dissimilarity`.
        data: one RDM a subject (or session).
        comparator: see `compare_rdms`. "rho_a" fits models that predict ties, "whitened_cosine" crossnobis distances.
        n_bootstrap: bootstrap samples.
        over: what is resampled, "both" stimuli and subjects (for conclusions on new ones of each), "stimuli" or
            "subjects".
        seed: of the samples.

    Pairs of a stimulus with its own copy are left out of each sample. The ceiling's RDMs are pooled anew in each sample
    of stimuli, but are those of all (other) subjects in each sample of subjects.

    Raises BadInput for other conditions than those of the data, an unknown comparator or `over`, fewer than 4
    conditions, n_bootstrap below 2, and models without any dissimilarity.

    >>> from geomfeat.geometry.rsa import rdm, stack_rdms
    >>> x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> noise = torch.randn(4, 8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    >>> data = stack_rdms([rdm(x + 0.5 * e) for e in noise], "abcd")
    >>> rank_by_rsa({"other": noise[0], "true": x}, data, dissimilarity="squared_euclidean", n_bootstrap=50).names
    ('true', 'other')
    """
    if over not in OVER:
        raise BadInput(f"over={over!r}: use one of {', '.join(map(repr, OVER))}")
    if n_bootstrap < 2:
        raise BadInput(
            f"n_bootstrap={n_bootstrap}: an error needs at least 2 bootstrap samples, and is steady from 1000"
        )
    if data.n_conditions < 4:
        raise BadInput(f"data have {data.n_conditions} conditions: resampling stimuli needs at least 4")
    over = "stimuli" if data.n_rdms == 1 else over
    predicted = predictions_of(models, data, dissimilarity)
    first, second, n = aligned(predicted, data, comparator)
    counts = resample(n, n_bootstrap, seed, "stimuli").to(first.device)
    subjects = resample(len(second), n_bootstrap, seed, "subjects").to(first.device)
    ceiling = noise_ceiling(data, comparator, seed=seed)
    full = _with_ceiling(first, second, comparator, counts.new_ones(1, n))[0]
    undefined = [name for name, row in zip(predicted.names, full[:-1], strict=True) if bool(row.isnan().any())]
    if undefined:
        raise BadInput(f"{comparator} is undefined for {undefined[:5]}: the RDMs of these models are constant")
    several = len(full) - 1 + (data.n_rdms > 1)
    resampled = (
        full.expand(n_bootstrap, -1, -1) if over == "subjects" else _with_ceiling(first, second, comparator, counts)
    )
    found = spread(full[:several], resampled[:, :several], subjects, n, over)
    failures = "" if over == "subjects" else _failures(resampled[:, :several], counts, predicted.names, data.names)
    if len(found.samples) < 2:
        raise BadInput(
            f"{len(found.samples)} of {n_bootstrap} bootstrap samples have similarities, {failures}: give more "
            "conditions, or a comparator that is defined for constant RDMs ('rho_a', 'kendall_tau_a')"
        )
    # Pairs that a model lacks are left out too: one sentence for models and subjects together replaces the ceiling's.
    notes = [*missing_pairs(predicted, data), *(note for note in ceiling.notes if note not in missing_pairs(data))]
    if found.n_failed:
        notes.insert(0, f"{found.n_failed} of {n_bootstrap} samples left out: {failures}")
    return _ranking(predicted.names, full, found, replace(ceiling, notes=tuple(notes)), over, n_bootstrap)


def _failures(
    resampled: Float[Tensor, "s M k"], counts: Float[Tensor, "s n"], models: tuple[str, ...], subjects: tuple[str, ...]
) -> str:
    """Why samples of the stimuli have no similarities: too few different stimuli, or an RDM that is constant there."""
    few = (counts > 0).sum(1) < FEWEST_STIMULI
    lost = resampled.isnan() & ~few[:, None, None]
    of_models, of_subjects = lost[:, : len(models)].all(2), lost[:, : len(models)].all(1)
    constant = [
        f"{name!r} ({int(times)})"
        for names, found in ((models, of_models), (subjects, of_subjects & ~of_models.any(1)[:, None]))
        for name, times in zip(names, found.sum(0).tolist(), strict=True)
        if times
    ]
    other = int((lost.flatten(1).any(1) & ~of_models.any(1) & ~of_subjects.any(1)).sum())
    parts = [
        f"{int(few.sum())} have fewer than {FEWEST_STIMULI} different stimuli" if bool(few.any()) else "",
        f"the pairs drawn have one dissimilarity in the RDM of {', '.join(constant[:5])}" if constant else "",
        f"in {other} the similarity or the ceiling is undefined for the pairs drawn" if other else "",
    ]
    return "; ".join(filter(None, parts))


def _with_ceiling(
    models: Float[Tensor, "m p"], data: Float[Tensor, "k p"], comparator: str, counts: Float[Tensor, "s n"]
) -> Float[Tensor, "s M k"]:
    """Similarities of every model with every subject, and as one more row each subject's lower ceiling."""
    lower, _ = ceilings_per_subject(data, comparator, counts)
    return torch.cat([similarities(models, data, comparator, counts), lower[:, None]], 1)


def _ranking(
    names: tuple[str, ...], full: Tensor, found: BootstrapSpread, ceiling: NoiseCeiling, over: str, n_bootstrap: int
) -> RSARanking:
    from scipy.special import stdtr, stdtrit

    m, k = len(names), full.shape[1]
    means = full.mean(1)
    order = means[:m].argsort(descending=True, stable=True)
    stderr = found.variance.sqrt()
    reach = float(stdtrit(found.dof, (1 + LEVEL) / 2))

    def tail(difference: Tensor, variance: Tensor) -> Tensor:
        """P(T > difference / standard error)."""
        certain = torch.where(difference == 0, 0, torch.inf * difference.sign())
        t = torch.where(variance > 0, difference / variance.sqrt(), certain)
        return torch.as_tensor(stdtr(found.dof, -t.cpu().numpy()), device=t.device)

    gaps = means[:m, None] - means[None, :m]
    below = torch.full_like(means[:m], torch.nan)
    if k > 1:
        below = tail(means[m] - means[:m], found.difference[:m, m])
    notes = ["pairs of a stimulus with its own copy are left out of every bootstrap sample"] * (over != "subjects")
    if k == 1:
        notes.append("errors are over stimuli alone")
    if m > 2:
        notes.append(f"p_pairwise is of single comparisons: correct it for the {m * (m - 1) // 2} pairs")
    return RSARanking(
        names=tuple(names[i] for i in order.tolist()), mean=means[order], stderr=stderr[order],
        low=(means[:m] - reach * stderr[:m])[order], high=(means[:m] + reach * stderr[:m])[order],
        per_subject=full[order], p_zero=tail(means[:m], found.variance[:m])[order], p_ceiling=below[order],
        p_pairwise=(2 * tail(gaps.abs(), found.difference[:m, :m])).clamp(max=1)[order][:, order], ceiling=ceiling,
        samples=found.samples[:, order], comparator=ceiling.comparator, over=over, n_bootstrap=n_bootstrap,
        n_failed=found.n_failed, notes=(*notes, *ceiling.notes),
    )  # fmt: skip
