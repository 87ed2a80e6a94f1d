"""Trainings on several processes: the first one measures, and of weights that are spread it gathers a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.monitoring.distributed import is_sharded
from geomfeat.monitoring.row import Row
from geomfeat.monitoring.rows_file import ROWS, read
from tests.monitoring import sharded_trainings
from tests.monitoring.trainings import ALWAYS, data, network


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """One process that trains as many do."""
    if not torch.distributed.is_available():
        pytest.skip("torch has no distributed package")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_the_network_inside_data_parallelism_is_measured(group: None, tmp_path: Path) -> None:
    net, (x, y) = network(), data()
    wrapped = nn.parallel.DistributedDataParallel(net)
    rule = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    with gf.Monitor(wrapped, x, y, folder=tmp_path / "rows", every=2, options=ALWAYS) as monitor:
        for step in range(1, 4):
            loss = nn.functional.cross_entropy(wrapped(x), y)
            rule.zero_grad()
            loss.backward()
            rule.step()
            monitor.step(step, loss)
    assert monitor.result().layers == ("0", "2")
    assert monitor.rows[-1].get("movement") > -3


def test_other_processes_do_nothing(group: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *_: 1)
    with gf.Monitor(network(), data()[0], folder=tmp_path / "rows", options=ALWAYS) as monitor:
        assert monitor.step(1, 1.0) is None
    assert not monitor.active
    assert not (tmp_path / "rows").exists()
    assert monitor.table.empty


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Two processes that each hold a part of the weights: the folder of their monitors, and what either found."""
    if not torch.distributed.is_available():
        pytest.skip("torch has no distributed package")
    folder = tmp_path_factory.mktemp("two")
    return folder, sharded_trainings.by_two(folder)


def numbers(rows: list[Row]) -> dict[tuple[int, str], float]:
    """(step, quantity) -> value of all that is not about time."""
    timed = {"seconds", "trained", "share"}
    return {
        (row.step, name): v for row in rows for name, v in row.numbers().items() if not timed & set(name.split("/"))
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[tuple[int, str], float]]:
    """Kind of optimizer -> what is measured of the same training by one process."""
    found = {}
    for kind in set(sharded_trainings.FORMS.values()):
        net = sharded_trainings.network()
        rule = sharded_trainings.optimizer(net, kind)
        net(data()[0][:2])
        monitor = sharded_trainings.monitored(net, rule, tmp_path_factory.mktemp(kind) / "rows")
        sharded_trainings.train(net, rule, monitor)
        found[kind] = numbers(monitor.rows)
    return found


@pytest.mark.parametrize("form", sharded_trainings.FORMS)
def test_weights_in_parts_give_the_numbers_of_one_process(
    form: str,
    sharded: tuple[Path, list[dict[str, Any]]],
    alone: dict[str, dict[tuple[int, str], float]],
) -> None:
    folder, (first, second) = sharded
    together, expected = numbers(read(folder / form / ROWS)[0]), alone[sharded_trainings.FORMS[form]]
    assert together == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
    assert {step for step, _ in expected} == {0, 1, 3, 4}
    assert sum("richness" in name for _, name in expected) == 12
    assert first[form]["active"]
    assert first[form]["rows"] == 4
    assert (second[form]["active"], second[form]["rows"], second[form]["weights"]) == (False, 0, [])


@pytest.mark.parametrize("form", sharded_trainings.FORMS)
def test_a_training_in_parts_is_as_without_a_monitor(form: str, sharded: tuple[Path, list[dict[str, Any]]]) -> None:
    net = sharded_trainings.network()
    net(data()[0][:2])
    sharded_trainings.train(net, sharded_trainings.optimizer(net, sharded_trainings.FORMS[form]), None)
    # A joined parameter of the outer wrapper comes before that of the inner one.
    found = sorted(torch.tensor(p).flatten().tolist() for p in sharded[1][0][form]["weights"])
    expected = sorted(p.detach().flatten().tolist() for _, p in net.named_parameters(remove_duplicate=False))
    assert found == [pytest.approx(p, rel=1e-5, abs=1e-7) for p in expected]


def test_no_process_begins_where_the_first_one_cannot(sharded: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = (found["refused"] for found in sharded[1])
    assert first.startswith("no layer matches 'nothing'")
    assert second.startswith("the monitor could not begin on the first process: LayerNotFound: no layer matches")


def test_weights_that_are_spread_in_another_way_are_refused(group: None, tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    net = parallelize_module(network(), init_device_mesh("cpu", (1,)), {"0": ColwiseParallel()})
    with pytest.raises(BadInput, match=r"'0\.weight' is spread over several processes by tensor parallelism"):
        gf.Monitor(net, data()[0], folder=tmp_path / "rows")
    deepspeed = nn.Linear(2, 1)
    deepspeed.weight.ds_id = 3  # pyright: ignore
    with pytest.raises(BadInput, match=r"'weight' is spread.*geomfeat\.movement"):
        is_sharded(deepspeed)
