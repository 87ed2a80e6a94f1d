"""Dimension of what repeated trials share: the signal, without the noise that differs from trial to trial."""

from __future__ import annotations

from math import inf, isfinite

import torch
from torch import Tensor

from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension._cross_validated_spectrum import spectrum_of_centred
from geomfeat.numerics import stream
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.group_errors import errors_wanted, grouped_stderr, jackknife_over_groups, with_own_errors
from geomfeat.statistics.repeated_samples import repeats_once
from geomfeat.types import Estimate, Representation


@measure(
    source="U-statistics over products of different trials: tr(C)^2 / tr(C^2) of the signal's covariance C",
    bounds=(-inf, inf),
    unit="dimensions",
    direction="higher = signal in more directions; an estimate without the noise, hence not bounded by n",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    needs={"labels"},
    min_samples=8,
    by_default=False,
)
@with_own_errors
def participation_ratio_of_trials(rep: Representation) -> Estimate:
    """Participation ratio of the signal: labels name the stimulus (or condition) that each trial repeats.

    Noise of any covariance drops out where it is independent between trials. With groups (runs), trials of a group may
    share noise: they are averaged for each stimulus, and only products of different groups count. Stimuli with a single
    trial, or trials in a single group, are left out, and the note counts them. The error is over stimuli (jackknife).

    >>> noise = torch.Generator().manual_seed(0)
    >>> stimulus = torch.arange(400) % 100
    >>> signal = torch.randn(100, 5, generator=noise) @ torch.eye(5, 40)
    >>> trials = signal[stimulus] + torch.randn(400, 40, generator=noise)                  # noise in all 40 directions
    >>> found = participation_ratio_of_trials(Representation(trials, stimulus))
    >>> abs(found.value - 5) < 3 * found.stderr < 2
    True
    """
    [rep], copies = repeats_once(rep)
    x, stimulus, group, said = _cells(rep)
    value = _ratio(x, stimulus, group)
    if not isfinite(value) or value <= 0:
        return Estimate.failed("hardly any signal: trials of a stimulus are no more alike than others; give more")
    note = "; ".join(filter(None, (copies, said, f"error over {len(torch.unique(stimulus))} stimuli")))
    return Estimate(value, _over_stimuli(x, stimulus, group), note=note)


def _cells(rep: Representation) -> tuple[Tensor, Tensor, Tensor | None, str]:
    """Centred trials with their stimulus and group, averaged within a group; without stimuli that have only one."""
    assert rep.labels is not None
    x, stimulus = geometry.spread_of(rep).x, torch.unique(rep.labels, return_inverse=True)[1]
    group = None if rep.groups is None else torch.unique(rep.groups, return_inverse=True)[1]
    if group is not None:
        pairs, cell = torch.unique(torch.stack([stimulus, group], 1), dim=0, return_inverse=True)
        x = torch.zeros(len(pairs), x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, cell, x)
        x = x / torch.bincount(cell)[:, None]
        stimulus, group = pairs[:, 0], pairs[:, 1]
    several = torch.bincount(stimulus) > 1
    kept, left = several[stimulus], int((~several).sum())
    if int(several.sum()) < 4:
        what = "2 trials" if group is None else "trials in 2 groups"
        raise BadInput(f"{int(several.sum())} stimuli have {what}: separating signal from noise needs at least 4")
    said = f"{left} stimuli with a single {'trial' if group is None else 'group'} left out" if left else ""
    stimulus = torch.unique(stimulus[kept], return_inverse=True)[1]
    return x[kept], stimulus, None if group is None else group[kept], said


def _ratio(x: Tensor, stimulus: Tensor, group: Tensor | None) -> float:
    """By products of the same two groups for all stimuli, where every stimulus is in all; else of any two trials."""
    n_stimuli = len(torch.unique(stimulus))
    n_groups = 0 if group is None else len(torch.unique(group))
    if group is None or len(x) != n_stimuli * n_groups:
        return geometry.participation_ratio_of_unequal_trials(x, stimulus)
    order = torch.argsort(group * n_stimuli + stimulus)
    return geometry.participation_ratio_of_trials(x[order].reshape(n_groups, n_stimuli, -1))


