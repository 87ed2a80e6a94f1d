"""A monitor in any loop: it changes nothing, its folder is safe and resumes, and bad input is refused."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.errors import BadInput, OutputExists, WriteFailed
from geomfeat.monitoring import MonitorOptions, load_monitored
from tests.monitoring.trainings import ALWAYS, data, network, trained


class Noisy(nn.Module):
    """BatchNorm, dropout, a counter that runs in evaluation mode too, and noise whenever it is called."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))
        self.head, self.noise = nn.Linear(8, 2), noise
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.body(x) + self.noise * torch.randn(x.shape[0], 8))


def run(folder: Path | None, *, autocast: bool = False) -> dict[str, Any]:
    """A training with everything that a monitor could disturb, and all of its state afterwards."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what a monitor must not disturb
    net, (x, y) = Noisy(0.1), data()
    net.body[1].eval()
    rule = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    monitor = None
    if folder is not None:
        monitor = gf.Monitor(net, x, y, folder=folder, every=2, optimizer=rule, options=ALWAYS)
    draws = []
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for step in range(1, 7):
            rows = torch.randint(0, 24, (8,))
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            if step % 2 == 0:  # gradients are accumulated over two batches
                rule.step()
                rule.zero_grad()
            if monitor is not None:
                monitor.step(step, loss)
            draws.append((torch.rand(()).item(), random.random(), np.random.rand()))  # noqa: NPY002
        if monitor is not None:
            monitor.close()
    state = {name: t.clone() for name, t in net.state_dict().items()}
    grads = {f"{name} gradient": p.grad for name, p in net.named_parameters()}
    modes = [module.training for module in net.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    return {"state": state, "grads": grads, "draws": draws, "modes": modes, "hooks": hooks, "monitor": monitor}


@pytest.mark.parametrize("autocast", [False, True])
def test_a_training_is_bit_for_bit_the_same_with_a_monitor(autocast: bool, tmp_path: Path) -> None:
    with_one, without = run(tmp_path, autocast=autocast), run(None, autocast=autocast)
    for name, value in without["state"].items():
        assert torch.equal(value, with_one["state"][name]), name
    for name, value in without["grads"].items():
        assert (value is None) == (with_one["grads"][name] is None)
        assert value is None or torch.equal(value, with_one["grads"][name])
    for what in ("draws", "modes", "hooks"):
        assert with_one[what] == without[what]
    assert [row.step for row in with_one["monitor"].rows] == [0, 1, 3, 5, 6]
    assert any("draws random numbers" in note for note in with_one["monitor"].notes)


def test_autocast_is_off_while_measuring(tmp_path: Path) -> None:
    plain, mixed = (run(tmp_path / str(on), autocast=on)["monitor"].rows[0] for on in (False, True))
    assert plain.layers == mixed.layers


def test_every_and_the_last_step_are_measured_and_the_table_is_written(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    lines: list[str] = []
    options = MonitorOptions(max_share=None, report=lines.append)
    monitor = trained(net, x, y, tmp_path, 10, every=4, options=options)
    assert [row.step for row in monitor.rows] == [0, 1, 5, 9, 10]
    assert len(lines) >= 5
    assert lines[1].startswith("step 1: loss ")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert table["step"].drop_duplicates().tolist() == [0, 1, 5, 9, 10]
    assert set(table["layer"]) == {"", "0", "2"}
    read = load_monitored(tmp_path)
    pd.testing.assert_frame_equal(read.table, monitor.table)
    pd.testing.assert_frame_equal(read.table, table, check_dtype=False)
    monitor.close()
    with pytest.raises(BadInput, match="closed"):
        monitor.step(11)


def test_an_error_of_the_training_is_left_alone_and_nothing_more_is_measured(tmp_path: Path) -> None:
    net, (x, y) = network(), data()

    def fail(step: int) -> None:
        if step == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained(net, x, y, tmp_path, 5, every=5, after=fail)
    assert load_monitored(tmp_path).network["step"].tolist() == [0, 1]


def test_a_resumed_training_goes_on_in_its_folder_and_what_is_done_again_takes_the_place_of_what_was(
    tmp_path: Path,
) -> None:
    net, (x, y) = network(), data()
    kept: dict[int, Any] = {}
    trained(net, x, y, tmp_path, 8, every=2, after=lambda step: kept.update({step: copy.deepcopy(net.state_dict())}))
    before = (tmp_path / "rows.jsonl").read_bytes()
    whole = load_monitored(tmp_path).network
    resumed = network(seed=9)
    resumed.load_state_dict(kept[4])
    monitor = trained(resumed, x, y, tmp_path, 4, first=5, every=2)
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(before)
    again = load_monitored(tmp_path).network
    assert again["step"].tolist() == [0, 1, 3, 5, 7, 8]
    assert again["session"].tolist() == [0, 0, 0, 1, 1, 1]
    for name in ("richness", "movement", "kernel_change"):
        np.testing.assert_allclose(again[name].iloc[1:], whole[name].iloc[1:], rtol=1e-5)
    pd.testing.assert_frame_equal(monitor.result().table, load_monitored(tmp_path).table)


def test_an_event_that_is_done_again_is_said_again(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    start = copy.deepcopy(net.state_dict())
    once = trained(net, x, y, tmp_path, 8, lr=0.5)
    net.load_state_dict(start)
    trained(net, x, y, tmp_path, 8, lr=0.5)
    found = load_monitored(tmp_path).events
    assert [event.kind for event in once.events] == ["left the linear regime"]
    assert found[["kind", "step"]].to_numpy().tolist() == [["left the linear regime", once.events[0].step]]
    assert found["session"].tolist() == [1]


def test_a_line_that_a_crash_cut_is_no_obstacle(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    trained(net, x, y, tmp_path, 3)
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "session": 0, "netw')
    trained(net, x, y, tmp_path, 2, first=4)
    found = load_monitored(tmp_path)
    assert found.network["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert "were cut" in found.notes[0]


def test_the_folder_of_another_training_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    trained(net, x, y, tmp_path, 2)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    others: list[tuple[nn.Module, Any, dict[str, Any]]] = [
        (network(width=8), x, {}), (network(seed=5), x, {}), (net, x + 1, {}), (net, x, {"layers": ["0"]}),
        (net, x, {"measures": ["participation_ratio"]}),
    ]  # fmt: skip
    for other, probes, more in others:
        with pytest.raises(OutputExists, match="another"):
            gf.Monitor(other, probes, folder=tmp_path, options=ALWAYS, **more)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("name", ["monitor.json", "rows.jsonl", "initial.safetensors"])
def test_files_of_the_user_are_never_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExists, match="not written by geomfeat"):
        gf.Monitor(network(), data()[0], folder=tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_initial_weights_in_a_file_give_the_same_numbers_and_are_not_held(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    file = gf.save_weights(net, tmp_path / "start.safetensors")
    twin = copy.deepcopy(net)
    held = trained(net, x, y, tmp_path / "held", 6, every=3)
    streamed = trained(twin, x, y, tmp_path / "streamed", 6, every=3, initial=file)
    assert not (tmp_path / "streamed" / "initial.safetensors").exists()
    for one, other in zip(held.rows, streamed.rows, strict=True):
        for name in ("richness", "movement", "kernel_demand", "kernel_change", "weight_change"):
            assert one.get(name) == pytest.approx(other.get(name), rel=1e-9, nan_ok=True), name
    assert streamed._prepared is not None
    weights = streamed._prepared.start.weights
    assert sum(p.numel() for p in weights.outline.model.parameters()) == 0
    assert sum(t.numel() for t in weights.outline.theta.values()) == 0
    again = trained(twin, x, y, tmp_path / "streamed", 2, first=7)
    assert again.rows[-1].session == 1


def test_a_full_disk_costs_rows_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise WriteFailed(28, "No space left on device", "rows.jsonl")

    net, (x, y) = network(), data()
    monkeypatch.setattr("geomfeat.monitoring.folder.append", full)
    assert [row.step for row in trained(net, x, y, tmp_path, 2).rows] == [0, 1, 2]


def test_a_measurement_that_fails_is_a_row_with_the_reason(tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    monitor = gf.Monitor(net, x, y, folder=tmp_path, options=ALWAYS)
    assert monitor._prepared is not None

    def failing(_: Any) -> Any:
        raise BadInput("no memory for this")

    object.__setattr__(monitor._prepared, "measurement", failing)
    row = monitor.step(1, 0.5)
    assert row is not None
    assert (row.note, row.get("loss")) == ("not measured: no memory for this", 0.5)


def test_a_loss_may_be_a_number_a_tensor_or_nothing_and_the_largest_between_rows_is_kept(tmp_path: Path) -> None:
    net, (x, _) = network(), data()
    with gf.Monitor(net, x, folder=tmp_path, every=3, options=ALWAYS) as monitor:
        for step, loss in enumerate([1.0, torch.tensor([5.0]), 2, np.float32(3.0)], start=1):
            monitor.step(step, loss)  # pyright: ignore
    assert (monitor.rows[-1].get("loss"), monitor.rows[-1].get("worst_loss")) == (3.0, 5.0)
    with gf.Monitor(net, x, folder=tmp_path / "none", options=ALWAYS) as silent:
        silent.step(1)
    assert math.isnan(silent.rows[-1].get("loss"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"every": 0}, "every=0"),
        ({"every": 2.5}, "every=2.5"),
        ({"targets": torch.zeros(7, dtype=torch.long)}, "targets has 7 entries, but there are 24"),
        ({"targets": torch.ones(24, 3)}, "3"),
        ({"measures": ["participation_ratoi"]}, "near: participation_ratio"),
        ({"measures": ["weight_movement"]}, "scope 'network'"),
        ({"measures": "nc1"}, "give a list"),
        ({"layers": ["nowhere"]}, "nowhere"),
        ({"options": MonitorOptions(held_out=(torch.ones(3, 4), [0]))}, "held_out targets has 1 entries"),
        ({"probes": torch.ones(2, 4)}, "at least 4"),
        ({"folder": ""}, "names nothing"),
    ],
)
def test_bad_input_is_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {"probes": data()[0], "folder": tmp_path / "new", **changed}
    with pytest.raises(BadInput, match=message):
        gf.Monitor(network(), **given)


@pytest.mark.parametrize(
    "changed",
    [{"max_share": 0}, {"max_share": 1.5}, {"kernel": "all"}, {"loss": "hinge"}, {"projections": 0}, {"held_out": 3}],
)
def test_bad_options_are_named(changed: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(changed))):
        MonitorOptions(**changed)


def test_a_frozen_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="every parameter of the model is frozen"):
        gf.Monitor(network().requires_grad_(False), data()[0], folder=tmp_path)


def test_steps_ascend_and_losses_are_single_numbers(tmp_path: Path) -> None:
    monitor = gf.Monitor(network(), data()[0], folder=tmp_path, options=ALWAYS)
    monitor.step(3, 1.0)
    for step, loss, message in ((3, 1.0, "not after"), (4, torch.ones(2), "one number"), (4, "x", "str")):
        with pytest.raises(BadInput, match=message):
            monitor.step(step, loss)  # pyright: ignore
    with pytest.raises(BadInput, match="whole number"):
        monitor.step(4.5)  # pyright: ignore


def test_a_model_that_is_replaced_midway_is_refused(tmp_path: Path) -> None:
    net = network()
    monitor = gf.Monitor(net, data()[0], folder=tmp_path, every=1, options=ALWAYS)
    monitor.step(1, 1.0, model=torch.nn.DataParallel(net))
    with pytest.raises(BadInput, match="is not the one"):
        monitor.step(2, 1.0, model=copy.deepcopy(net))
    net[4] = nn.Linear(16, 3)
    with pytest.raises(BadInput, match=r"4\.bias"):
        monitor.step(3, 1.0)
