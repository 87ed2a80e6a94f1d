"""Follow a training while it runs: rows on disk, early warnings, trackers, and callbacks of trainers."""

from typing import Any

from geomfeat.monitoring._monitor import Monitor
from geomfeat.monitoring.options import MonitorOptions
from geomfeat.monitoring.result import Monitored, load_monitored
from geomfeat.monitoring.row import Event, Row
from geomfeat.monitoring.sinks import MLflowSink, Sink, TensorBoardSink, WandbSink

__all__ = [
    "Event", "MLflowSink", "Monitor", "MonitorOptions", "Monitored", "Row", "Sink", "TensorBoardSink", "WandbSink",
    "load_monitored",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Their base classes are of packages that are imported when they are asked for, and may be absent.
    if name == "TrainerCallback":
        from geomfeat.monitoring.transformers_callback import trainer_class

        return trainer_class()
    if name == "LightningCallback":
        from geomfeat.monitoring.lightning_callback import lightning_class

        return lightning_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
