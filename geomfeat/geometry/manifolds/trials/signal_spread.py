"""Means over few trials, brought to the spread that the stimuli of a class have without noise.

The mean of k trials lies off by noise of power v / k. About the centre of its class that makes the Gram matrix of the M
deviations larger by about v / k in every direction (the more units carry the noise, the more exactly), so that noise is
taken off each of its eigenvalues, none of them below 0. What was cut at 0 is taken off all others in proportion: the
total power is the unbiased one, that of all trials' means minus their noise.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.manifolds.trials.repeated_trials import RepeatedTrials


def signal_power(
    means: Float[Tensor, "E N"], noise: Float[Tensor, "E"], owner: Int[Tensor, "E"]
) -> tuple[float, float]:
    """Power of the deviations from the centres of the classes: of the signal, unbiased, and of what was measured.

    `noise`: expected squared length of the noise of every mean. The first can be below 0.

    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    >>> signal_power(x, torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0, 0]))
    (1.5, 2.0)
    """
    counts = torch.bincount(owner).to(means.dtype)
    centers = means.new_zeros(len(counts), means.shape[1]).index_add_(0, owner, means) / counts[:, None]
    measured = float((means - centers[owner]).square().sum())
    return measured - float((noise * (1 - 1 / counts[owner])).sum()), measured


def reliability(trials: RepeatedTrials) -> tuple[float, float]:
    """Share of signal in the power of the stimuli about their class centres, and in that of the centres; 0 to 1.

    NaN where nothing was measured.
    """
    means, counts = (part[0] for part in trials.means(torch.zeros_like(trials.stimulus), 1))
    noise = trials.noise()
    signal, measured = signal_power(means, noise / counts, trials.owner)
    stimuli = torch.bincount(trials.owner).to(means.dtype)
    centers = means.new_zeros(len(stimuli), means.shape[1]).index_add_(0, trials.owner, means) / stimuli[:, None]
    power = float(centers.square().sum())
    return _share(signal, measured), _share(power - float(trials.center_noise(noise).sum()), power)


def _share(signal: float, measured: float) -> float:
    return max(signal, 0.0) / measured if measured > 0 else math.nan


def with_signal_spread(
    means: Float[Tensor, "blocks E N"],
    noise: Float[Tensor, "blocks E"],
    owner: Int[Tensor, "E"],
    power: float,
) -> Float[Tensor, "blocks E N"]:
    """The means with their deviations from the class centres shrunk to the eigenvalues and `power` of the signal.

    >>> x = torch.tensor([[[3.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)
    >>> with_signal_spread(x, torch.full((1, 2), 1.5, dtype=torch.float64), torch.tensor([0, 0]), 0.5)[0, :, 0].tolist()
    [2.5, 1.5]
    """
    out, total = torch.empty_like(means), means.new_zeros(len(means))
    centers = torch.empty_like(means)
    for one in torch.unique(owner):
        rows = torch.nonzero(owner == one)[:, 0]
        own = means[:, rows]
        center = own.mean(1, keepdim=True)
        left, length, right = torch.linalg.svd(own - center, full_matrices=False)
        # M deviations from their own mean have M - 1 directions, or as many as there are units.
        directions = min(len(rows) - 1, means.shape[2])
        each = noise[:, rows].mean(1) * (len(rows) - 1) / max(directions, 1)
        signal = (length.square() - each[:, None]).clamp_min(0.0)
        signal[:, directions:] = 0.0
        out[:, rows] = left @ torch.diag_embed(signal.sqrt()) @ right
        centers[:, rows] = center
        total += signal.sum(1)
    # Where noise takes all, no signal is left to bring to the power of the whole.
    scale = torch.where(total > 0, max(power, 0.0) / torch.where(total > 0, total, 1.0), 0.0).sqrt()
    return centers + out * scale[:, None, None]
