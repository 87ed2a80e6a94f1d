"""Replica mean-field capacity: time and agreement beside one quadratic programme per draw (cvxopt, extra [bench]).

    python benchmarks/replica.py [--manifolds 4] [--draws 200]

Both get the same frames and the same directions, on one thread; what is timed is the work per manifold (for the first,
its frame too). The programme is the definition, argmin |v - t|^2 subject to S'v <= -kappa, to cvxopt's own precision of
1e-12. 'agree' is the largest relative difference of alpha, R and D over the manifolds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor

from geomfeat.geometry.manifolds.theory.replica_theory import (
    ReplicaAnchors,
    manifold_frame,
    manifold_geometry,
    replica_anchors,
)
from geomfeat.numerics import WORKING, stream

# 50 points (51 where they span 50 dimensions) on spheres in 60 features: many dimensions and few, near and far.
WORKLOADS = {"M=50 D=50 R=1": (51, 50, 1.0), "M=50 D=50 R=3": (51, 50, 3.0), "M=50 D=10 R=.5": (50, 10, 0.5),
             "M=50 D=20 R=2": (50, 20, 2.0)}  # fmt: skip


def cloud(points: int, d: int, radius: float, index: int) -> tuple[Tensor, Tensor]:
    """Points of a sphere of a radius around a unit centre in R^60, and the centre."""
    noise = stream(0, "benchmark", "replica", points, d, index)
    draw = lambda *shape: torch.randn(*shape, generator=noise, dtype=WORKING)  # noqa: E731
    basis = torch.linalg.qr(draw(60, d + 1))[0].T
    on_sphere = torch.nn.functional.normalize(draw(points, d), dim=1)
    x = basis[0] + radius * on_sphere @ basis[1:]
    return x, x.mean(0)


def by_programme(frame: np.ndarray, t: np.ndarray, kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and loads |v - t|^2 of every draw, one cvxopt call each."""
    from cvxopt import matrix, solvers

    options = {"show_progress": False, "abstol": 1e-12, "reltol": 1e-12, "feastol": 1e-12}
    eye, rows, bound = matrix(np.eye(frame.shape[1])), matrix(frame), matrix(np.full(len(frame), -kappa))
    anchors, loads = np.zeros((len(t), frame.shape[1] - 1)), np.zeros(len(t))
    for i, target in enumerate(t):
        if (frame @ target).max() <= -kappa:
            anchors[i] = frame[(frame @ target).argmax(), :-1]
            continue
        found = solvers.qp(eye, matrix(-target), rows, bound, options=options)
        z = np.array(found["z"])[:, 0]
        loads[i] = ((frame.T @ z) ** 2).sum()
        anchors[i] = (frame.T @ z)[:-1] / z.sum()
    return anchors, loads


def main() -> None:
    """Print one row per workload and margin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifolds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    try:
        import cvxopt  # noqa: F401
    except ImportError:
        print("cvxopt is not installed: pip install cvxopt, then again")
        return
    torch.set_num_threads(1)
    print(f"{'workload':18}{'kappa':>6}{'ms':>9}{'cvxopt':>9}{'times':>7}{'alpha':>8}{'R':>7}{'D':>7}{'agree':>10}")
    for name, (points, d, radius) in WORKLOADS.items():
        for kappa in (0.0, 0.5):
            ours, theirs, worst, shown = [], [], 0.0, np.zeros(3)
            for index in range(options.manifolds + 1):
                x, center = cloud(points, d, radius, index)
                width = manifold_frame(x, center, 1e-10).shape[1]
                t = torch.randn(options.draws, width, generator=stream(1, "benchmark", index), dtype=WORKING)
                start = time.perf_counter()
                frame = manifold_frame(x, center, 1e-10)
                alpha, _, r, _, dimension, _ = manifold_geometry(replica_anchors(frame, t, kappa), t)
                middle = time.perf_counter()
                anchors, loads = by_programme(frame.numpy(), t.numpy(), kappa)
                end = time.perf_counter()
                if index == 0:  # compiles and warms up
                    continue
                plain = ReplicaAnchors(torch.as_tensor(anchors), torch.as_tensor(loads), torch.ones(len(t)).bool())
                a, _, b, _, c, _ = manifold_geometry(plain, t)
                shown = np.array([alpha, r, dimension])
                worst = max(worst, float(np.abs(shown / np.array([a, b, c]) - 1).max()))
                ours.append(middle - start)
                theirs.append(end - middle)
            fast, slow = (1e3 * float(np.median(v)) for v in (ours, theirs))
            print(
                f"{name:18}{kappa:6.1f}{fast:9.1f}{slow:9.1f}{slow / fast:7.1f}"
                f"{shown[0]:8.3f}{shown[1]:7.3f}{shown[2]:7.2f}{worst:10.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
