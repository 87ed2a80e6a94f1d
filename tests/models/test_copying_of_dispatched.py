"""Models that are spread over devices or processes are neither moved nor copied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.activations import extract
from geomfeat.activations.hidden_layers import placed
from geomfeat.errors import BadInput
from geomfeat.models.copying import deep_copy, is_dispatched
from geomfeat.tangent import ntk


def spread(how: str) -> nn.Module:
    """A network that says it is spread."""
    net: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    if how == "map":
        net.hf_device_map = {"0": "cpu", "1": 0}
    elif how == "map inside":
        net[1].hf_device_map = {"a": 0, "b": 1}
    else:
        net[0].weight.device_mesh = object()  # as distributed tensors have
    return net


@pytest.mark.parametrize(("how", "message"), [
    ("map", r"spread over several devices .* load it on one device"),
    ("map inside", r"spread over several devices .* load it on one device"),
    ("distributed", r"parameter '0.weight' is spread over processes \(a DTensor.* gather the weights, .*plain model"),
])  # fmt: skip
def test_a_dispatched_model_is_run_where_it_is_and_never_copied(how: str, message: str) -> None:
    net, x = spread(how), torch.ones(5, 3)
    assert is_dispatched(net)
    assert placed(net, "cpu") is placed(net, "cuda") is net  # whether this one is there does not matter
    torch.testing.assert_close(extract(net, x, layers="1", device="cpu", progress=False)["1"].x, net(x).detach())
    for work in (lambda: deep_copy(net), lambda: ntk(net, x)):
        with pytest.raises(BadInput, match=message):
            work()


def test_a_map_to_one_device_is_no_spread() -> None:
    net: Any = nn.Linear(3, 2)
    net.hf_device_map = {"": "cpu"}
    assert not is_dispatched(net)
    assert deep_copy(net) is not net
