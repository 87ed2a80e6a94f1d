"""Context-dependent choice: of two noisy inputs the one that a context names decides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from geomfeat.data.tasks.timing import FIXATION, balanced, noise, timing
from geomfeat.data.tasks.trials import TaskTrials
from geomfeat.errors import BadInput

NAME = "context-dependent-choice"
CONTEXTS, SIDES = ("motion", "colour"), ("left", "right")


def context_dependent_choice(
    n: int = 200,
    *,
    coherences: Sequence[float] = (0.5,),
    noise_size: float = 0.5,
    fixation: int = 2,
    stimulus: int = 8,
    response: int = 2,
    seed: int = 0,
) -> TaskTrials:
    """Trials with evidence in two modalities and a context; the output is the sign of the evidence in that of context.

    Args:
        n: trials, the conditions as often as each other. coherences: means of the evidence, each > 0, of either sign; a
            condition is a context with the signed coherence of both modalities.
        noise_size: standard deviation of both modalities at every step of the stimulus.
        fixation, stimulus, response: steps. The first input is 1 until the response, which is what is scored.

    Inputs: fixation, motion, colour, and for each context 1 throughout. Task of Mante et al. 2013.

    Raises BadInput for numbers out of range.

    >>> trials = context_dependent_choice(16)
    >>> trials.inputs.shape, trials.labels.bincount().tolist()
    (torch.Size([16, 12, 5]), [2, 2, 2, 2, 2, 2, 2, 2])
    """
    if not coherences or min(coherences) <= 0:
        raise BadInput(f"coherences={list(coherences)} must be positive numbers: at 0 there is no right answer")
    at = timing(n, [(FIXATION, fixation), ("stimulus", stimulus), ("response", response)], seed, NAME)
    signed = [*(-c for c in reversed(coherences)), *coherences]
    kinds = list(itertools.product(range(len(CONTEXTS)), signed, signed))
    labels = balanced(n, len(kinds), seed, NAME)
    kind = torch.get_default_dtype()
    context = torch.tensor([k[0] for k in kinds])[labels]
    evidence = torch.tensor([k[1:] for k in kinds], dtype=kind)[labels]
    choices = (evidence.gather(1, context[:, None])[:, 0] > 0).long()
    means = evidence[:, None].expand(n, at.steps, 2)
    shown = (means + noise(means, noise_size, seed, NAME)) * at.during("stimulus")[..., None]
    mask = at.during("response")
    rules = F.one_hot(context, len(CONTEXTS)).to(kind)[:, None].expand(n, at.steps, 2)
    inputs = torch.cat([(~mask)[..., None].to(kind), shown, rules], 2)
    targets = torch.where(mask, 2.0 * choices[:, None] - 1, 0.0).to(kind)[..., None]
    return TaskTrials(
        inputs, targets, mask, labels, choices, NAME, (FIXATION, *CONTEXTS, *(f"context {c}" for c in CONTEXTS)),
        tuple(f"context {CONTEXTS[c]}, motion {a:+g}, colour {b:+g}" for c, a, b in kinds), SIDES, at.shared,
    )  # fmt: skip
