"""Working memory: a direction is shown, held over a delay, and reported."""

from __future__ import annotations

import math

import torch

from geomfeat.data.tasks.timing import FIXATION, Delay, balanced, noise, timing
from geomfeat.data.tasks.trials import TaskTrials
from geomfeat.errors import BadInput

NAME = "working-memory"


def working_memory(
    n: int = 200,
    *,
    directions: int = 4,
    noise_size: float = 0.1,
    fixation: int = 1,
    stimulus: int = 3,
    delay: Delay = 5,
    response: int = 2,
    seed: int = 0,
) -> TaskTrials:
    """Trials in which one of some directions is shown; after a delay the outputs are its cosine and sine.

    Args:
        n: trials, the directions as often as each other. directions: at least 2, evenly spaced on the circle.
        noise_size: standard deviation of the direction's inputs at every step before the response.
        delay: steps between stimulus and response, or (least, most). fixation, stimulus, response: steps.

    Inputs: fixation, cosine, sine. The oculomotor delayed response of Funahashi et al. 1989; condition and answer are
    both the direction.

    Raises BadInput for numbers out of range.

    >>> trials = working_memory(8)
    >>> trials.inputs.shape, [round(v) for v in trials.targets[trials.labels == 1][0, -1].tolist()]
    (torch.Size([8, 11, 3]), [0, 1])
    """
    if directions < 2:
        raise BadInput(f"directions={directions}: at least 2, or there is nothing to remember")
    order = [(FIXATION, fixation), ("stimulus", stimulus), ("delay", delay), ("response", response)]
    at = timing(n, order, seed, NAME)
    labels = balanced(n, directions, seed, NAME)
    kind = torch.get_default_dtype()
    angle = 2 * math.pi * labels.to(kind) / directions
    there = torch.stack([angle.cos(), angle.sin()], 1)[:, None]
    mask = at.during("response")
    shown = there * at.during("stimulus")[..., None]
    shown = (shown + noise(shown, noise_size, seed, NAME)) * ~mask[..., None]
    inputs = torch.cat([(~mask)[..., None].to(kind), shown], 2)
    names = tuple(f"{360 * k / directions:g} degrees" for k in range(directions))
    return TaskTrials(inputs, torch.where(mask[..., None], there, 0.0), mask, labels, labels.clone(), NAME,
                      (FIXATION, "cosine", "sine"), names, names, at.shared)  # fmt: skip
