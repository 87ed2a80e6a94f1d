"""Every path of a device against the CPU, and what a GPU gains: in one call, in under eight minutes on one GPU.

    python benchmarks/gpu_check.py [--device cuda|cpu] [--small] [--only TEXT] [--write]

First every registered measure, the capacity, tangent kernels and the location of small networks: the largest relative
difference between the device's numbers and the CPU's. Then times: the workloads of benchmarks/capacity.py, the tangent
kernel, CKA of all pairs of layers and the location of a network of the shape of GPT-2, 124 million parameters.
--small takes sizes for a CPU, --only the rows whose names hold a text. It needs torch, numpy, scipy, scikit-learn and
pandas; compiled loops run as plain Python where numba is missing. --write keeps the tables in benchmarks/RESULTS.md.
The exit code is 1 where a difference is above its limit.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from decoder import Decoder
from keeping import keep, machine
from standins import stand_in
from torch import Tensor, nn

MISSING = stand_in()

from paths import Numbers, Where, compared, main_calls, measured  # noqa: E402

import geomfeat as gf  # noqa: E402
from geomfeat.geometry.manifolds import project_on_cones  # noqa: E402
from geomfeat.geometry.similarity import cka_matrix  # noqa: E402
from geomfeat.numerics import WORKING, stream  # noqa: E402
from geomfeat.registry import available  # noqa: E402
from geomfeat.tangent import ntk  # noqa: E402

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "numba")
# What a different order of sums may cost, relative to the number: float64 throughout; less precise numbers where they
# are named so; solvers and trainings that stop at a tolerance of their own.
LIMITS = {"float64": 1e-7, "float32": 1e-3, "bfloat16": 5e-2, "stops": 1e-3}
STOPS = {"linear_probe_accuracy", "replica_capacity", "simulated_capacity", "activation_stability"}
# Points (manifolds, points of each, units), radius, dimension, draws; the smaller sizes are for --small.
CONES = {
    "W1 easy": ((10, 50, 200), 0.5, 10, 200), "W1 hard": ((10, 50, 200), 2.0, 20, 200),
    "W2 easy": ((20, 100, 512), 0.5, 10, 200), "W2 hard": ((20, 100, 512), 2.0, 20, 200),
    "W3 easy": ((50, 200, 1024), 0.5, 10, 200), "W3 hard": ((50, 200, 1024), 2.0, 20, 200),
    "W4 easy": ((100, 500, 2048), 0.5, 10, 50),
}  # fmt: skip
SMALL_CONES = {
    "W1 easy": ((10, 50, 200), 0.5, 10, 20), "W1 hard": ((10, 50, 200), 2.0, 20, 20),
    "W2 easy": ((20, 100, 512), 0.5, 10, 5), "W2 hard": ((20, 100, 512), 2.0, 20, 5),
    "W3 easy": ((20, 100, 1024), 0.5, 10, 3), "W3 hard": ((20, 100, 1024), 2.0, 20, 3),
    "W4 easy": ((20, 200, 2048), 0.5, 10, 2),
}  # fmt: skip
# Width, blocks, heads, words, tokens and sequences of the network of the shape of GPT-2; and of a small one.
GPT2, SMALL_GPT2 = (768, 12, 12, 50257, 64, 16), (64, 2, 2, 500, 16, 8)


def clouds(shape: tuple[int, int, int], radius: float, d: int) -> Tensor:
    """Points of d-dimensional spheres around random unit centres, as in benchmarks/capacity.py: (P, M, N)."""
    n_manifolds, points, n = shape
    noise = stream(0, "benchmark", *shape)
    draw = lambda *sizes: torch.randn(*sizes, generator=noise, dtype=WORKING)  # noqa: E731
    unit = lambda x: nn.functional.normalize(x, dim=-1)  # noqa: E731
    centers = unit(draw(n_manifolds, 1, n))
    return unit(draw(n_manifolds, points, d)).mul_(radius / n**0.5).matmul(draw(n_manifolds, d, n)).add_(centers)


def cones(device: str, method: str) -> Numbers:
    """Squared lengths of projections on the cones of overlapping clouds."""
    points = clouds((6, 20, 40), 2.0, 10).reshape(-1, 40).to(device)
    t = torch.randn(30, 40, generator=stream(0, "cones"), dtype=WORKING).to(device)
    y = torch.ones(30, 6, dtype=WORKING, device=device)
    owner = torch.arange(6, device=device).repeat_interleave(20)
    found = project_on_cones(points, owner, t, y, method=method)
    return {str(i): float(value) for i, value in enumerate(found.norms2)}


Pair = tuple[Callable[[], Numbers], Callable[[], Numbers]]


def pairs_of(device: str) -> dict[str, Pair]:
    """What is checked: its numbers on the CPU and on a device, by name."""
    work: dict[str, Callable[[Where], Numbers]] = {f"{m.scope}: {m.name}": partial(measured, m) for m in available()}
    here, there = Where("cpu"), Where(device)
    pairs: dict[str, Pair] = {
        name: (partial(make, here), partial(make, there)) for name, make in {**work, **main_calls()}.items()
    }
    pairs["cones, by the method of GPUs"] = (partial(cones, "cpu", "auto"), partial(cones, device, "patient"))
    return pairs


def limit_of(name: str) -> float:
    """The largest difference that is fine."""
    named = [kind for kind in LIMITS if kind in name]
    return LIMITS[named[0] if named else "stops" if name.rpartition(" ")[2] in STOPS else "float64"]


def checks(device: str, only: str) -> tuple[list[str], int]:
    """The table of differences, and how many are above their limit."""
    lines, bad = ["| what | numbers | largest difference | limit |", "|---|---|---|---|"], 0
    for name, pair in pairs_of(device).items():
        if only not in name:
            continue
        found, count = compared(*pair)
        try:
            fine = float(found) <= limit_of(name)
        except ValueError:
            fine = False
        bad += not fine
        lines.append(f"| {name} | {count} | {found}{'' if fine else ' **above**'} | {limit_of(name):.0e} |")
        print(lines[-1], flush=True)
    return lines, bad


def seconds_of(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Median seconds of a call after a first one, all of the device's work done."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def cone_row(name: str, sizes: tuple[tuple[int, int, int], float, int, int], device: str, repeats: int) -> str:
    """Milliseconds per draw of one workload, and how many of its draws are certified."""
    shape, radius, d, draws = sizes
    points = clouds(shape, radius, d)
    noise = stream(1, "benchmark", name)
    t = torch.randn(draws, shape[2], generator=noise, dtype=WORKING).to(device)
    y = (torch.randint(0, 2, (draws, shape[0]), generator=noise).to(WORKING) * 2 - 1).to(device)
    owner = torch.arange(shape[0]).repeat_interleave(shape[1]).to(device)
    x = points.reshape(-1, shape[2]).to(device)
    solved = project_on_cones(x, owner, t, y)
    spent = seconds_of(lambda: project_on_cones(x, owner, t, y), device, repeats)
    size = f"P={shape[0]} M={shape[1]} N={shape[2]}, {draws} draws"
    certified = f"{int(solved.certified.sum())}/{draws} certified, {solved.n_fallback} handed on"
    return f"{size} | {spent / draws * 1e3:.3g} ms per draw | {certified}"


def times(device: str, small: bool, only: str) -> list[str]:
    """The table of times."""
    lines, repeats = ["| what | size | time | note |", "|---|---|---|---|"], 1 if small else 3
    sizes = SMALL_GPT2 if small else GPT2
    work: dict[str, Callable[[], str]] = {
        f"capacity {name}": (lambda name=name, cones=cones: cone_row(name, cones, device, repeats))
        for name, cones in (SMALL_CONES if small else CONES).items()
    }
    work["CKA of all pairs"] = lambda: cka_row((256, 64, 6) if small else (2000, 2048, 24), device, repeats)
    work["tangent kernel, float32"] = lambda: kernel_row(sizes, device)
    work["locate"] = lambda: location_row(sizes, device)
    for name, row in work.items():
        if only in name:
            lines.append(f"| {name} | {row()} |")
            print(lines[-1], flush=True)
    return lines


def cka_row(sizes: tuple[int, int, int], device: str, repeats: int) -> str:
    """All pairs of layers of random features."""
    n, d, count = sizes
    reps = [torch.randn(n, d, generator=stream(i, "cka"), dtype=WORKING).to(device) for i in range(count)]
    spent = seconds_of(lambda: cka_matrix(reps), device, repeats)
    return f"{count} layers, {n} x {d} | {spent:.3g} s | "


def decoders(sizes: tuple[int, ...], device: str) -> tuple[nn.Module, nn.Module, Tensor, str]:
    """A decoder, the same after small random steps, sequences, and how large they are in words."""
    torch.manual_seed(0)
    start = Decoder(*sizes[:5]).to(device)
    end = copy.deepcopy(start)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(0.02 * p.std() * torch.randn(p.shape, generator=stream(0, tuple(p.shape))).to(device))
    ids = torch.randint(0, sizes[3], (sizes[5], sizes[4]), generator=stream(0, "ids")).to(device)
    size = f"{sum(p.numel() for p in start.parameters()) / 1e6:.3g} million parameters, {sizes[5]} x {sizes[4]} tokens"
    return start, end, ids, size


def kernel_row(sizes: tuple[int, ...], device: str) -> str:
    """The tangent kernel of a decoder."""
    _, end, ids, size = decoders(sizes, device)
    return f"{size} | {seconds_of(lambda: ntk(end, ids, dtype=torch.float32), device, 1):.3g} s | "


def location_row(sizes: tuple[int, ...], device: str) -> str:
    """The location of a decoder; one call, since it is long."""
    start, end, ids, size = decoders(sizes, device)
    began = time.perf_counter()
    found = gf.locate(end, ids, initial=start, options=gf.LocateOptions(n_bootstrap=2), progress=False)
    return f"{size} | {time.perf_counter() - began:.3g} s | R = {found.richness:.2f}"


def main() -> None:
    """Print the tables; keep them with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    began, lines = time.perf_counter(), list[str]()
    where = torch.cuda.get_device_name() if asked.device.startswith("cuda") else "CPU, **the GPU is unmeasured**"
    lines += [f"Device: {where}{'; reduced sizes (--small)' if asked.small else ''}.", ""]
    print(lines[0], flush=True)
    table, bad = checks(asked.device, asked.only)
    lines += [*table, "", *times(asked.device, asked.small, asked.only), ""]
    there = [name for name in PACKAGES if name not in MISSING]
    without = f" (without {', '.join(MISSING)})" if MISSING else ""
    lines.append(f"{machine(there, torch.get_num_threads())}; {time.perf_counter() - began:.0f} s in all{without}")
    print(lines[-1], flush=True)
    if asked.write:
        keep("gpu_check", lines)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
