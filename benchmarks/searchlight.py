"""Speed of searchlights, and the error of crossnobis distances of unequal trials.

    python benchmarks/searchlight.py [--write]

20,000 searchlights of 100 voxels, 8 conditions x 10 runs; the goal is 60 s on two cores. With a noise precision
of its own in each (800 residuals), 2,000 of them are timed. rsatoolbox is timed on 100 and its time scaled.
Error: 5 conditions x 6 runs with 1 or 8 trials a cell, 10 units, white noise of variance 1, with and without a pattern
common to each run of twice that size; rms error of the distances 0 and 1 in 300 draws, by weights.
--write keeps the tables in benchmarks/RESULTS.md. Peer: pip install rsatoolbox.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from keeping import keep, machine

from geomfeat.geometry.rsa import condition_residuals, rdm, searchlight_rdms

MASK = np.ones((25, 32, 25), dtype=bool)
CONDITIONS, RUNS = np.tile(np.arange(8), 10), np.repeat(np.arange(10), 8)


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def speed() -> list[str]:
    """A row for each kind of searchlight."""
    draws = np.random.default_rng(0)
    x = draws.standard_normal((80, 20_000))
    given = {"n_voxels": 100, "progress": False}
    plain = timed(lambda: searchlight_rdms(x, CONDITIONS, MASK, runs=RUNS, **given))
    kept = np.arange(80) != 5
    gap = timed(lambda: searchlight_rdms(x[kept], CONDITIONS[kept], MASK, runs=RUNS[kept], **given))
    samples, conditions, runs = draws.standard_normal((800, 20_000)), np.tile(CONDITIONS, 10), np.repeat(RUNS, 10)
    noise = condition_residuals(samples, conditions, runs)
    some = {"centres": np.arange(0, 20_000, 10), **given}
    own = timed(lambda: searchlight_rdms(samples, conditions, MASK, runs=runs, precision=noise, **some))
    return [
        "| searchlights | number | s | goal | rsatoolbox, s |", "|---|---|---|---|---|",
        f"| crossnobis | 20,000 | {plain:.1f} | 60 | {peer(x):.0f} |",
        f"| crossnobis, one cell without trials | 20,000 | {gap:.1f} | 60 | refuses |",
        f"| crossnobis, noise precision of each | 2,000 | {own:.1f} |  |  |",
    ]  # fmt: skip


def peer(x: np.ndarray) -> float:
    """Seconds that rsatoolbox takes for all of them, from 100."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    def hundred() -> None:
        for start in range(100):
            data = Dataset(x[:, start : start + 100], obs_descriptors={"condition": CONDITIONS, "run": RUNS})
            calc_rdm(data, "crossnobis", "condition", cv_descriptor="run")

    return 200 * timed(hundred)


def error() -> list[str]:
    """A row for each true distance and size of the effect of runs."""
    lines = ["| distance | effect of runs | weights by trials | equal weights | rsatoolbox |", "|---|---|---|---|---|"]
    for distance in (0, 1):
        for effect in (0, 2):
            found = errors(distance, effect)
            lines.append(f"| {distance} | {effect} | {found[0]:.3f} | {found[1]:.3f} | {found[2]:.3f} |")
    return lines


def errors(distance: float, effect: float) -> list[float]:
    """Rms error of the distances of the first condition to the others: by trials, with equal weights, of the peer."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    draws = np.random.default_rng(0)
    found = []
    for _ in range(300):
        counts = draws.choice([1, 8], (6, 5))
        run, condition = (np.repeat(i.ravel(), counts.ravel()) for i in np.indices(counts.shape))
        x = draws.standard_normal((len(run), 10)) + distance * (condition == 0)[:, None]
        x += effect * draws.standard_normal((6, 10))[run]
        means = np.stack([x[(run == r) & (condition == c)].mean(0) for r in range(6) for c in range(5)])
        data = Dataset(x, obs_descriptors={"condition": condition, "run": run})
        three = (
            rdm(x, condition, dissimilarity="crossnobis", runs=run).vectors[0],
            rdm(means, np.tile(range(5), 6), dissimilarity="crossnobis", runs=np.repeat(range(6), 5)).vectors[0],
            calc_rdm(data, "crossnobis", "condition", cv_descriptor="run").dissimilarities[0],
        )
        found.append([np.asarray(one)[:4] - distance**2 for one in three])
    return np.sqrt(np.square(found).mean((0, 2))).tolist()


def main() -> None:
    """Print the tables as they are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [*speed(), "", *error(), "", machine(("torch", "numpy", "rsatoolbox"), torch.get_num_threads())]
    print("\n".join(lines))
    if options.write:
        keep("searchlight", lines)


if __name__ == "__main__":
    main()
