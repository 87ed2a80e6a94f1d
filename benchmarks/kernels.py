"""Tangent kernels beside torch.func and nngeometry: time, agreement, memory.

    python benchmarks/kernels.py [--only MLP] [--write]

One thread, 128 inputs, 10 outputs, single precision for everybody (geomfeat's default, double, in a row of its own);
the tools take turns, medians of 3 rounds (torch.func on the MLP: one round). 'error' is the largest difference to
geomfeat in double precision, relative to the largest entry. Memory is what one call takes at its highest.
--write keeps the tables in benchmarks/RESULTS.md. nngeometry must be installed without its dependencies.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from keeping import added_memory, keep, machine  # noqa: F401  the memory processes take it from here
from torch import Tensor, nn

from geomfeat.models.functional import functional
from geomfeat.tangent import ntk

PACKAGES = ("torch", "nngeometry")

GOALS = {
    ("MLP full", "torch.func"): 300, ("MLP full", "nngeometry"): 10, ("CNN full", "torch.func"): 2.5,
    ("CNN full", "nngeometry"): 10, ("CNN trace", "torch.func"): 3,
}  # fmt: skip


def network(kind: str) -> tuple[nn.Module, Tensor]:
    """A network and 128 inputs: the MLP has 978,000 parameters, the CNN 94,500."""
    torch.manual_seed(0)
    if kind == "MLP":
        sizes = [784, 528, 528, 528]
        hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(528, 10)), torch.randn(128, 784)
    channels = [3, 32, 64, 128]
    convs = [m for a, b in itertools.pairwise(channels) for m in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)), torch.randn(128, 3, 32, 32)


def by_geomfeat(model: nn.Module, x: Tensor, outputs: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sample-major (n C, n C), or (n, n)."""
    return ntk(functional(model, dtype=dtype), x.to(dtype), outputs=outputs).gram


def by_torch_func(model: nn.Module, x: Tensor, outputs: str) -> Tensor:
    """All Jacobians, then their products, as torch's own tutorial does."""
    from torch.func import functional_call, jacrev, vmap

    theta = {k: v.detach() for k, v in model.named_parameters()}
    rows = vmap(jacrev(lambda p, one: functional_call(model, p, (one[None],))[0]), (None, 0))(theta, x)
    flat = [row.flatten(2) for row in rows.values()]
    if outputs == "trace":
        return torch.stack([torch.einsum("icp,jcp->ij", row, row) for row in flat]).sum(0)
    n, c = flat[0].shape[:2]
    return torch.stack([torch.einsum("icp,jdp->icjd", row, row).reshape(n * c, n * c) for row in flat]).sum(0)


def by_nngeometry(model: nn.Module, x: Tensor, outputs: str) -> Tensor:
    """The Gram matrix of per-sample gradients; its trace over outputs is taken from the full one."""
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object import FMatDense
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=len(x))
    backend = TorchHooksJacobianBackend(
        model=model, function=lambda *d: model(d[0]), layer_collection=LayerCollection.from_model(model)
    )
    found = FMatDense(generator=backend, examples=loader).data  # (C, n, C, n)
    c, n = found.shape[:2]
    if outputs == "trace":
        return torch.einsum("cicj->ij", found)
    return found.permute(1, 0, 3, 2).reshape(n * c, n * c)


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of CPU time, which other work on the machine disturbs least, and the result."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def rows_of(name: str, rounds: int) -> list[str]:
    """Lines of the table for one workload, "MLP full" for example."""
    kind, outputs = name.split()
    model, x = network(kind)
    truth = by_geomfeat(model, x, outputs, torch.float64)
    tools: dict[str, Callable[[], Tensor]] = {
        "geomfeat": lambda: by_geomfeat(model, x, outputs),
        "geomfeat, double": lambda: by_geomfeat(model, x, outputs, torch.float64),
        "torch.func": lambda: by_torch_func(model, x, outputs),
    }
    if find_spec("nngeometry"):
        tools["nngeometry"] = lambda: by_nngeometry(model, x, outputs)
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    errors = {}
    for i in range(rounds):
        for tool, work in tools.items():
            if i and tool == "torch.func" and kind == "MLP":
                continue
            spent, found = timed(work)
            seconds[tool].append(spent)
            errors[tool] = float((found.double() - truth).abs().max() / truth.abs().max())
    medians = {tool: statistics.median(spent) for tool, spent in seconds.items()}
    lines = []
    for tool, median in medians.items():
        ratio = median / medians["geomfeat"]
        goal = f" (goal {GOALS[name, tool]:g})" if (name, tool) in GOALS else ""
        lines.append(f"| {name} | {tool} | {median:.3g} | **{ratio:.3g}x**{goal} | {errors[tool]:.0e} |")
    return lines


def memory_of(code: str) -> float:
    """GB that `work()` takes at its highest, in a process of its own in which `code` has defined it."""
    path = str(Path(__file__).parent)
    whole = (
        f"import sys; sys.path.insert(0, {path!r})\nimport torch; torch.set_num_threads(1)\n"
        f"from kernels import *\n{code}\nprint(added_memory(work) / 1e3)"
    )
    return float(subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True).stdout)


def wide_residual(x: Tensor) -> nn.Module:
    """A residual network of the size of ResNet-18 (11 million parameters) for 32 x 32 inputs."""

    class Block(nn.Module):
        def __init__(self, a: int, b: int, stride: int) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.Conv2d(b, b, 3, 1, 1, bias=False)
            self.skip = nn.Identity() if a == b else nn.Conv2d(a, b, 1, stride, bias=False)

        def forward(self, h: Tensor) -> Tensor:
            return torch.relu(self.two(torch.relu(self.one(h))) + self.skip(h))

    torch.manual_seed(0)
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [Block(*sizes) for sizes in [*widths, (512, 512, 1)]]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.ReLU(), *blocks, *head)


MEMORY = {
    "MLP, 512 inputs, full": (
        "model, x = network('MLP'); x = torch.randn(512, 784); work = lambda: by_geomfeat(model, x, 'full')", 0.75,
    ),
    "residual network of 11 million parameters, trace, 64 inputs of 32 x 32": (
        "x = torch.randn(64, 3, 32, 32); model = wide_residual(x); work = lambda: by_geomfeat(model, x, 'trace')", 6.0,
    ),
}  # fmt: skip


def main() -> None:
    """Print the tables; keep them with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| kernel | tool | CPU s | of geomfeat's | error |", "|---|---|---|---|---|"]
    for name in ("MLP full", "CNN full", "CNN trace"):
        if name.startswith(asked.only):
            lines += rows_of(name, 3)
            print("\n".join(lines[-4:]), flush=True)
    lines += ["", "| memory added by one call | GB | goal |", "|---|---|---|"]
    for name, (code, goal) in MEMORY.items():
        if name.startswith(asked.only):
            lines.append(f"| {name} | {memory_of(code):.2f} | {goal:g} |")
            print(lines[-1], flush=True)
    lines += ["", machine(PACKAGES, 1)]
    if asked.write:
        keep("kernels", lines)


if __name__ == "__main__":
    main()
