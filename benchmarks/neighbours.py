"""Nearest neighbours: the compiled search beside scikit-learn's, with the same exact ranking of its candidates.

    python benchmarks/neighbours.py [--write]

Processor time on one thread of normal points in float64; three rounds in which both take turns, median of the ratios.
The neighbours must be the same. --write keeps the table in benchmarks/RESULTS.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from keeping import keep, machine
from sklearn.neighbors import NearestNeighbors

from geomfeat.geometry.dimension._nearest_neighbours import by_products

# Points, features, neighbours.
SIZES = ((2000, 64, 10), (5000, 64, 2), (20000, 32, 2), (10000, 128, 20), (5000, 512, 2), (5000, 2048, 10))
GOAL = 1.5
ROWS = 1024


def by_sklearn(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n, k): a few more candidates than asked for, ranked by differences in float64."""
    keep_ = k + max(6, k // 8) + 1  # one more: a point is its own nearest
    centered = x - x.mean(0)
    index = NearestNeighbors(n_neighbors=keep_, algorithm="brute").fit(centered).kneighbors(centered)[1]
    distance = np.empty(index.shape)
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        distance[part] = np.linalg.norm(x[index[part]] - x[part, None], axis=2)
    order = distance.argsort(1)[:, 1 : k + 1]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)


def seconds(search: Callable[[np.ndarray, int], Any], x: np.ndarray, k: int) -> float:
    """Processor time of a search."""
    start = time.process_time()
    search(x, k)
    return time.process_time() - start


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description="Nearest neighbours beside scikit-learn's.")
    parser.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| points x features, neighbours | geomfeat | scikit-learn | |", "|---|---|---|---|"]
    ratios = []
    for n, d, k in SIZES:
        x = np.random.default_rng(0).standard_normal((n, d))
        x /= np.abs(x).max()
        found, other = by_products(x, k), by_sklearn(x, k)
        if not (np.array_equal(found[1], other[1]) and np.allclose(found[0], other[0], rtol=1e-12, atol=0)):
            raise SystemExit(f"{n} x {d}: the neighbours differ")
        pairs = [(seconds(by_products, x, k), seconds(by_sklearn, x, k)) for _ in range(3)]
        own, theirs = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        ratios.append(statistics.median(pair[1] / pair[0] for pair in pairs))
        lines.append(f"| {n} x {d}, {k} | {own:.2f} s | {theirs:.2f} s | {ratios[-1]:.2f}x |")
        print(lines[-1], flush=True)
    lines.append(f"| median | | | **{statistics.median(ratios):.2f}x** (goal {GOAL}) |")
    lines += ["", machine(("numpy", "numba", "scikit-learn"), 1)]
    print("\n".join(lines[-3:]))
    if options.write:
        keep("neighbours", lines)


if __name__ == "__main__":
    main()
