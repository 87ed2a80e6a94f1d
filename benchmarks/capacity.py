"""Speed, accuracy and memory of the cone solver beside the peers' own packages, on the same draws.

    python benchmarks/capacity.py [--only W1] [--write] [--whole]

One row a workload. geomfeat's time is that of the whole call for all draws (preparation and certificate included), the
median of at least 3 calls; a peer's is the median over a few draws, each given unit points with their signs. 'error' is
the largest relative difference of |p|^2 on the draws that both solved; 'violation' the largest KKT violation, relative
to |t|, over geomfeat's draws, and over the peer's (a package that failed on n draws says n failed). --write keeps the
tables in benchmarks/RESULTS.md. Peers: pip install '.[bench]'.

--whole measures another table instead: a call of `capacity`, with all numbers and errors, next to its solver on the
same points as they are given, in turns. CPU milliseconds, which other work on the machine moves less than its time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from keeping import keep, machine, memory
from sklearn.datasets import load_digits
from torch import Tensor

from geomfeat.geometry.manifolds import capacity, project_on_cones
from geomfeat.numerics import WORKING, stream

PACKAGES = ("torch", "numpy", "numba", "scipy", "daqp", "cvxopt", "quadprog")


@dataclass(frozen=True)
class Workload:
    """Points (P, M, N), how many draws, on how many of them the peers run, which peers, and the goal against daqp."""

    points: Callable[[], Tensor]
    draws: int
    peer_draws: int
    peers: tuple[str, ...]
    goal: float


def clouds(n_manifolds: int, points: int, n: int, radius: float, d: int) -> Tensor:
    """Points of d-dimensional spheres of a radius around random unit centres: (P, M, N)."""
    noise = stream(0, "benchmark", n_manifolds, points, n)
    draw = lambda *shape: torch.randn(*shape, generator=noise, dtype=WORKING)  # noqa: E731
    unit = lambda x: torch.nn.functional.normalize(x, dim=-1)  # noqa: E731
    centers = unit(draw(n_manifolds, 1, n))
    return unit(draw(n_manifolds, points, d)).mul_(radius / n**0.5).matmul(draw(n_manifolds, d, n)).add_(centers)


def digits() -> Tensor:
    """scikit-learn digits, 50 per class: (10, 50, 64)."""
    features, labels = load_digits(return_X_y=True)
    return torch.stack([torch.as_tensor(features[labels == c][:50]) for c in range(10)])


def relu_features(units: int) -> Tensor:
    """Digits in random ReLU features."""
    return torch.relu(digits() @ torch.randn(64, units, generator=stream(0, "benchmark", "relu"), dtype=WORKING))


def jittered() -> Tensor:
    """Digits with 1e-6 of noise: what was constant now varies, by a hundred-millionth of a point's length."""
    raw = digits()
    return raw + 1e-6 * torch.randn(raw.shape, generator=stream(0, "benchmark", "jitter"), dtype=WORKING)


ALL = ("daqp", "cvxopt", "quadprog", "nnls")
WORKLOADS = {
    "W1 easy": Workload(lambda: clouds(10, 50, 200, 0.5, 10), 200, 20, ALL, 12),
    "W1 hard": Workload(lambda: clouds(10, 50, 200, 2.0, 20), 200, 20, ALL, 6),
    "W1 digit classes": Workload(lambda: relu_features(200), 200, 20, ALL, 3),
    "W1 digits": Workload(digits, 200, 20, ALL, 1),
    "W1 jittered digits": Workload(jittered, 200, 20, ALL, 1),
    "W2 easy": Workload(lambda: clouds(20, 100, 512, 0.5, 10), 200, 5, ALL, 30),
    "W2 hard": Workload(lambda: clouds(20, 100, 512, 2.0, 20), 200, 5, ALL, 15),
    "W3 easy": Workload(lambda: clouds(50, 200, 1024, 0.5, 10), 200, 3, ("daqp",), 60),
    "W3 hard": Workload(lambda: clouds(50, 200, 1024, 2.0, 20), 200, 3, ("daqp",), 30),
    "W4 easy": Workload(lambda: clouds(100, 500, 2048, 0.5, 10), 50, 3, ("daqp",), 120),
}


