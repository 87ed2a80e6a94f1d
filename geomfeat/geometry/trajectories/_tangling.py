"""Tangling of trajectories: similar states that move on in different directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.trajectories.along_time import along_time, derivative

# Of the mean squared distance of states from their mean: Russo et al. 2018.
SOFTENING = 0.1
BLOCK = 512  # states whose distances to all others are held at once


def tangling(x: Any, time: Any) -> Tensor:
    """Tangling Q (conditions, time) in s^-2 of mean trajectories x (conditions, time, units): Russo et al. 2018, eq. 1.

    Q(t) = max over t' of |x'_t - x'_t'|^2 / (|x_t - x_t'|^2 + eps), where t' runs over all times of all conditions, x'
    is the derivative (`derivative`), and eps a tenth of the mean squared distance of all states from their mean. A
    network that drives itself smoothly has a low one: the same state always moves on in the same direction. Noise in
    the mean trajectories raises derivatives more than distances, and so Q: smooth first (`smoothed`), and compare
    recordings at equal trials and smoothing. Raises BadInput for other shapes, or states that never change.

    >>> angle = torch.linspace(0, 2 * torch.pi, 200, dtype=torch.float64)
    >>> circle, eight = (torch.stack([angle.cos(), (k * angle).sin()], 1)[None] for k in (1, 2))
    >>> [round(float(tangling(x, angle).median()), 1) for x in (circle, eight)]
    [1.0, 20.3]
    """
    values, at = along_time(x, time)
    if values.ndim != 3:
        raise BadInput(f"x must be (conditions, time, units), got {tuple(values.shape)}")
    moved = derivative(values, at).flatten(0, 1)
    states = values.flatten(0, 1)
    states = states - states.mean(0)
    softening = SOFTENING * states.square().sum(1).mean()
    if not bool(softening > 0):
        raise BadInput("the trajectories never change: tangling is undefined")
    parts = [
        (torch.cdist(rate, moved).square() / (torch.cdist(state, states).square() + softening)).amax(1)
        for rate, state in zip(moved.split(BLOCK), states.split(BLOCK), strict=True)
    ]
    return torch.cat(parts).reshape(values.shape[:2])
