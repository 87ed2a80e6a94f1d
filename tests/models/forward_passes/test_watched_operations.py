"""A mode sees the operations of a model, compiled or not, and is compiled with none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch
from torch import nn

from geomfeat.models.forward_passes.watched_operations import WatchedOperations

SCRIPT = """
import sys, torch, geomfeat as gf
net, x = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5)), torch.randn(200, 20)
gf.extract(net, x)
gf.ntk(net, x, outputs="full")
class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(20, 8), torch.nn.Linear(8, 2)
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))
gf.locate(Own(), x, x[:, 0] > 0)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


class Counting(WatchedOperations):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        _ = [a + 1 for a in args if isinstance(a, torch.Tensor)]  # what a compiler would make a graph of
        return func(*args, **(kwargs or {}))


def test_features_and_kernels_import_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_what_a_mode_does_is_not_compiled() -> None:
    net, x, graphs = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(5, 3), []
    with Counting() as plain:
        net(x)

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, backend=backend)
    with Counting() as seen:
        compiled(x)
    assert seen.names == plain.names
    assert {"addmm", "relu"} <= set(seen.names)
    assert graphs == []
