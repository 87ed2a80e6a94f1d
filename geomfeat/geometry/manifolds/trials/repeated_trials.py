"""Stimuli of P classes, each measured in several trials: means over some of the trials, and their noise."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.point_clouds import Manifolds, as_manifolds
from geomfeat.labels import levels_of
from geomfeat.numerics import WORKING, as_tensor, stream
from geomfeat.recordings import Recording
from geomfeat.types import Representation

# Halves of four trials are means of two, which a jackknife can still take a trial from.
FEWEST_REPEATS = 4


@dataclass(frozen=True, eq=False)
class RepeatedTrials:
    """Trials of E stimuli.

    Attributes:
        x: (n, N) responses in float64. stimulus: (n,) which of the stimuli 0..E-1 each trial is of.
        owner: (E,) class 0..P-1 of every stimulus, in sorted order. classes: names of the classes.
        group: (n,) number of the run or session of each trial, one trial of a stimulus in each; None: no groups.
        precision: that which the responses came in.
    """

    x: Float[Tensor, "n N"]
    stimulus: Int[Tensor, "n"]
    owner: Int[Tensor, "E"]
    classes: tuple[Any, ...]
    group: Int[Tensor, "n"] | None
    precision: torch.dtype

    @property
    def n_stimuli(self) -> int:
        """E."""
        return len(self.owner)

    @property
    def repeats(self) -> Int[Tensor, "E"]:
        """Trials of every stimulus."""
        return torch.bincount(self.stimulus, minlength=self.n_stimuli)

    def take(self, kept: Bool[Tensor, "n"]) -> "RepeatedTrials":
        """Some of the trials."""
        group = None if self.group is None else self.group[kept]
        return replace(self, x=self.x[kept], stimulus=self.stimulus[kept], group=group)

    def blocks(self, n_blocks: int, seed: int, turn: int) -> Int[Tensor, "n"]:
        """Each trial's block of `n_blocks`, as equal as they can be, at random; groups stay together."""
        noise = stream(seed, "capacity", "repeats", n_blocks, turn)
        if self.group is None:
            key = torch.rand(len(self.x), generator=noise).to(self.x.device)
        else:
            key = torch.rand(int(self.group.max()) + 1, generator=noise).to(self.x.device)[self.group]
        order = key.argsort()
        order = order[self.stimulus[order].argsort(stable=True)]
        counts = self.repeats
        starts = counts.cumsum(0) - counts
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - starts[self.stimulus[order]]
        return rank * n_blocks // counts[self.stimulus]

    def means(
        self, block: Int[Tensor, "n"], n_blocks: int
    ) -> tuple[Float[Tensor, "blocks E N"], Int[Tensor, "blocks E"]]:
        """Mean response to every stimulus in every block, and the number of its trials (0: none, mean 0)."""
        cell = block * self.n_stimuli + self.stimulus
        counts = torch.bincount(cell, minlength=n_blocks * self.n_stimuli)
        sums = self.x.new_zeros(len(counts), self.x.shape[1]).index_add_(0, cell, self.x)
        means = sums / counts.clamp_min(1)[:, None]
        return means.reshape(n_blocks, self.n_stimuli, -1), counts.reshape(n_blocks, self.n_stimuli)

    def noise(self) -> Float[Tensor, "E"]:
        """Variance over the trials of a stimulus, summed over units, for every stimulus.

        In groups, without what the stimuli of a class have in common in a group: it moves the class, not its stimuli.
        """
        every = torch.zeros_like(self.stimulus)
        residual = self.x - self.means(every, 1)[0][0][self.stimulus]
        free = (self.repeats - 1).to(WORKING)
        if self.group is not None:
            owner = self.owner[self.stimulus]
            cell = self.group * len(self.classes) + owner
            counts = torch.bincount(cell)
            shared = residual.new_zeros(len(counts), residual.shape[1]).index_add_(0, cell, residual)
            residual = residual - shared[cell] / counts[cell][:, None]
            stimuli = torch.bincount(self.owner).to(WORKING)[self.owner]
            # The only stimulus of a class has no deviations from it, whose noise this is.
            free = torch.where(stimuli > 1, free * (1 - 1 / stimuli), 1.0)
        power = residual.square().sum(1)
        return power.new_zeros(self.n_stimuli).index_add_(0, self.stimulus, power) / free

    def center_noise(self, noise: Float[Tensor, "E"]) -> Float[Tensor, "P"]:
        """Expected squared length of the noise of each class's mean over stimuli, from the `noise` of their trials.

        In groups, from what the stimuli of a class have in common in each group.
        """
        counts = torch.bincount(self.owner).to(WORKING)
        if self.group is None:
            each = noise / self.repeats / counts[self.owner].square()
            return noise.new_zeros(len(counts)).index_add_(0, self.owner, each)
        every = torch.zeros_like(self.stimulus)
        residual = self.x - self.means(every, 1)[0][0][self.stimulus]
        n_groups = int(self.group.max()) + 1
        cell = self.owner[self.stimulus] * n_groups + self.group
        held = torch.bincount(cell, minlength=len(counts) * n_groups)
        shared = residual.new_zeros(len(held), residual.shape[1]).index_add_(0, cell, residual)
        power = (shared / held.clamp_min(1)[:, None]).square().sum(1).reshape(len(counts), n_groups).sum(1)
        groups = (held > 0).reshape(len(counts), n_groups).sum(1)
        return power / (groups * (groups - 1))

    def manifolds(self, points: Float[Tensor, "E N"]) -> Manifolds:
        """Points, one for each stimulus, as those of the classes."""
        sizes = tuple(torch.bincount(self.owner, minlength=len(self.classes)).tolist())
        rounding = torch.linalg.vector_norm(points, dim=1) * torch.finfo(self.precision).eps
        return Manifolds(points, self.owner, sizes, self.classes, rounding, self.precision)


