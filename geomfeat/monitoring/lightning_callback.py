"""A monitor as a callback of Lightning's Trainer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.monitoring._monitor import Monitor

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def lightning_class() -> type:
    """The class `LightningCallback`, whose base is of a package that may be absent; BadInput then."""
    for name in PACKAGES:
        try:
            return _of_base(importlib.import_module(name).Callback)
        except ImportError:
            continue
    raise BadInput("LightningCallback needs the package lightning (or pytorch-lightning): install it, or use Monitor")


@cache
def _of_base(base: type) -> type:
    return type("LightningCallback", (LightningCalls, base), {"__doc__": LightningCalls.__doc__})


class LightningCalls:
    """`Trainer(callbacks=[LightningCallback(probes, folder="runs/mine")])` monitors the training.

    Args:
        probes, targets: as of `Monitor`, for the forward pass of the LightningModule, or of what `network` picks.
        network: picks the network out of the LightningModule: `lambda module: module.net`. Default: itself.
        more: other arguments of `Monitor`: folder, every, measures, options, ...

    A step is one of the optimizer, however many batches were accumulated; its loss is that of the last batch. The
    monitor is `callback.monitor` after training began.
    """

    def __init__(
        self, probes: Any, targets: Any = None, *, network: Callable[[Any], nn.Module] | None = None, **more: Any
    ) -> None:
        super().__init__()
        self.monitor: Monitor | None = None
        self._given = (probes, targets, more)
        self._network = network or (lambda module: module)
        self._last = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The weights are those that training begins, or goes on, from."""
        probes, targets, more = self._given
        optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        self._last = trainer.global_step
        self.monitor = Monitor(self._network(pl_module), probes, targets, **{"optimizer": optimizer, **more})

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a batch, and where it was the last that was accumulated, a step of the optimizer."""
        if self.monitor is None or trainer.global_step == self._last:
            return
        self._last = trainer.global_step
        loss = _loss(outputs, trainer, pl_module)
        self.monitor.step(self._last, loss, model=self._network(pl_module))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last step is measured too."""
        if self.monitor is not None:
            self.monitor.close()


def _loss(outputs: Any, trainer: Any, pl_module: Any) -> Any:
    """What `training_step` returned: the loss, or a mapping with one, or nothing."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if not isinstance(loss, Tensor | float):
        return None
    # Lightning divides the loss that it steps by itself by the number of batches that are accumulated.
    return loss * trainer.accumulate_grad_batches if pl_module.automatic_optimization else loss