def by_daqp(rows: np.ndarray, t: np.ndarray) -> np.ndarray | None:
    """Nearest v to t with rows v <= 0, or None where the package gives up."""
    import daqp

    k, n = rows.shape
    v, _, flag, _ = daqp.solve(np.eye(n), -t, rows, np.zeros(k), np.full(k, -1e30), np.zeros(k, np.int32))
    return v if flag == 1 else None


def by_cvxopt(rows: np.ndarray, t: np.ndarray) -> np.ndarray | None:
    """The same by an interior point method."""
    from cvxopt import matrix, solvers

    n = len(t)
    found = solvers.qp(
        matrix(np.eye(n)), matrix(-t), matrix(rows), matrix(np.zeros(len(rows))), options={"show_progress": False}
    )
    return np.array(found["x"])[:, 0] if found["status"] == "optimal" else None


def by_quadprog(rows: np.ndarray, t: np.ndarray) -> np.ndarray | None:
    """The same by the dual method of Goldfarb and Idnani."""
    from quadprog import solve_qp

    try:
        return solve_qp(np.eye(len(t)), t, -rows.T, np.zeros(len(rows)))[0]
    except ValueError:
        return None


def by_nnls(rows: np.ndarray, t: np.ndarray) -> np.ndarray | None:
    """The same by scipy's non-negative least squares."""
    from scipy.optimize import nnls

    try:
        return t - rows.T @ nnls(rows.T, t, maxiter=100 * len(t))[0]
    except RuntimeError:
        return None


PEERS = {"daqp": by_daqp, "cvxopt": by_cvxopt, "quadprog": by_quadprog, "nnls": by_nnls}


