"""A monitor as a callback of Hugging Face's Trainer."""

from __future__ import annotations

from functools import cache
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.monitoring._monitor import Monitor


def trainer_class() -> type:
    """The class `TrainerCallback`, whose base is of a package that may be absent; BadInput then."""
    try:
        from transformers import TrainerCallback as Base
    except ImportError as cause:
        raise BadInput(
            f"TrainerCallback needs the package transformers ({cause}): install it, or use Monitor"
        ) from cause
    return _of_base(Base)


@cache
def _of_base(base: type) -> type:
    return type("TrainerCallback", (TrainerCalls, base), {"__doc__": TrainerCalls.__doc__})


class TrainerCalls:
    """`Trainer(callbacks=[TrainerCallback(probes, folder="runs/mine")])` monitors the training.

    Args:
        probes, targets: as of `Monitor`; a mapping of tensors such as a batch of the collator, without labels.
        more: other arguments of `Monitor`: folder, every, measures, options, ...

    The loss in a row is the last one that the Trainer has logged (a mean over `logging_steps`), from the first on. A
    step is one of the optimizer, however many batches were accumulated. With `resume_from_checkpoint` the same folder
    goes on. The monitor is `callback.monitor` after training began.
    """

    def __init__(self, probes: Any, targets: Any = None, **more: Any) -> None:
        self.monitor: Monitor | None = None
        self._given = (probes, targets, more)
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The weights are those that training begins, or goes on, from."""
        probes, targets, more = self._given
        self.monitor = Monitor(given["model"], probes, targets, **{"optimizer": given.get("optimizer"), **more})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **given: Any) -> None:
        """The mean loss since the last log."""
        if logs and "loss" in logs:
            self._loss = float(logs["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """After a step of the optimizer."""
        if self.monitor is not None:
            self.monitor.step(state.global_step, self._loss, model=given["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The last step is measured too."""
        if self.monitor is not None:
            self.monitor.close()
