"""Options of an ordinary training: optimizer, schedule, clipping, averaging, batches, and what is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.regimes.training.options import require_fine

MakePlainOptimizer = Callable[[list[tuple[str, nn.Parameter]]], torch.optim.Optimizer]
PLAIN_OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("constant", "cosine", "linear")


@dataclass(frozen=True, eq=False)
class PlainOptions:
    """How `train_plainly` trains, and what it records.

    Attributes:
        optimizer: "adamw" (default), "adam" or "sgd": torch's own, on all parameters that require a gradient; or a
            function of these, [(name, parameter)], that returns a torch optimizer. Its rate and weight decay are then
            its own, `lr` has no meaning, and the schedule multiplies the rates of all its groups.
        lr: peak learning rate, > 0; default 1e-3. momentum: of SGD, in [0, 1); default 0.
        weight_decay: as torch's optimizer of that name applies it: AdamW shrinks each weight by lr * weight_decay a
            step, Adam and SGD add weight_decay * w to the gradient; default 0.
        schedule: after the warmup, "constant" (default), "cosine" or "linear" to 0 at `max_steps`, see `rate_factor`.
        warmup_steps: over which the rate rises in equal steps to `lr`; default 0.
        clip: largest norm of the gradient of a step; default None: any.
        ema: decay of an average of the weights, in (0, 1): a = ema * a + (1 - ema) * w after each step, from the
            weights of the first step on; default None: no average.
        batch_size: samples in one pass; default None: all. accumulation: passes of a step, whose gradients are added
            up, so that a step sees batch_size * accumulation samples; default 1.
        max_steps: steps of the optimizer, at least 0; default 1000.
        target_loss: share, in (0, 1), of the loss of outputs 0 at which training ends: for cross-entropy over C classes
            of log C. It is compared in evaluation mode, on all samples, after each epoch. Default None: `max_steps`.
        test: (inputs, targets) to report on; default None.
        snapshot_steps: steps at which to keep a copy; default none.

    Raises BadInput for a value out of range.

    >>> PlainOptions(batch_size=8, accumulation=4).samples_of_a_step(100)
    32
    """

    optimizer: str | MakePlainOptimizer = "adamw"
    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    clip: float | None = None
    ema: float | None = None
    batch_size: int | None = None
    accumulation: int = 1
    max_steps: int = 1000
    target_loss: float | None = None
    test: tuple[Any, Any] | None = None
    snapshot_steps: Iterable[int] = ()

    def __post_init__(self) -> None:
        clip, target = self.clip, self.target_loss
        require_fine(
            ("optimizer", self.optimizer, callable(self.optimizer) or self.optimizer in PLAIN_OPTIMIZERS,
             f"one of {', '.join(PLAIN_OPTIMIZERS)}, or a function of named parameters that returns a torch optimizer"),
            ("lr", self.lr, self.lr > 0 and math.isfinite(self.lr), "positive and finite"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            ("momentum", self.momentum, not self.momentum or self.optimizer == "sgd", "0: only sgd has a momentum"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0 and finite"),
            ("weight_decay", self.weight_decay, not (self.weight_decay and callable(self.optimizer)),
             "0 where optimizer is a function: set it in the optimizer that this returns"),
            ("schedule", self.schedule, self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            ("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "at least 0"),
            ("clip", clip, clip is None or 0 < clip < math.inf, "positive and finite, or None for no clipping"),
            ("ema", self.ema, self.ema is None or 0 < self.ema < 1, "between 0 and 1, or None for no average"),
            ("batch_size", self.batch_size, self.batch_size is None or self.batch_size >= 1,
             "at least 1, or None for all samples"),
            ("accumulation", self.accumulation, self.accumulation >= 1, "at least 1"),
            ("accumulation", self.accumulation, self.accumulation == 1 or self.batch_size is not None,
             "1 where a pass holds all samples: give batch_size too"),
            ("max_steps", self.max_steps, self.max_steps >= 0, "at least 0"),
            ("target_loss", target, target is None or 0 < target < 1,
             "between 0 and 1: the share of the loss of outputs 0 that may be left"),
        )  # fmt: skip
        steps = self.snapshot_steps
        given = tuple(steps) if isinstance(steps, Iterable) and not isinstance(steps, str) else (-1,)
        if any(step < 0 or step != int(step) for step in given):
            raise BadInput(f"snapshot_steps={steps!r} must be whole steps, each at least 0")
        object.__setattr__(self, "snapshot_steps", tuple(map(int, given)))

    def samples_of_a_step(self, n: int) -> int:
        """How many of n samples a step sees."""
        return n if self.batch_size is None else min(n, self.batch_size * self.accumulation)

    def rate_factor(self, step: int) -> float:
        """The rate of a step, numbered from 0, as a share of `lr`.

        (step + 1) / warmup_steps while below 1; then, at p = (step - warmup_steps) / (max_steps - warmup_steps),
        1 ("constant"), (1 + cos(pi p)) / 2 ("cosine") or 1 - p ("linear").

        >>> options = PlainOptions(schedule="linear", warmup_steps=2, max_steps=6)
        >>> [options.rate_factor(step) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        share = min(1.0, (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps))
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * share))
        return 1.0 - share if self.schedule == "linear" else 1.0