def repeated_trials(
    points: Any, labels: Any, stimulus: Any, *, groups: Any = None, device: str | torch.device | None = None
) -> RepeatedTrials:
    """Trials with their stimuli and classes, as `noise_corrected_capacity` takes them; BadInput where they do not fit.

    >>> repeated_trials(torch.rand(2, 3, 5, 7), None, None).repeats.tolist()
    [5, 5, 5, 5, 5, 5]
    """
    if isinstance(points, Recording):
        points, labels, stimulus = _of_recording(points, labels, stimulus)
    elif stimulus is None:
        points, stimulus = _of_array(points, labels)
    found = as_manifolds(points, labels, groups=groups, device=device)
    named = levels_of(stimulus, "stimulus", len(found.x))[1].to(found.x.device)
    pair = found.owner * (int(named.max()) + 1) + named
    pairs, of = torch.unique(pair, return_inverse=True)
    owner = pairs // (int(named.max()) + 1)
    made = RepeatedTrials(found.x, of, owner, found.classes, found.group, found.precision)
    made = made if made.group is None else _by_group(made)
    few = made.repeats < FEWEST_REPEATS
    if bool(few.any()):
        what = "trials" if made.group is None else "groups"
        raise BadInput(
            f"{int(few.sum())} of {len(owner)} stimuli have fewer than {FEWEST_REPEATS} {what} (the fewest: "
            f"{int(made.repeats.min())}): repeats of a stimulus separate noise from signal. Leave these stimuli out. "
            "Where every trial shows another stimulus, or a class has one stimulus, the spread of its trials is the "
            "manifold, noise included: use capacity(), beside noise_control()"
        )
    return made


def _of_recording(recording: Recording, labels: Any, stimulus: Any) -> tuple[Any, Any, Any]:
    if stimulus is not None:
        raise BadInput("stimulus= is the condition of a recording: leave it out, and give labels={condition: class}")
    if not isinstance(labels, Mapping):
        raise BadInput("of a recording, labels= is a mapping {condition: class}, with each stimulus as a condition")
    known = {str(name): kind for name, kind in labels.items()}
    lost = [name for name in recording.conditions if str(name) not in known]
    if lost:
        raise BadInput(f"labels names no class of {len(lost)} conditions, such as {lost[0]!r}: give one for each")
    return recording.to_representation(), [known[str(name)] for name in recording.condition], recording.condition


def _of_array(points: Any, labels: Any) -> tuple[Any, Any]:
    x = as_tensor(points.x if isinstance(points, Representation) else points, "points")
    if labels is not None or x.ndim != 4 or 0 in x.shape:
        raise BadInput(
            "stimulus is None: say which stimulus each trial is of, or give points of shape (classes, stimuli, "
            f"repeats, units) without labels; got shape {tuple(x.shape)}"
        )
    p, m, k, _ = x.shape
    return x.flatten(1, 2), np.tile(np.repeat(np.arange(m), k), p)


def _by_group(trials: RepeatedTrials) -> RepeatedTrials:
    """The mean of a stimulus in each group in place of its trials there, which are not independent."""
    assert trials.group is not None
    pair = trials.stimulus * (int(trials.group.max()) + 1) + trials.group
    pairs, cell = torch.unique(pair, return_inverse=True)
    sums = trials.x.new_zeros(len(pairs), trials.x.shape[1]).index_add_(0, cell, trials.x)
    of, group = pairs // (int(trials.group.max()) + 1), pairs % (int(trials.group.max()) + 1)
    return replace(trials, x=sums / torch.bincount(cell)[:, None], stimulus=of, group=group)
