"""Trainings on several processes: the first one measures, and weights that are spread are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.monitoring.distributed import require_whole
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


def test_weights_that_are_spread_over_processes_are_refused(group: None, tmp_path: Path) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    net = network()
    fully_shard(net)
    with pytest.raises(BadInput, match="spread over several processes"):
        gf.Monitor(net, data()[0], folder=tmp_path / "rows")
    older = type("FullyShardedDataParallel", (nn.Sequential,), {})(nn.Linear(2, 1))
    assert FullyShardedDataParallel.__name__ == type(older).__name__
    with pytest.raises(BadInput, match=r"geomfeat\.movement"):
        require_whole(older)
    deepspeed = nn.Linear(2, 1)
    deepspeed.weight.ds_id = 3  # pyright: ignore
    with pytest.raises(BadInput, match="'weight' is spread"):
        require_whole(deepspeed)
