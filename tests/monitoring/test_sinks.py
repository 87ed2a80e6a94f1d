"""Sinks: the protocol with one of the test's own, and the trackers with clients that note what they are given."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from geomfeat.errors import BadInput
from geomfeat.monitoring import MLflowSink, MonitorOptions, Sink, TensorBoardSink, WandbSink
from tests.monitoring.trainings import data, network, trained

ABSENT = importlib.util.find_spec("tensorboard") is None


class Noting:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self.said.append((step, dict(numbers)))

    def event(self, step: int, text: str) -> None:
        self.said.append((step, text))

    def close(self) -> None:
        self.said.append("closed")


def test_a_sink_gets_every_row_every_event_and_is_closed_once(tmp_path: Path) -> None:
    sink, (x, y) = Noting(), data()
    assert isinstance(sink, Sink)
    monitor = trained(
        network(), x, y, tmp_path, 12, lr=0.5, every=4, options=MonitorOptions(max_share=None, sinks=(sink,))
    )
    monitor.close()
    rows = [one for one in sink.said if isinstance(one[1], dict)]
    assert [step for step, _ in rows] == [row.step for row in monitor.rows]
    assert rows[-1][1] == monitor.rows[-1].numbers()
    assert {"richness", "richness/0", "movement/2", "loss"} <= rows[-1][1].keys()
    texts = [one for one in sink.said if isinstance(one[1], str) and one != "closed"]
    assert texts == [(event.step, event.text) for event in monitor.events]
    assert len(texts) == 1  # it left the linear regime
    assert sink.said.count("closed") == 1


def test_a_run_of_weights_and_biases_gets_numbers_under_one_name() -> None:
    logged: list[Any] = []
    run = SimpleNamespace(log=logged.append, summary={})
    sink = WandbSink(run)
    sink.write(3, {"richness/fc": -1.0})
    sink.event(3, "It left.")
    sink.close()
    assert logged == [{"geomfeat/step": 3, "geomfeat/richness/fc": -1.0}]
    assert run.summary == {"geomfeat/event at step 3": "It left."}


def test_mlflow_gets_names_that_it_takes() -> None:
    calls: list[Any] = []
    client = SimpleNamespace(
        log_metric=lambda name, value, step: calls.append((name, value, step)),
        set_tag=lambda name, text: calls.append((name, text)),
    )
    sink = MLflowSink(client)
    sink.write(2, {"movement/rnn[0]": 0.5})
    sink.event(2, "It left.")
    sink.close()
    assert calls == [("movement/rnn.0.", 0.5, 2), ("event at step 2", "It left.")]


@pytest.mark.skipif(not ABSENT, reason="the package tensorboard is there")
def test_without_its_package_a_sink_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'tensorboard' is absent"):
        TensorBoardSink(tmp_path)


@pytest.mark.skipif(ABSENT, reason="the package tensorboard is absent")
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore

    sink = TensorBoardSink(tmp_path)
    sink.write(1, {"richness/fc": -1.5})
    sink.write(4, {"richness/fc": 0.25})
    sink.event(4, "It left.")
    sink.close()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("richness/fc")] == [(1, -1.5), (4, 0.25)]
