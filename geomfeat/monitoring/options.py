"""Options of a monitor: what it measures, how much time it may take, and where its rows go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.monitoring.sinks import Sink
from geomfeat.tangent.tangent_space import Params

KERNELS = ("auto", "demand", "change", "none")
LOSSES = (None, "mse", "cross-entropy")


@dataclass(frozen=True)
class MonitorOptions:
    """How a `Monitor` measures.

    Attributes:
        max_share: of the training time, that measuring may take, in (0, 1); `every` grows until it does not take more.
            The preparation and the first measurement, which are done once, are not counted. None: no limit.
        n_probes: how many of the probes to use (seeded choice), at least 4; default None: as many as give 320 outputs,
            between 16 and 64. R grows with their number: compare runs of one number.
        kernel: "demand" (kernel demand and change), "change" (the change alone), "none", or "auto": the demand where
            the tangent kernel of all outputs is formed in little time, else the change.
        projections: leading directions of the change in place of more than 16 outputs, see `linearised_task`.
        params: the parameters that are trained: name globs or a predicate. Default: those that require a gradient.
        loss: "mse" or "cross-entropy", of the targets; default: cross-entropy of classes, mse of values.
        held_out: (inputs, targets) that are not trained on: their loss is in every row, and shows a lag of
            generalisation behind training.
        sinks: where numbers go besides the folder, such as `TensorBoardSink(folder)`.
        report: called with one line of text after every measurement; `print` shows it. Default: the log, level INFO.

    Raises BadInput for numbers out of range and unknown names.

    >>> MonitorOptions(max_share=0.1).kernel
    'auto'
    """

    max_share: float | None = 0.05
    n_probes: int | None = None
    kernel: str = "auto"
    projections: int = 4
    params: Params | None = None
    loss: str | None = None
    held_out: tuple[Any, Any] | None = None
    sinks: tuple[Sink, ...] = ()
    report: Callable[[str], Any] | None = None

    def __post_init__(self) -> None:
        if self.max_share is not None and not 0 < self.max_share < 1:
            raise BadInput(
                f"max_share={self.max_share} must lie between 0 and 1: the share of the training time, or None"
            )
        if self.kernel not in KERNELS:
            raise BadInput(f"kernel={self.kernel!r}: one of {', '.join(KERNELS)}")
        if self.projections < 1:
            raise BadInput(f"projections={self.projections} must be at least 1")
        if self.loss not in LOSSES:
            raise BadInput(f"loss={self.loss!r}: one of 'mse', 'cross-entropy', or leave it out")
        if self.held_out is not None and (not isinstance(self.held_out, tuple) or len(self.held_out) != 2):
            raise BadInput("held_out must be a pair (inputs, targets) of samples that are not trained on")