def measured(name: str) -> list[str]:
    """The cells of one row."""
    work = WORKLOADS[name]
    points = work.points()
    n_manifolds, m, n = points.shape
    noise = stream(1, "benchmark", name)
    t = torch.randn(work.draws, n, generator=noise, dtype=WORKING)
    y = torch.randint(0, 2, (work.draws, n_manifolds), generator=noise).to(WORKING) * 2 - 1
    owner = torch.arange(n_manifolds).repeat_interleave(m)
    x = points.reshape(-1, n)
    project_on_cones(x[:: max(1, m // 5)], owner[:: max(1, m // 5)], t[:3], y[:3])  # compiled before it is timed
    seconds = []
    while len(seconds) < 3 or (sum(seconds) < 2 and len(seconds) < 9):
        start = time.perf_counter()
        found = project_on_cones(x, owner, t, y)
        seconds.append(time.perf_counter() - start)
    ours = statistics.median(seconds) / work.draws * 1e3
    rank = min(x.shape)
    cells = [
        name, f"{float(found.faces.double().mean()) / rank:.2f}", f"{ours:.3g}",
        f"{int(found.certified.sum())}/{work.draws}", f"{float(found.violation.max()):.0e}", str(found.n_fallback),
    ]  # fmt: skip
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    for peer in PEERS:
        cells.append(compared(peer, unit, m, t.numpy(), y.numpy(), found.norms2.numpy(), ours, work))
    return cells


def compared(
    peer: str, unit: np.ndarray, m: int, t: np.ndarray, y: np.ndarray, norms2: np.ndarray, ours: float, work: Workload
) -> str:
    """A peer's milliseconds per draw, how many times geomfeat's that is, and its accuracy."""
    if peer not in work.peers:
        return ""
    seconds, errors, violations, failed = [], [0.0], [0.0], 0
    for d in range(work.peer_draws):
        rows = np.ascontiguousarray(unit * np.repeat(y[d], m)[:, None])
        start = time.perf_counter()
        v = PEERS[peer](rows, t[d])
        seconds.append(time.perf_counter() - start)
        if v is None:
            failed += 1
            continue
        errors.append(abs(((t[d] - v) ** 2).sum() / norms2[d] - 1))
        violations.append((rows @ v).max() / np.linalg.norm(t[d]))
    theirs = statistics.median(seconds) * 1e3
    goal = f" (goal {work.goal:g})" if peer == "daqp" else ""
    lost = f", {failed} of {work.peer_draws} failed" if failed else ""
    return f"{theirs:.3g}: **{theirs / ours:.3g}x**{goal}, error {max(errors):.0e}, viol. {max(violations):.0e}{lost}"


def whole_geometry() -> str:
    """The published setting: P=10, M=50, 1000 features, 200 draws, everything that `capacity` returns."""
    points = relu_features(1000)
    capacity(points, n_draws=10)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        found = capacity(points, n_draws=200)
        seconds.append(time.perf_counter() - start)
    return (
        f"| complete geometry, P=10 M=50 N=1000, 200 draws, digits in random ReLU features | "
        f"{statistics.median(seconds):.2f} s (capacity {found.capacity:.3f} +- {found.capacity_se:.3f}, "
        f"{200 - found.n_uncertified} certified) | 1 s |"
    )


def whole_calls() -> list[str]:
    """CPU milliseconds of whole calls next to those of their solver, as rows of a table."""
    lines = [
        "CPU milliseconds, medians of calls in turns.", "", "| workload | solver | whole call | ratio | goal |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    small = Workload(lambda: clouds(10, 4, 24, 0.5, 10), 20, 0, (), math.inf)
    goals = {"W1 easy": 1.5, "W1 hard": 1.5, "W2 easy": 1.3, "W2 hard": 1.3, "little data": math.inf}
    for name, goal in goals.items():
        work = WORKLOADS.get(name, small)
        points = work.points()
        n_manifolds, m, n = points.shape
        owner, noise = torch.arange(n_manifolds).repeat_interleave(m), stream(1, "benchmark", name)
        t = torch.randn(work.draws, n, generator=noise, dtype=WORKING)
        y = torch.randint(0, 2, (work.draws, n_manifolds), generator=noise).to(WORKING) * 2 - 1
        solver = lambda x=points, o=owner, t=t, y=y: project_on_cones(x.reshape(len(o), -1), o, t, y)  # noqa: E731
        whole = lambda x=points, d=work.draws: capacity(x, n_draws=d, resample=None)  # noqa: E731
        seconds = [[cpu_seconds(one) for one in (solver, whole)] for _ in range(16 if n < 500 else 8)][1:]
        alone, all_of_it = (statistics.median(s) * 1e3 for s in zip(*seconds, strict=True))
        ratio = statistics.median(both / one for one, both in seconds)
        told = f"{goal:g}" if math.isfinite(goal) else ""
        lines.append(f"| {name} | {alone:.3g} | {all_of_it:.3g} | **{ratio:.2f}** | {told} |")
        print(lines[-1], flush=True)
    return lines


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of a call, on all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_memory() -> str:
    """Peak resident memory of a process that makes the points of W4 and projects 50 draws, and that of the points."""
    code = "import capacity as c; c.measure_w4()"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return f"| peak memory, W4 easy, 50 draws (points alone: .82 GB) | {out.stdout.strip()} GB | 4 GB |"


def measure_w4() -> None:
    """In a process of its own: print the peak."""
    points = WORKLOADS["W4 easy"].points()
    noise = stream(1, "benchmark", "W4 easy")
    t, y = torch.randn(50, 2048, generator=noise, dtype=WORKING), torch.ones(50, 100, dtype=WORKING)
    project_on_cones(points.reshape(-1, 2048), torch.arange(100).repeat_interleave(500), t, y)
    print(f"{memory('VmHWM') / 1e3:.2f}")


def main() -> None:
    """Print the tables as they are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="workloads whose name starts so")
    parser.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    parser.add_argument("--whole", action="store_true", help="whole calls next to their solver, and nothing else")
    options = parser.parse_args()
    if options.whole:
        lines = [*whole_calls(), "", machine(PACKAGES, torch.get_num_threads())]
        if options.write:
            keep("capacity", lines, " of whole calls")
        return
    head = ["workload", "k/rank", "geomfeat", "certified", "violation", "handed on", *PEERS]
    lines = ["Milliseconds per draw.", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    print("\n".join(lines), flush=True)
    for name in WORKLOADS:
        if name.startswith(options.only):
            lines.append(f"| {' | '.join(measured(name))} |")
            print(lines[-1], flush=True)
    for row in (
        "\n| what | measured | goal |\n|---|---|---|",
        whole_geometry(),
        peak_memory(),
        f"\n{machine(PACKAGES, torch.get_num_threads())}",
    ):
        lines.append(row)
        print(row, flush=True)
    if options.write:
        keep("capacity", lines)


if __name__ == "__main__":
    main()
