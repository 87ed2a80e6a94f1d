"""Where the numbers of a monitor go besides its own folder: TensorBoard, Weights & Biases, MLflow, or your own.

A sink gets plain numbers by name, "richness" for the network and "richness/LAYER" for a layer. The packages are
imported when a sink is made; none of these calls a server unless it was set up to.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from geomfeat.errors import BadInput


@runtime_checkable
class Sink(Protocol):
    """What a monitor writes to."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Finite numbers of one step, by name."""
        ...

    def event(self, step: int, text: str) -> None:
        """A warning."""
        ...

    def close(self) -> None:
        """Called once, at the end."""
        ...


class TensorBoardSink:
    """Scalars, and events as texts, in a folder for TensorBoard.

    Raises BadInput where the package `tensorboard` is absent.
    """

    def __init__(self, folder: str | Path) -> None:
        _required("tensorboard", "tensorboard")
        self._writer = _required("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """See `Sink`."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def event(self, step: int, text: str) -> None:
        """See `Sink`."""
        self._writer.add_text("event", text, step)

    def close(self) -> None:
        """See `Sink`."""
        self._writer.close()


class WandbSink:
    """Numbers in a run of Weights & Biases that was begun before (`wandb.init(mode="offline")` needs no server).

    The step is the column "step": the run's own counter is left to the training. Raises BadInput where the package
    `wandb` is absent and no run is given.
    """

    def __init__(self, run: Any = None) -> None:
        self._run = run if run is not None else _required("wandb", "wandb").run
        if self._run is None:
            raise BadInput("WandbSink: no run has begun: call wandb.init() first, or give the run")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._run.log({"geomfeat/step": step, **{f"geomfeat/{name}": value for name, value in numbers.items()}})

    def event(self, step: int, text: str) -> None:
        """See `Sink`."""
        self._run.summary[f"geomfeat/event at step {step}"] = text

    def close(self) -> None:
        """The run is the training's: it stays open."""


class MLflowSink:
    """Metrics in the active run of MLflow, or in a client's run.

    Args:
        client: with `log_metric` and `set_tag`, such as the module `mlflow`, the default.

    Raises BadInput where the package `mlflow` is absent and no client is given.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client if client is not None else _required("mlflow", "mlflow")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """See `Sink`."""
        for name, value in numbers.items():
            self._client.log_metric(_allowed(name), value, step=step)

    def event(self, step: int, text: str) -> None:
        """See `Sink`."""
        self._client.set_tag(_allowed(f"event at step {step}"), text)

    def close(self) -> None:
        """The run is the training's: it stays open."""


def _allowed(name: str) -> str:
    """A name with the characters that MLflow takes.

    >>> _allowed("richness/rnn[0]")
    'richness/rnn.0.'
    """
    return re.sub(r"[^\w\-. /]", ".", name)


def _required(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise BadInput(f"the package {package!r} is absent ({cause}): install it, or leave this sink out") from cause
