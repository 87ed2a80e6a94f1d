"""Delayed match to sample: whether a second stimulus is the first one, after a delay."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from geomfeat.data.tasks.timing import FIXATION, Delay, balanced, noise, timing
from geomfeat.data.tasks.trials import TaskTrials
from geomfeat.errors import BadInput

NAME = "delayed-match"
ANSWERS = ("non-match", "match")


def delayed_match(
    n: int = 200,
    *,
    items: int = 2,
    noise_size: float = 0.1,
    fixation: int = 1,
    sample: int = 3,
    delay: Delay = 3,
    test: int = 3,
    response: int = 2,
    seed: int = 0,
) -> TaskTrials:
    """Trials with a sample and, after a delay, a test stimulus; the output is 1 where both are one item, else -1.

    Args:
        n: trials, half of them matches for two items. items: how many stimuli there are, at least 2, each with an input
            of its own. A condition is a pair of sample and test; of matches there are as many as of non-matches.
        noise_size: standard deviation of the items' inputs at every step before the response.
        delay: steps between sample and test, or (least, most). fixation, sample, test, response: steps.

    Inputs: fixation, then the items. Delayed match to sample as in Miyashita 1988; Yang & Wang 2020.

    Raises BadInput for numbers out of range.

    >>> trials = delayed_match(8, delay=(1, 4))
    >>> trials.inputs.shape, trials.choices.double().mean().item()
    (torch.Size([8, 13, 3]), 0.5)
    """
    if items < 2:
        raise BadInput(f"items={items}: at least 2, or every test is a match")
    order = [(FIXATION, fixation), ("sample", sample), ("delay", delay), ("test", test), ("response", response)]
    at = timing(n, order, seed, NAME)
    # A match for every other trial: each item is as often in a match as in all its non-matches together.
    matches = [(a, a) for a in range(items) for _ in range(items - 1)]
    others = [(a, b) for a in range(items) for b in range(items) if a != b]
    pairs = [pair for both in zip(matches, others, strict=True) for pair in both]
    known = sorted(set(pairs))
    shown = torch.tensor(pairs)[balanced(n, len(pairs), seed, NAME)]
    choices = (shown[:, 0] == shown[:, 1]).long()
    labels = torch.tensor([known.index((a, b)) for a, b in shown.tolist()])
    kind = torch.get_default_dtype()
    first, second = (F.one_hot(shown[:, k], items).to(kind)[:, None] for k in (0, 1))
    stimuli = first * at.during("sample")[..., None] + second * at.during("test")[..., None]
    mask = at.during("response")
    stimuli = (stimuli + noise(stimuli, noise_size, seed, NAME)) * ~mask[..., None]
    inputs = torch.cat([(~mask)[..., None].to(kind), stimuli], 2)
    targets = torch.where(mask, 2.0 * choices[:, None] - 1, 0.0).to(kind)[..., None]
    return TaskTrials(
        inputs, targets, mask, labels, choices, NAME, (FIXATION, *(f"item {i}" for i in range(items))),
        tuple(f"item {a}, then {b}" for a, b in known), ANSWERS, at.shared,
    )  # fmt: skip