def _over_stimuli(x: Tensor, stimulus: Tensor, group: Tensor | None) -> float | None:
    """Jackknife error over stimuli; None where a part of them leaves nothing to measure."""
    if not errors_wanted():
        return None
    compact = torch.linalg.qr(x.T, mode="r")[1].T if x.shape[1] > len(x) else x

    def without(rows: Tensor) -> float:
        left = torch.unique(stimulus[rows], return_inverse=True)[1]
        return _ratio(compact[rows], left, None if group is None else group[rows])

    try:
        values, sizes = jackknife_over_groups(without, stimulus)
    except BadInput:
        return None
    error = float(grouped_stderr(_ratio(compact, stimulus, group), torch.tensor(values, dtype=x.dtype), sizes.cpu()))
    return error if isfinite(error) else None


@measure(
    source="cross-validated PCA: Stringer et al. 2019 (Nature 571, 361), Methods",
    quantities={
        "exponent": Quantity((-inf, inf), "", "higher = the signal's variance falls faster with rank"),
        "r2": Quantity((0, 1), "", "near 1 = the decay is a power law over the fitted ranks"),
        "first_rank": Quantity((1, inf), "rank", "first rank of the fit"),
        "last_rank": Quantity((5, inf), "rank", "last rank of the fit"),
    },
    invariant_to={"rotation", "scale", "shift", "unit order"},
    needs={"labels"},
    stochastic=True,
    min_samples=12,
    by_default=False,
)
def cross_validated_spectrum(
    rep: Representation, *, first: int | None = None, last: int | None = None, n_splits: int = 10, seed: int = 0
) -> dict[str, Estimate]:
    """Power-law exponent of the signal's spectrum; labels name the stimulus (or condition) that each trial repeats.

    With groups (runs), the trials of a stimulus in a group are averaged to one. Stimuli keep as many trials as the one
    with the fewest (in random order), and the note says so. The error is over stimuli (jackknife). first, last: ranks
    to fit.

    >>> noise = torch.Generator().manual_seed(0)
    >>> stimulus = torch.arange(600) % 200
    >>> signal = torch.randn(200, 60, generator=noise) * torch.arange(1, 61) ** -0.5       # eigenvalues 1 / k
    >>> trials = signal[stimulus] + 0.2 * torch.randn(600, 60, generator=noise)
    >>> found = cross_validated_spectrum(Representation(trials, stimulus))["exponent"]
    >>> abs(found.value - 1) < 0.25
    True
    """
    [rep], copies = repeats_once(rep)
    x, stimulus, _, said = _cells(rep)
    order = torch.randperm(len(x), generator=stream(seed, "trials of a stimulus")).to(x.device)
    order = order[stimulus[order].argsort(stable=True)]
    counts = torch.bincount(stimulus)
    fewest, starts = int(counts.min()), counts.cumsum(0) - counts
    chosen = order[starts[None] + torch.arange(fewest, device=x.device)[:, None]]
    rounding = geometry.spread_of(rep).of_directions
    found = spectrum_of_centred(x[chosen], rounding, first=first, last=last, n_splits=n_splits, seed=seed)
    spare = len(x) - chosen.numel()
    notes = (copies, said, f"{fewest} trials of every stimulus, {spare} others left out" if spare else "")
    error = found.exponent_se if isfinite(found.exponent_se) else None
    over = f"error over {found.n_stimuli} stimuli" if error is not None else "no error over stimuli"
    fit = found.power_law
    return {
        "exponent": Estimate(fit.exponent, error, note="; ".join(filter(None, (*notes, over)))),
        "r2": Estimate(fit.r2),
        "first_rank": Estimate(fit.first),
        "last_rank": Estimate(fit.last),
    }
