"""Trials of a neurogym environment."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.data.tasks.trials import TaskTrials
from geomfeat.errors import BadInput
from geomfeat.numerics import whole_seed


def from_neurogym(env: Any, n: int = 200, *, seed: int = 0, **options: Any) -> TaskTrials:
    """Trials of a neurogym environment, by name or as an object.

    Args:
        env: "PerceptualDecisionMaking-v0", say, with `options` for `neurogym.make`; or an environment of trials: with
            seed(), new_trial(), and then `ob` (T, channels) and `gt` (T,), the right action at every step.
        n: trials. seed: of what the environment draws.

    Targets are one-hot rows of the actions. All steps of a trial are scored; shorter trials end with steps that are
    not, with inputs 0. The condition of a trial and its answer are both the right action at its end.

    Raises BadInput where neurogym is not installed, for an environment without trials, or whose right actions are no
    whole numbers of steps as many as its inputs have.
    """
    if isinstance(env, str):
        if importlib.util.find_spec("neurogym") is None:
            raise BadInput(f"env={env!r} is a name of neurogym, which is not installed: install it, or give its trials")
        import neurogym  # pyright: ignore[reportMissingImports]

        env, name = neurogym.make(env, **options), env
    else:
        name = type(getattr(env, "unwrapped", env)).__name__
        if options:
            raise BadInput(f"{', '.join(options)}: options are for an environment by name; this one is made already")
    if n < 1:
        raise BadInput(f"n={n} trials: at least 1")
    inner = getattr(env, "unwrapped", env)
    if not all(hasattr(inner, part) for part in ("seed", "new_trial")):
        raise BadInput(f"env={name} has no seed() and new_trial(): give an environment of trials")
    inner.seed(whole_seed(seed) % 2**32)
    drawn = [_trial(inner, name) for _ in range(n)]
    actions = max(int(gt.max()) for _, gt in drawn) + 1
    actions = max(actions, int(getattr(getattr(inner, "action_space", None), "n", 0)))
    return _padded(drawn, actions, name)


def _trial(env: Any, name: str) -> tuple[Tensor, Tensor]:
    env.new_trial()
    seen, right = np.asarray(env.ob), np.asarray(env.gt)
    if right.dtype.kind not in "iu" or seen.ndim != 2 or right.shape != seen.shape[:1] or not len(right):
        raise BadInput(
            f"env={name}: a trial has inputs of shape {seen.shape} and right actions {right.dtype} {right.shape}; "
            "they must be (T, channels) and whole numbers (T,)"
        )
    if right.min() < 0:
        raise BadInput(f"env={name}: a right action is {right.min()}, below 0")
    return torch.tensor(seen, dtype=torch.get_default_dtype()), torch.tensor(right).long()


def _padded(drawn: list[tuple[Tensor, Tensor]], actions: int, name: str) -> TaskTrials:
    steps = max(len(gt) for _, gt in drawn)
    n, channels = len(drawn), drawn[0][0].shape[1]
    inputs = drawn[0][0].new_zeros(n, steps, channels)
    targets, mask = inputs.new_zeros(n, steps, actions), torch.zeros(n, steps, dtype=torch.bool)
    for i, (seen, right) in enumerate(drawn):
        inputs[i, : len(right)], mask[i, : len(right)] = seen, True
        targets[i, torch.arange(len(right)), right] = 1.0
    choices = torch.stack([right[-1] for _, right in drawn])
    names = tuple(f"action {a}" for a in range(actions))
    return TaskTrials(inputs, targets, mask, choices, choices.clone(), name,
                      tuple(f"input {c}" for c in range(channels)), names, names)  # fmt: skip
