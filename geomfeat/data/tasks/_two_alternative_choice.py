"""Two-alternative choice: which of two noisy inputs is larger on average."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from geomfeat.data.tasks.timing import FIXATION, Delay, balanced, noise, timing
from geomfeat.data.tasks.trials import TaskTrials
from geomfeat.errors import BadInput

NAME = "two-alternative-choice"
SIDES = ("left", "right")


def two_alternative_choice(
    n: int = 200,
    *,
    coherences: Sequence[float] = (0.2, 0.4, 0.8),
    noise_size: float = 0.5,
    fixation: int = 2,
    stimulus: int = 8,
    delay: Delay = 0,
    response: int = 2,
    seed: int = 0,
) -> TaskTrials:
    """Trials in which one of two inputs is larger by the coherence; the output is -1 for left and 1 for right.

    Args:
        n: trials, the conditions as often as each other. coherences: differences of the two means, each > 0; a
            condition is a side with a coherence.
        noise_size: standard deviation of both inputs at every step of the stimulus.
        delay: steps between stimulus and response, or (least, most). fixation, stimulus, response: steps. The first
            input is 1 until the response, which is what is scored.

    Inputs: fixation, left, right; both sides lie about 1/2. Task of Britten et al. 1992, as recurrent networks are
    given it (Wang 2002; Yang & Wang 2020).

    Raises BadInput for numbers out of range.

    >>> trials = two_alternative_choice(12)
    >>> trials.inputs.shape, trials.targets.shape, trials.labels.bincount().tolist()
    (torch.Size([12, 12, 3]), torch.Size([12, 12, 1]), [2, 2, 2, 2, 2, 2])
    """
    if not coherences or min(coherences) <= 0:
        raise BadInput(f"coherences={list(coherences)} must be positive numbers: at 0 there is no right answer")
    order = [(FIXATION, fixation), ("stimulus", stimulus), ("delay", delay), ("response", response)]
    at = timing(n, order, seed, NAME)
    labels = balanced(n, 2 * len(coherences), seed, NAME)
    choices = labels // len(coherences)
    half = torch.tensor(list(coherences), dtype=torch.get_default_dtype())[labels % len(coherences)] / 2
    sign = 2.0 * choices - 1
    means = torch.stack([0.5 - sign * half, 0.5 + sign * half], 1)[:, None].expand(n, at.steps, 2)
    shown = (means + noise(means, noise_size, seed, NAME)) * at.during("stimulus")[..., None]
    mask = at.during("response")
    inputs = torch.cat([(~mask)[..., None].to(shown.dtype), shown], 2)
    targets = torch.where(mask, sign[:, None], 0.0).to(shown.dtype)[..., None]
    return TaskTrials(
        inputs, targets, mask, labels, choices, NAME, (FIXATION, *SIDES),
        tuple(f"{side}, coherence {c:g}" for side in SIDES for c in coherences), SIDES, at.shared,
    )  # fmt: skip
