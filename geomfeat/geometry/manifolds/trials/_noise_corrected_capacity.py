"""Capacity and geometry of classes of stimuli without the noise of the trials in which they were measured."""

import math
from dataclasses import replace
from typing import Any

import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds._capacity import capacity_under
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR
from geomfeat.geometry.manifolds.random_directions import Draws, random_draws
from geomfeat.geometry.manifolds.resampling.data_errors import Resampled
from geomfeat.geometry.manifolds.result import Capacity, in_words
from geomfeat.geometry.manifolds.trials.extrapolation import Extrapolated, extrapolated, resampled_over_trials
from geomfeat.geometry.manifolds.trials.noise_corrected import NoiseCorrectedCapacity
from geomfeat.geometry.manifolds.trials.repeated_trials import RepeatedTrials, repeated_trials
from geomfeat.geometry.manifolds.trials.signal_spread import reliability
from geomfeat.numerics import stream
from geomfeat.statistics.group_errors import CAUSED_BY_DATA
from geomfeat.types import Estimate

# On known manifolds up to this share of a correction was missing, or too much (see benchmarks/trial_noise.py).
LEFT_OPEN = 0.2
# Of less reliable stimuli the corrected numbers are off by more than their errors say (same benchmark).
LEAST_RELIABLE, LEAST_RELIABLE_CENTERS = 0.3, 0.5


