"""Simulated capacity against its prediction from the faces of the cones, on 47 cells: is the prediction right?

    python benchmarks/simulated.py [--trials 1000] [--seed 1] [--only digits]

One row a cell: P classes of M points in N dimensions; simulated capacity with its error; predicted capacity with its
error, from other draws; z, their difference in standard errors; 'z at n', the same for the share of separable
dichotomies at the whole dimension nearest to the mean face, with the parity formula; 'se', the standard error of the
difference in per cent of the capacity. The last lines give chi-square over all cells. Cells marked 'bias' use
hyperplanes that may miss the origin, predicted from the slice of the cone where the signed weights add up to zero.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import torch
from scipy.stats import chi2
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from torch import Tensor

from geomfeat.geometry.manifolds import (
    draw_dichotomies,
    predicted_capacity,
    predicted_separability,
    project_on_cones,
    separability,
    simulated_capacity,
)
from geomfeat.geometry.manifolds.cones._separability import lifted
from geomfeat.numerics import WORKING, span_basis, stream

# Weight of the constant coordinate when its cone stands for the slice: shares of hyperplanes change by about 1e-4.
SLICE = 100.0
Cell = tuple[str, Tensor, str, bool, int]  # name, points (P, M, N), dichotomies, bias, trials per --trials 1000


def normal(*shape: int, name: str) -> Tensor:
    return torch.randn(*shape, generator=stream(0, "benchmark", name), dtype=WORKING)


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def spheres(p: int, m: int, n: int, radius: float, d: int, correlation: float = 0.0) -> Tensor:
    """Random points of d-dimensional spheres around unit centres, which share a direction where correlated."""
    name = f"{p} {m} {n} {radius} {d}"
    own, shared = unit(normal(p, 1, n, name=name)), unit(normal(1, 1, n, name=f"shared {name}"))
    centers = math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared
    on_sphere = unit(normal(p, m, d, name=f"sphere {name}"))
    return centers + radius * on_sphere @ (normal(p, d, n, name=f"axes {name}") / n**0.5)


def segments(p: int, radius: float) -> Tensor:
    eye = torch.eye(2 * p, dtype=WORKING)
    return torch.stack([eye[:p] + radius * eye[p:], eye[:p] - radius * eye[p:]], 1)


def classes(loader: object, m: int, standardised: bool = False, relu: int = 0, most: int = 10) -> Tensor:
    """The first m samples of each class, raw, standardised, or as random ReLU features."""
    features, labels = loader(return_X_y=True)  # type: ignore[operator]
    x, labels = torch.as_tensor(features, dtype=WORKING), torch.as_tensor(labels)
    if standardised:
        x = (x - x.mean(0)) / x.std(0)
    if relu:
        x = torch.relu(x @ normal(x.shape[1], relu, name="relu"))
    return torch.stack([x[labels == c][:m] for c in labels.unique()[:most]])


def cells() -> Iterator[Cell]:
    for p in (1, 2, 5, 10, 20, 40):
        yield f"points P={p} (Cover: 2)", normal(p, 1, 2 * p, name="points"), "random", False, 8000 if p < 10 else 2000
    yield "points P=30 in 18 dims", normal(30, 1, 18, name="crowded"), "random", False, 2000
    for correlation in (0.5, 0.9):
        x = spheres(10, 1, 40, 0.0, 1, correlation)
        for kind in ("random", "one-vs-rest", "balanced"):
            yield f"points, correlated {correlation}", x, kind, False, 4000
    for radius in (0.3, 1.0, 3.0):
        yield f"segments R={radius}", segments(10, radius), "random", False, 2000
    for m in (2, 5):
        yield f"simplices M={m} (2/M)", torch.eye(8 * m, dtype=WORKING).reshape(8, m, -1), "random", False, 2000
    for p, m, n, radius, d in (
        (2, 20, 60, 1.0, 5), (3, 30, 60, 0.5, 3), (5, 20, 100, 1.0, 10), (10, 20, 100, 0.5, 5), (10, 50, 200, 0.5, 10),
        (10, 50, 200, 2.0, 10), (10, 30, 120, 1.0, 2), (20, 10, 100, 0.5, 5), (40, 5, 100, 1.0, 3),
    ):  # fmt: skip
        yield f"spheres R={radius} D={d}", spheres(p, m, n, radius, d), "random", False, 3000 if p < 5 else 1000
    for correlation, kind in ((0.5, "random"), (0.9, "random"), (0.9, "one-vs-rest")):
        x = spheres(10, 20, 100, 0.5, 5, correlation)
        yield f"spheres R=0.5 D=5, correlated {correlation}", x, kind, False, 1000
    for p, m, n in ((4, 10, 50), (10, 5, 60), (15, 3, 30)):
        yield "Gaussian clouds", normal(p, m, n, name="clouds"), "random", False, 1500
    for m, kind in ((5, "random"), (20, "random"), (20, "one-vs-rest"), (35, "random")):
        yield "digits", classes(load_digits, m), kind, False, 1000
    for m, width, kind in ((10, 200, "random"), (30, 200, "random"), (30, 200, "one-vs-rest")):
        yield f"digits, {width} ReLU", classes(load_digits, m, relu=width), kind, False, 600
    yield "iris, standardised, 60 ReLU", classes(load_iris, 15, True, 60), "one-vs-rest", False, 3000
    yield "wine, standardised", classes(load_wine, 40, True), "one-vs-rest", False, 3000
    yield "wine, 100 ReLU", classes(load_wine, 20, True, 100), "random", False, 3000
    yield "breast cancer, 100 ReLU", classes(load_breast_cancer, 30, True, 100), "one-vs-rest", False, 3000
    yield "points P=12, bias", normal(12, 1, 24, name="bias"), "random", True, 2000
    yield "spheres R=0.5 D=5, bias", spheres(8, 10, 60, 0.5, 5), "random", True, 1000
    yield "digits, bias", classes(load_digits, 15), "one-vs-rest", True, 1000


def predicted(points: Tensor, kind: str, bias: bool, draws: int, seed: int) -> tuple[Tensor, Tensor, int]:
    """Faces and separability of every certified draw, and the rank."""
    p, m, n = points.shape
    owner = torch.arange(p).repeat_interleave(m)
    x, y = points.reshape(p * m, n), draw_dichotomies(kind, draws, p, seed)
    x = lifted(x)[:, :-1] if bias else unit(x)
    x = x @ span_basis(x).T
    t = torch.randn(draws, x.shape[1], generator=stream(seed, "benchmark", "t"), dtype=WORKING)
    rows, which = torch.unique(y * y[:, :1], dim=0, return_inverse=True)
    can = separability(x, owner, rows, bias)
    if bias:
        wide = torch.cat([x, SLICE * torch.ones_like(x[:, :1])], 1)
        found = project_on_cones(wide, owner, torch.cat([t, torch.zeros_like(t[:, :1])], 1), y)
        faces = (found.faces - 1).clamp_min(0)
    else:
        found = project_on_cones(x, owner, t, y)
        faces = found.faces
    use = found.certified & can.decided[which]
    return faces[use], can.separable[which][use], x.shape[1]


def judge(cell: Cell, trials: int, seed: int) -> tuple[float, float]:
    """Print a cell's row; its two z-scores."""
    name, points, kind, bias, share = cell
    n_trials, clock = max(50, trials * share // 1000), time.perf_counter()
    found = simulated_capacity(list(points), n_trials=n_trials, dichotomies=kind, bias=bias, seed=seed)
    middle = time.perf_counter()
    faces, separable, rank = predicted(points, kind, bias, n_trials, seed=seed + 1)
    value, error = predicted_capacity(faces, len(points), separable, rank)
    here = max(1, round(float(faces[separable].to(WORKING).mean())))
    curve, curve_se = predicted_separability(faces, torch.tensor([here]), separable)
    spread = math.hypot(error, found.capacity_se)
    z = (value - found.capacity) / spread
    share_se = math.hypot(float(curve_se[0]), float(found.shares_se[here]))
    z_share = (float(curve[0]) - float(found.shares[here])) / share_se if share_se else 0.0
    print(
        f"| {name} | {len(points)} | {points.shape[1]} | {points.shape[2]} | {kind} | {n_trials} | "
        f"{found.frac_nonseparable:.2f} | {found.capacity:.4f} ± {found.capacity_se:.4f} | {value:.4f} ± {error:.4f}"
        f" | {z:+.2f} | {z_share:+.2f} | {100 * spread / value:.1f} | {middle - clock:.1f}, "
        f"{time.perf_counter() - middle:.1f} | {found.n_undecided}, {n_trials - len(faces)} |",
        flush=True,
    )
    return z, z_share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| cell | P | M | N | dichotomies | trials | never | simulated | predicted | z | z at n | se % | s | lost |")
    print("|" + "---|" * 14)
    # Cells must not share draws: with common random numbers their z-scores would be correlated.
    scores = [
        judge(cell, options.trials, 1000 * options.seed + 2 * place)
        for place, cell in enumerate(cells())
        if options.only in cell[0]
    ]
    for name, column in zip(("capacity", "share at n"), zip(*scores, strict=True), strict=True):
        kept = [z for z in column if math.isfinite(z)]
        total, worst = sum(z * z for z in kept), max(map(abs, kept))
        print(
            f"{name}: {len(kept)} cells, chi-square {total:.1f} (p = {chi2.sf(total, len(kept)):.2f}), "
            f"mean z {sum(kept) / len(kept):+.2f}, largest |z| {worst:.2f}"
        )


if __name__ == "__main__":
    main()
