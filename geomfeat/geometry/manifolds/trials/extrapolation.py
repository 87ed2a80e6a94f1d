"""Numbers of stimuli without trial noise, extrapolated over the number of averaged trials.

A smooth function of the mean of k independent trials has an expectation that is a power series in 1/k: every cumulant
of order m of that mean falls as k^(1 - m) (the bias that the jackknife removes: Quenouille 1956; Gray & Schucany 1972;
over the number of trials as here: Strong et al. 1998). The first order is removed by the line through means of all
trials and of random halves of them to 1/k = 0; the means are first brought to the spread of the signal
(`signal_spread`), after which little of any order is left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds._capacity import capacity_under
from geomfeat.geometry.manifolds.per_pair import ALIGNMENTS
from geomfeat.geometry.manifolds.random_directions import Draws
from geomfeat.geometry.manifolds.resampling.data_errors import PARTS, Resampled, numbers
from geomfeat.geometry.manifolds.resampling.solved_draws import Solved, placed, solved
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.geometry.manifolds.trials.repeated_trials import RepeatedTrials
from geomfeat.geometry.manifolds.trials.signal_spread import signal_power, with_signal_spread
from geomfeat.numerics import WORKING
from geomfeat.statistics.group_errors import FEWEST, parts_of
from geomfeat.statistics.influence_functions import on_mean, stderr

CORRECTED = ("capacity", "capacity_faces", "dimension", "radius", "radius_mean", "utility", *ALIGNMENTS)
# The mean over draws is |p|^2 (or k): its inverse is what averages.
INVERSE = ("capacity", "capacity_faces")
# Into how many blocks the trials of every stimulus are split, and how often at random.
LEVELS = ((1, 1), (2, 2))


@dataclass(frozen=True, eq=False)
class Extrapolated:
    """The numbers at 1/k = 0, by name, with errors over the draws; measured: of the means of all trials."""

    values: dict[str, float]
    over_draws: dict[str, float]
    measured: Capacity


def extrapolated(trials: RepeatedTrials, draws: Draws, seed: int) -> Extrapolated:
    """The numbers without noise, with their errors over the draws."""
    made = [_without_noise(trials, level, seed) for level in LEVELS]
    capacities = [
        [capacity_under(trials.manifolds(x), draws, len(draws.t))[1] for x in points] for points, _ in made
    ]  # fmt: skip
    c = weights([noise for _, noise in made])
    values, over_draws = {}, {}
    for name in CORRECTED:
        values[name] = _plain(
            combined([[_plain(getattr(one, name), name) for one in row] for row in capacities], c), name
        )
        influence = [torch.stack([_influence(one, name) for one in row]).mean(0) for row in capacities]
        error = float(stderr(sum_of(c, influence).cpu(), draws.strata))
        over_draws[name] = error * values[name] ** 2 if name in INVERSE else error
    means = trials.means(torch.zeros_like(trials.stimulus), 1)[0][0]
    return Extrapolated(values, over_draws, capacity_under(trials.manifolds(means), draws, len(draws.t))[1])


def resampled_over_trials(trials: RepeatedTrials, draws: Draws, seed: int) -> Resampled:
    """The numbers without each part of the trials (or of their groups) in turn, from each half of the draws.

    A trial is left out of the blocks that hold it, which stay as they are otherwise. Raises BadInput for too few parts.
    """
    part, said = _parts(trials)
    sizes = torch.bincount(part)
    if len(sizes) < FEWEST:
        raise BadInput(f"{len(sizes)} groups are too few for an error over groups: {FEWEST} are needed")
    every = [torch.ones_like(part, dtype=torch.bool), *(part != j for j in range(len(sizes)))]
    found = torch.stack([_of_halves(trials, draws, seed, kept) for kept in every])
    values = {name: found[:, :, i] for i, name in enumerate(CORRECTED)}
    for name in INVERSE:
        values[name] = torch.where(values[name] > 0, 1 / values[name], torch.nan)
    source = "trials" if trials.group is None else "groups"
    return Resampled(source, said, sizes.cpu(), values)


def weights(levels: Sequence[float]) -> list[float]:
    """Weights of values at noise levels, to the value at level 0 of the polynomial through all of them.

    >>> weights([1.0, 2.0])
    [2.0, -1.0]
    """
    return [
        math.prod(other / (other - one) for j, other in enumerate(levels) if j != i) for i, one in enumerate(levels)
    ]


def combined(rows: Sequence[Sequence[float]], c: Sequence[float]) -> float:
    """Weighted sum of the mean of each row.

    >>> combined([[1.0], [2.0, 4.0]], [2.0, -1.0])
    -1.0
    """
    return sum(weight * sum(row) / len(row) for weight, row in zip(c, rows, strict=True))


def sum_of(c: Sequence[float], rows: Sequence[Tensor]) -> Tensor:
    """Weighted sum of tensors.

    >>> sum_of([2.0, -1.0], [torch.ones(2), torch.ones(2)])
    tensor([1., 1.])
    """
    return torch.stack([weight * row for weight, row in zip(c, rows, strict=True)]).sum(0)


def _plain(value: float, name: str) -> float:
    """From a number to what is extrapolated of it, and back; NaN where an inverse is not above 0."""
    if name not in INVERSE:
        return value
    return 1 / value if value > 0 else math.nan


def _influence(of: Capacity, name: str) -> Tensor:
    """Influence of each draw on the number, or on the inverse of it."""
    if name in INVERSE:
        lengths = of.norms2 if name == "capacity" else of.faces.to(WORKING)
        return on_mean(lengths / len(of.classes), of.certified)
    return of.influences[name]


def _without_noise(
    trials: RepeatedTrials, level: tuple[int, int], seed: int, kept: Bool[Tensor, "n"] | None = None
) -> tuple[Float[Tensor, "blocks E N"], float]:
    """Means of all blocks of a level with the spread of the signal, and their noise (1: that of all trials' means).

    `kept`: which trials there are; the blocks are those of all.
    """
    n_blocks, turns = level
    some = trials if kept is None else trials.take(kept)
    every, counts = some.means(torch.zeros_like(some.stimulus), 1)
    variance = some.noise()
    noise = variance / counts[0]
    power, _ = signal_power(every[0], noise, trials.owner)
    parts, levels = [], []
    for turn in range(turns):
        block = trials.blocks(n_blocks, seed, turn)
        means, held = some.means(block if kept is None else block[kept], n_blocks)
        if not bool((held > 0).all()):
            raise BadInput("without some of the groups, a stimulus has no trial left in a block: use more repeats")
        parts.append(with_signal_spread(means, variance / held, trials.owner, power))
        levels.append(float((variance / held).sum(1).mean() / noise.sum()))
    return torch.cat(parts), sum(levels) / turns


def _of_halves(trials: RepeatedTrials, draws: Draws, seed: int, kept: Bool[Tensor, "n"]) -> Float[Tensor, "2 q"]:
    """The extrapolated numbers (or their inverses) from each half of the draws."""
    n = len(draws.t)
    halves = (slice(0, n // 2), slice(n // 2, n))
    rows, levels = [], []
    for level in LEVELS:
        points, noise = _without_noise(trials, level, seed, kept)
        levels.append(noise)
        each = [_solved(trials, x, draws) for x in points]
        made = [[[_plain(n[name], name) for name in CORRECTED] for n in (numbers(s.take(h), False) for h in halves)]
                for s in each]  # fmt: skip
        rows.append(torch.tensor(made, dtype=WORKING).mean(0))
    return sum_of(weights(levels), rows)


def _solved(trials: RepeatedTrials, points: Tensor, draws: Draws) -> Solved:
    place = placed(trials.manifolds(points))
    here = place.draws(draws)
    return solved(place, here, place.project(here.t, here.y))


def _parts(trials: RepeatedTrials) -> tuple[Int[Tensor, "n"], str]:
    """Which part each trial is of, and what is left out in words: groups, or trials of each stimulus in turn."""
    if trials.group is not None:
        return parts_of(trials.group), f"{len(torch.unique(trials.group))} groups"
    order = trials.stimulus.argsort(stable=True)
    part = torch.empty_like(order)
    part[order] = torch.arange(len(order), device=order.device) % PARTS
    return part, f"{len(order)} trials"