def noise_corrected_capacity(
    points: Any,
    labels: Any = None,
    stimulus: Any = None,
    *,
    n_draws: int = 200,
    dichotomies: Any = "random",
    groups: Any = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> NoiseCorrectedCapacity:
    """Manifold capacity and GLUE geometry of classes of stimuli, without the noise of the trials.

    Every class is a manifold of stimuli (exemplars), and every stimulus was measured in several trials. Trial noise
    widens the manifolds: capacity comes out too low, radius and dimension too high. The means of the trials are first
    brought to the spread that the stimuli have without noise (the noise variance, known from the repeats, is taken off
    the eigenvalues of each class's Gram matrix), and what is left is extrapolated over the number of averaged trials,
    from all of them and random halves, to infinitely many. The signal may have any dimension; noise must be
    independent between trials (or between groups) and should be spread over many units.

    Args:
        points: (n, N) responses in trials with labels and stimulus, a (P, M, K, N) array of K repeats of M stimuli of P
            classes, a Representation, or a Recording whose conditions are the stimuli.
        labels: (n,) class of each trial; of a Recording {condition: class}.
        stimulus: (n,) which stimulus of its class was shown, numbers or names.
        n_draws, dichotomies, seed, device: as for `capacity`.
        groups: (n,) run or session of each trial, within which noise may be correlated; None: those of a
            Representation or Recording, if any. The means of a stimulus in each group are then the repeats.

    Returns `NoiseCorrectedCapacity`: numbers for the stimuli that were shown (other stimuli of the classes would give
    others), with errors over draws and trials, and a fifth of the correction in quadrature (its own or that of the
    capacity, the larger share: about what was missed on known manifolds). They are NaN and not ok where less than .3 of
    the variance between the stimuli of a class, or less than half of the power of the class means, is signal, or if the
    classes are at the floor. Least certain: manifolds of two or three dimensions at a low SNR, whose dimension comes
    out 8 to 17 % too high and whose radius up to 10 % too low.

    Raises BadInput for a stimulus with fewer than four trials (or groups). Where no stimulus is repeated, noise cannot
    be separated from signal: the spread of the trials is the manifold, and `noise_control` says what noise alone gives.

    Source: means of subsets of the trials as in Strong et al. 1998 (Phys. Rev. Lett. 80, 197); capacity as in Chou et
    al. 2025 (arXiv 2503.18114).

    >>> simplices = 3 * torch.eye(12, 30, dtype=torch.float64).reshape(4, 3, 1, 30)      # of 3 stimuli: 2/3
    >>> noise = torch.randn(4, 3, 20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    >>> found = noise_corrected_capacity(simplices + noise)
    >>> abs(found.capacity - 2 / 3) < 2 * found.capacity_se, found.repeats
    (True, (20, 20))
    """
    trials = repeated_trials(points, labels, stimulus, groups=groups, device=device)
    if int(torch.bincount(trials.owner).max()) < 2:
        raise BadInput("every class has one stimulus, a point without noise: of single points the capacity is known")
    draws = random_draws(n_draws, trials.x.shape[1], len(trials.classes), dichotomies, seed)
    fewest, most = int(trials.repeats.min()), int(trials.repeats.max())
    found = extrapolated(trials, draws, seed)
    kind = dichotomies if isinstance(dichotomies, str) else "given"
    measured, shuffled, noise = (
        replace(one, dichotomies=kind, seed=seed) for one in (found.measured, *_controls(trials, draws, seed))
    )
    reliable, centers = reliability(trials)
    why = _why_not(measured, reliable, centers)
    again: Resampled | str = "not recovered" if why else _over_trials(trials, draws, seed)
    notes = []
    if why:
        notes.append(why)
    elif isinstance(again, str):
        notes.append(f"no error over trials: {again}")
    over = again if isinstance(again, Resampled) else None
    return NoiseCorrectedCapacity(
        {name: _estimate(found, name, over, why) for name in found.values}, measured, shuffled, noise,
        reliable, (fewest, most), over, in_words([over.said] if over else []), tuple(notes),
    )  # fmt: skip


def _why_not(measured: Capacity, reliable: float, centers: float) -> str:
    """Why the numbers cannot be recovered; empty if they can."""
    if measured.at_floor:
        return f"not recovered: the measured classes are {AT_FLOOR}, where a capacity says nothing of separability"
    for share, least, what in (
        (reliable, LEAST_RELIABLE, "variance between the stimuli of a class"),
        (centers, LEAST_RELIABLE_CENTERS, "power of the class means"),
    ):
        if not share >= least:
            return f"not recovered: {share:.0%} of the {what} is signal, {least:.0%} are needed: average more trials"
    return ""


def _over_trials(trials: RepeatedTrials, draws: Draws, seed: int) -> Resampled | str:
    try:
        return resampled_over_trials(trials, draws, seed)
    except CAUSED_BY_DATA as error:
        return str(error)


def _estimate(found: Extrapolated, name: str, over: Resampled | None, why: str) -> Estimate:
    value = found.values[name]
    if why or not math.isfinite(value):
        return Estimate.failed(why or "the extrapolation left the range of this number: average more trials")
    variance = over.variance(name) if over else 0.0
    # Noise can leave a radius as it is while it changes what the radius is of: hence the capacity's correction as well.
    corrections = [1 - getattr(found.measured, one) / found.values[one] for one in {name, "capacity"}]
    left_open = LEFT_OPEN * value * max(map(abs, corrections))
    stderr = math.hypot(found.over_draws[name], math.sqrt(variance), left_open)
    if not math.isfinite(stderr):
        return Estimate(value, None, note="the error is not defined without some of the trials")
    return Estimate(value, stderr, note="" if over else "error over draws, not over trials")


def _controls(trials: RepeatedTrials, draws: Draws, seed: int) -> tuple[Capacity, Capacity]:
    """Of the means: the stimuli dealt to the classes at random, and noise of the means alone, of stimuli all alike."""
    means, counts = (part[0] for part in trials.means(torch.zeros_like(trials.stimulus), 1))
    order = torch.randperm(len(means), generator=stream(seed, "capacity", "shuffle")).to(means.device)
    # The mean of k trials minus that of the next k is twice their noise in power, whatever the signal.
    block = trials.blocks(2, seed, 0)
    halves, held = trials.means(block, 2)
    noise = (halves[0] - halves[1]) * ((1 / counts) / (1 / held).sum(0)).sqrt()[:, None]
    found = [
        capacity_under(trials.manifolds(points), draws, len(draws.t))[1]
        for points in (means[order], means.mean(0) + noise)
    ]
    return found[0], found[1]
