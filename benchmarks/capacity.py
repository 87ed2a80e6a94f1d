"""Speed and accuracy of the cone solver beside scipy's NNLS, on point clouds and on real classes.

    python benchmarks/capacity.py [--draws 100] [--large]

Both run on one thread over the same draws. NNLS gets what the solver gives itself: unit points in a basis of their
span. 'error' is the largest relative difference of |p|^2, 'violation' the largest KKT violation, both over all draws.
"""

from __future__ import annotations

import argparse
import time

import torch
from scipy.optimize import nnls
from sklearn.datasets import load_digits
from torch import Tensor

from geomfeat.geometry import project_on_cones
from geomfeat.numerics import WORKING, span_basis, stream


def clouds(n_manifolds: int, points: int, n: int, radius: float, d: int) -> Tensor:
    """Points of d-dimensional spheres of a radius around random unit centres: (P, M, N)."""
    noise = stream(0, "benchmark", n_manifolds, points, n)
    draw = lambda *shape: torch.randn(*shape, generator=noise, dtype=WORKING)  # noqa: E731
    unit = lambda x: torch.nn.functional.normalize(x, dim=-1)  # noqa: E731
    return unit(draw(n_manifolds, 1, n)) + radius * unit(draw(n_manifolds, points, d)) @ (
        draw(n_manifolds, d, n) / n**0.5
    )


def digits() -> Tensor:
    """scikit-learn digits, 50 per class: (10, 50, 64)."""
    features, labels = load_digits(return_X_y=True)
    return torch.stack([torch.as_tensor(features[labels == c][:50]) for c in range(10)])


def workloads(large: bool) -> dict[str, Tensor]:
    """Name -> points."""
    raw = digits()
    weights = torch.randn(64, 200, generator=stream(0, "benchmark", "relu"), dtype=WORKING)
    jitter = 1e-6 * torch.randn(raw.shape, generator=stream(0, "benchmark", "jitter"), dtype=WORKING)
    out = {
        "W1 easy (R=.5 D=10)": clouds(10, 50, 200, 0.5, 10),
        "W1 hard (R=2 D=20)": clouds(10, 50, 200, 2.0, 20),
        "W1 digits, random ReLU": torch.relu(raw @ weights),
        "W1 digits": raw,
        "W1 digits, jittered": raw + jitter,
    }
    if large:
        out |= {"W2 easy": clouds(20, 100, 512, 0.5, 10), "W2 hard": clouds(20, 100, 512, 2.0, 20)}
    return out


def by_nnls(points: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """|p|^2 of every draw, one scipy call each."""
    unit = torch.nn.functional.normalize(points.reshape(-1, points.shape[2]), dim=1)
    basis = span_basis(unit)
    rows, target = (unit @ basis.T), (t @ basis.T).numpy()
    signs = y.repeat_interleave(points.shape[1], 1)
    out = []
    for i in range(len(t)):
        a = (rows * signs[i][:, None]).T.numpy()
        l, _ = nnls(a, target[i], maxiter=100 * a.shape[1])
        out.append(float(((a @ l) ** 2).sum()))
    return torch.tensor(out, dtype=WORKING)


def main() -> None:
    """Print one row per workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--large", action="store_true", help="P=20 M=100 N=512 too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'workload':26}{'k/r':>6}{'ms/draw':>9}{'nnls':>8}{'error':>10}{'violation':>11}{'uncertified':>13}{'2nd':>6}"
    )
    for name, points in workloads(options.large).items():
        n_manifolds, m, n = points.shape
        noise = stream(1, "benchmark", name)
        t = torch.randn(options.draws, n, generator=noise, dtype=WORKING)
        y = torch.randint(0, 2, (options.draws, n_manifolds), generator=noise).to(WORKING) * 2 - 1
        owner = torch.arange(n_manifolds).repeat_interleave(m)
        start = time.perf_counter()
        found = project_on_cones(points.reshape(-1, n), owner, t, y)
        ours = (time.perf_counter() - start) / options.draws * 1e3
        start = time.perf_counter()
        p2 = by_nnls(points, t, y)
        theirs = (time.perf_counter() - start) / options.draws * 1e3
        error = float(((found.norms2 - p2).abs() / p2).max())
        crowding = float(found.faces.double().mean()) / float(torch.linalg.matrix_rank(points.reshape(-1, n)))
        print(
            f"{name:26}{crowding:6.2f}{ours:9.2f}{theirs:8.2f}{error:10.1e}{float(found.violation.max()):11.1e}"
            f"{int((~found.certified).sum()):13d}{found.n_fallback:6d}"
        )


if __name__ == "__main__":
    main()
