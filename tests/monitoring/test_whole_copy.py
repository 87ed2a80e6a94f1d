"""A whole copy of a network that `fully_shard` has spread, here over one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from geomfeat.monitoring.whole_copy import WholeCopy
from tests.monitoring.sharded_trainings import Network, network
from tests.monitoring.trainings import data


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[Network]:
    if not torch.distributed.is_available():
        pytest.skip("torch has no distributed package")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    net = network().eval()
    net.out.register_forward_hook(doubled)
    net.requires_grad_(False).out.requires_grad_()
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(net.out, mesh=mesh)
    fully_shard(net, mesh=mesh)
    yield net
    torch.distributed.destroy_process_group()


def doubled(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


def test_the_copy_is_the_network_before_it_was_spread(sharded: Network) -> None:
    found = WholeCopy(sharded).network
    assert type(found) is Network
    assert type(found.out) is nn.Linear
    assert found.again.weight is found.first_of_block().weight
    assert [name for name, p in found.named_parameters() if p.requires_grad] == ["out.weight", "out.bias"]
    own = network().eval()
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in own.named_parameters()]
    x = data()[0]
    assert torch.equal(found(x), 2 * own(x))  # with the hook of the user's
    assert not any(module._forward_pre_hooks for module in found.modules())  # without those of FSDP


def test_the_copy_has_present_values_while_they_are_wanted(sharded: Network) -> None:
    copy = WholeCopy(sharded)
    assert copy.network is not None
    copy.release()
    assert sum(p.numel() for p in copy.network.parameters()) == 0
    with torch.no_grad():
        for p in sharded.out.parameters():
            p.mul_(3)
        sharded.get_buffer("block.1.running_mean").fill_(2.0)
    copy.fill()
    assert torch.equal(copy.network.get_parameter("out.weight"), 3 * network().out.weight)
    assert torch.equal(copy.network.get_buffer("block.1.running_mean"), torch.full((8,), 2.0))
    copy.network.get_buffer("block.1.running_mean").zero_()
    assert float(sharded.get_buffer("block.1.running_mean")[0]) == 2.0
