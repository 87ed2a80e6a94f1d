"""Options of a training at a chosen richness: how the descent goes, and what is recorded of it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from geomfeat.errors import BadInput
from geomfeat.regimes.training.optimizers import MakeOptimizer

OPTIMIZERS = ("sgd", "adam")
MODES = ("eval", "train")
LOG = "log"


@dataclass(frozen=True, eq=False)
class TrainOptions:
    """How `train_at_gamma` descends, and what it records.

    Attributes:
        batch_size: samples per step; default None: all of them.
        momentum: of SGD, Nesterov, in [0, 1), default .9; restarted where it would raise the loss. 0 follows gradient
            flow most closely.
        optimizer: "sgd" (default; the raw weights move with rate lr gamma^2), "adam" (with lr gamma), or a function of
            parameter groups that returns a torch optimizer, which is run on u = (w - w0) / gamma and so scales by
            itself: a step of its length l moves the raw weights by gamma l. Its learning rate is set in it, `lr` of the
            call is then left out.
        lr_multipliers: pattern of parameter or module names -> factor on the learning rate, 0 to freeze; see
            `rate_factors`. Default None: 1 for all.
        weight_decay: adds (weight_decay / 2) |w|^2 to the relative loss, of the raw weights and not of w - w0; default
            0. So gradient descent shrinks them by lr gamma^2 weight_decay a step (Adam: as torch's Adam, before its
            normalisation), and the minimum does not depend on gamma through the learning rate.
        centered: default True; False trains f = net(w) / gamma. The loss then starts at that of net(w0), far above 1 at
            small gamma, but is still in units of its value at f = 0, and learning also has to undo net(w0).
        mode: "eval" (default; BatchNorm keeps the running statistics that the model has, so f is a function of each
            sample) or "train" (batch statistics; the returned network's running ones are re-estimated on the inputs).
            No dropout.
        back_off: undo a step that raises the loss, and halve the step size; default True. False continues, as
            catapults need.
        dtype: of the computation; default None: the model's, or float64 below gamma = 1e-3.
        test: (inputs, targets) to report on; default None.
        snapshot_steps: steps at which to save a copy, or "log": 0, then four a decade, and the last. Default none.

    Raises BadInput for a value out of range.

    >>> TrainOptions(snapshot_steps=range(3)).snapshot_steps
    (0, 1, 2)
    """

    batch_size: int | None = None
    momentum: float = 0.9
    optimizer: str | MakeOptimizer = "sgd"
    lr_multipliers: Mapping[str, float] | None = None
    weight_decay: float = 0.0
    centered: bool = True
    mode: str = "eval"
    back_off: bool = True
    dtype: torch.dtype | None = None
    test: tuple[Any, Any] | None = None
    snapshot_steps: Iterable[int] | str = ()

    def __post_init__(self) -> None:
        decay = self.weight_decay
        require_fine(
            ("batch_size", self.batch_size, self.batch_size is None or self.batch_size >= 1,
             "at least 1, or None for the full batch"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            ("optimizer", self.optimizer, callable(self.optimizer) or self.optimizer in OPTIMIZERS,
             f"one of {', '.join(OPTIMIZERS)}, or a function of parameter groups that returns a torch optimizer"),
            ("weight_decay", decay, decay >= 0 and math.isfinite(decay), "at least 0 and finite"),
            ("mode", self.mode, self.mode in MODES, f"one of {', '.join(MODES)}"),
            ("dtype", self.dtype, self.dtype is None or self.dtype.is_floating_point,
             "a floating-point dtype, or None for the model's"),
        )  # fmt: skip
        steps = self.snapshot_steps
        if steps == LOG:
            return
        # A tuple: a generator would be spent by the first use.
        given = tuple(steps) if isinstance(steps, Iterable) and not isinstance(steps, str) else (-1,)
        if any(step < 0 or step != int(step) for step in given):
            raise BadInput(f"snapshot_steps={steps!r} must be whole steps, each at least 0, or 'log'")
        object.__setattr__(self, "snapshot_steps", tuple(map(int, given)))


def require_fine(*checks: tuple[str, Any, bool, str]) -> None:
    """BadInput for the first (name, value, whether it is fine, what it must be) that is not."""
    for name, value, fine, what in checks:
        if not fine:
            raise BadInput(f"{name}={value!r} must be {what}")
