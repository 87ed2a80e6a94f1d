"""Confidence intervals of any similarity, over samples.

A bootstrap sample holds copies of samples, and copies are no new samples: each is the other's nearest neighbour, the
unbiased HSIC counts pairs that are equal for this reason alone, ranks fall to 63 %. So halves are drawn instead,
without replacement (Politis, Romano & Wolf 1999, section 2.2; Shao & Wu 1989). A mean over n/2 of n samples has
variance (1/(n/2) - 1/n) s^2 = s^2 / n around that over all n, so that halves scatter around all samples as all samples
do around the population. The interval is [v + q_low, v + q_high] with v the value of all samples and q the quantiles
of the halves' values less their mean: what a measure owes to the number of samples alone does not shift it, and is not
taken off either (CCA of 80 samples stays above that of 2000). Of a curved measure halves scatter a little too much:
for CKA of 80 samples by a fifth, so that the interval errs on the wide side. Where samples come in groups, the halves
are of the groups.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._validation import same_samples
from geomfeat.numerics import stream
from geomfeat.registry import get
from geomfeat.statistics.copies import copies_of
from geomfeat.statistics.group_errors import common_groups, values_alone
from geomfeat.statistics.repeated_samples import copies_said
from geomfeat.types import Estimate, Representation

LEAST = 8  # samples, or groups of them


@dataclass(frozen=True, repr=False)
class Interval(BaseResult):
    """A similarity with a confidence interval over samples.

    Attributes:
        value: of all samples. low, high: the interval. stderr: standard deviation over halves.
        level: share of intervals that should hold the population's value. n_bootstrap: halves drawn.
        n_groups: groups that the halves were drawn of; None where samples were drawn one by one.
        n_failed: halves on which the measure failed (with any, the interval is NaN). note: what to do about it; what
            the measure notes of all samples; how many samples are copies of others.
    """

    value: float
    low: float
    high: float
    stderr: float
    level: float
    n_bootstrap: int
    n_failed: int = 0
    note: str = ""
    n_groups: int | None = None

    def __str__(self) -> str:
        of = "" if self.n_groups is None else f" of {self.n_groups} groups"
        ends = f"[{self.low:.4g}, {self.high:.4g}]"
        text = f"{self.value:.4g} {ends} ({100 * self.level:g} %, {self.n_bootstrap} halves{of})"
        return f"{text}: {self.note}" if self.note else text

    __repr__ = __str__


def similarity_interval(
    a: Any, b: Any, measure: str | Callable[..., Any], *, n_bootstrap: int = 200, level: float = 0.95, seed: int = 0
) -> Interval:
    """Confidence interval of a similarity of two layers, from random halves of the samples (see the module).

    Args:
        a, b: Representations or arrays (n, d) of the same samples, independent of each other and at least 8. Where a
            Representation has groups, halves of the groups are drawn, and there must be at least 8 of these.
        measure: the name of a registered pair measure ("name.quantity" where it has several), or a function of two
            Representations that gives a number or an Estimate.

    Copies of samples count as independent draws, which a note reports: give repeats of a sample one group.

    A measure that needs more samples than features needs twice as many here. Raises BadInput for other numbers of
    samples, too few of them or of their groups, options out of range, and a measure that is not one of two layers.

    >>> x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    >>> found = similarity_interval(x, x + torch.randn(40, 5), "cka_linear_unbiased", n_bootstrap=50)
    >>> found.low < found.value < found.high
    True
    """
    left, right = (r if isinstance(r, Representation) else Representation(r) for r in (a, b))
    same_samples(left, right)
    groups = common_groups(left, right)
    part = torch.arange(left.n) if groups is None else torch.unique(groups, return_inverse=True)[1]
    n = int(part.max()) + 1
    if n < LEAST:
        raise BadInput(f"{n} {'samples' if groups is None else 'groups'}: an interval needs at least {LEAST}")
    if n_bootstrap < 20 or not 0 < level < 1:
        raise BadInput(
            f"n_bootstrap={n_bootstrap}, level={level}: draw at least 20 halves, for a level between 0 and 1"
        )
    work, bounds = _measured(measure)
    count = None if groups is None else n
    with values_alone():
        whole = work(left, right)
    if not whole.ok:
        return Interval(whole.value, np.nan, np.nan, np.nan, level, n_bootstrap, n_bootstrap, whole.note, count)
    notes = [whole.note] if whole.note else []
    if groups is None and (copies := n - len(copies_of(left, right).unique())):
        notes.append(copies_said(copies, n, "the halves take", False))
    draws = stream(seed, "similarity interval")
    drawn = [torch.randperm(n, generator=draws)[: n // 2].sort().values for _ in range(n_bootstrap)]
    halves = drawn if groups is None else [torch.nonzero(torch.isin(part, half))[:, 0] for half in drawn]
    with values_alone():
        found = [work(left.take(_on(rows, left)), right.take(_on(rows, right))) for rows in halves]
    failed = [estimate.note for estimate in found if not estimate.ok]
    if failed:
        note = f"{len(failed)} of {n_bootstrap} halves failed ({failed[0]}): give more samples"
        return Interval(whole.value, np.nan, np.nan, np.nan, level, n_bootstrap, len(failed), note, count)
    # A half of an odd number of samples is a little less than half, and scatters a little more.
    away = np.array([estimate.value for estimate in found]) * (n // 2 / (n - n // 2)) ** 0.5
    away -= away.mean()
    low, high = whole.value + np.quantile(away, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        whole.value, max(float(low), bounds[0]), min(float(high), bounds[1]), float(away.std(ddof=1)), level,
        n_bootstrap,
        note="; ".join(notes), n_groups=count,
    )  # fmt: skip


def _on(rows: Tensor, rep: Representation) -> Tensor:
    return rows.to(rep.x.device)


def _measured(
    measure: str | Callable[..., Any],
) -> tuple[Callable[[Representation, Representation], Estimate], tuple[float, float]]:
    """A function that gives an Estimate, failed where the data do not allow one, and the bounds of its values."""
    if isinstance(measure, str):
        name, _, quantity = measure.partition(".")
        known = get(name)
        if known.scope != "pair":
            raise BadInput(f"measure {name!r} is not one of two layers: see geomfeat measures")
        quantity = quantity or name
        if quantity not in known.quantities:
            several = ", ".join(f"{name}.{q}" for q in known.quantities if q != name) or name
            raise BadInput(f"measure={measure!r} is not one number: use {several}")
        return lambda a, b: known.run(a, b)[quantity], known.quantities[quantity].bounds

    def work(a: Representation, b: Representation) -> Estimate:
        try:
            value = measure(a, b)
        except BadInput as error:
            return Estimate.failed(str(error))
        if isinstance(value, Estimate):
            return value
        return Estimate(value) if np.isfinite(value) else Estimate.failed(f"the measure gave {value}")

    return work, (-np.inf, np.inf)
