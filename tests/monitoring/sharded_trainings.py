"""Trainings of which each of two processes holds a part of the weights, and the same training by one process."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import warnings
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from torch import nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.monitoring.whole_copy import gather
from tests.monitoring.trainings import ALWAYS, data
from tests.warm_process import IMPORTED

STEPS, EVERY = 4, 2
# Forms of FSDP -> the optimizer: `fully_shard`; the older wrapper, with one joined parameter, and with cut ones.
FORMS = {"parts": "adam", "joined": "adam", "cut": "sgd"}


class Network(nn.Module):
    """With a buffer, a frozen parameter, and one that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh())
        self.again = nn.Linear(8, 8)
        self.again.weight = self.first_of_block().weight
        self.out = nn.Linear(8, 2)

    def first_of_block(self) -> nn.Linear:
        layer = self.block[0]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.again(self.block(torch.relu(self.first(x)))))


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Network()


def optimizer(net: nn.Module, kind: str) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(net.parameters(), lr=0.1)
    return torch.optim.AdamW(net.parameters(), lr=0.01)


def sharded(net: Network, form: str) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    if form in ("joined", "cut"):
        cpu = torch.device("cpu")
        net.out = FullyShardedDataParallel(net.out, use_orig_params=form == "cut", device_id=cpu)  # type: ignore
        return FullyShardedDataParallel(net, use_orig_params=form == "cut", device_id=cpu)
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(net.out, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


def train(net: nn.Module, rule: torch.optim.Optimizer, monitor: gf.Monitor | None) -> None:
    """Both processes have the same samples, so that the mean of their gradients is that of one."""
    x, y = data()
    with monitor or contextlib.nullcontext():
        for step in range(1, STEPS + 1):
            loss = nn.functional.cross_entropy(net(x), y)
            rule.zero_grad()
            loss.backward()
            rule.step()
            if monitor is not None:
                monitor.step(step, loss)


def monitored(net: nn.Module, rule: torch.optim.Optimizer, folder: Path) -> gf.Monitor:
    return gf.Monitor(net, data()[0], data()[1], folder=folder, every=EVERY, optimizer=rule, options=ALWAYS)


def by_two(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found, which train in all `FORMS`."""
    context = multiprocessing.get_context("forkserver")
    assert isinstance(context, ForkServerContext)
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_run_both, args=(folder,))
    process.start()
    process.join(600)
    assert process.exitcode == 0
    return [json.loads((folder / f"found {rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def _run_both(folder: Path) -> None:
    import torch.distributed.fsdp
    import torch.distributed.tensor  # once, before the process is copied  # noqa: F401

    other = multiprocessing.get_context("fork").Process(target=_run, args=(1, folder))
    other.start()
    _run(0, folder)
    other.join()
    assert other.exitcode == 0


def _run(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    warnings.simplefilter("error")
    found: dict[str, Any] = {}
    for form, kind in FORMS.items():
        net = sharded(network(), form)
        rule = optimizer(net, kind)
        with torch.no_grad():
            net(data()[0][:2])  # leaves some parameters whole, and counts in the buffers of BatchNorm
        monitor = monitored(net, rule, folder / form)
        train(net, rule, monitor)
        weights: dict[str, Any] = {}
        gather(net, lambda _, name, p, kept=weights: kept.setdefault(f"{len(kept)} {name}", p.tolist()))
        found[form] = {"active": monitor.active, "rows": len(monitor.rows), "weights": list(weights.values())}
    try:
        gf.Monitor(sharded(network(), "parts"), data()[0], folder=folder / "refused", layers="nothing")
    except BadInput as error:
        found["refused"] = str(error)
    (folder / f"found {rank}.json").write_text(json.dumps(found), encoding="utf-8")
    torch.distributed.destroy_process_group()
