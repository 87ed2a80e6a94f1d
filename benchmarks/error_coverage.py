"""Do errors cover what they say? Coverage of 95 % intervals, and false positives at 5 %, over many repeats.

    python benchmarks/error_coverage.py [--repeats 200] [--shared FOLDER] [--write]

Gaussian manifolds (6 conditions, 10 trials, 40 units) around fixed centres, the truth being the mean over repeats; two
sessions of one population under common draws; random halves of voxels (FOLDER/data/haxby-1slice.npz, skipped where it
is not there); participation ratios of heavy-tailed rows and of correlated trials. --write keeps the table in
benchmarks/RESULTS.md. Some ten minutes on one core.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from keeping import keep, machine

from geomfeat.geometry.manifolds import Capacity, capacity, capacity_difference
from geomfeat.registry import get
from geomfeat.types import Representation

NUMBERS = ("capacity", "dimension", "radius", "utility", "center_alignment", "axis_alignment", "center_axis_alignment")
PACKAGES = ("torch", "numpy")
SPECTRUM = torch.arange(1, 61, dtype=torch.float64) ** -0.775  # participation ratio 23.9


def normal(*shape: int, seed: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trials(seed: int) -> torch.Tensor:
    """Ten trials of six conditions in 40 units; the centres are always the same."""
    return (normal(6, 1, 40, seed=0) + normal(6, 10, 40, seed=10**6 + seed)) / 40**0.5


def manifolds(repeats: int, resample: str | None) -> list[str]:
    """Coverage of every number, and false positives between two sessions that share their draws."""
    found = [
        [capacity(trials(2 * i + j), n_draws=100, seed=i, resample=resample) for j in (0, 1)] for i in range(repeats)
    ]
    first = [pair[0] for pair in found]
    differences = [capacity_difference(*pair) for pair in found]
    over = first[0].errors_over
    rows = []
    for name in NUMBERS:
        value, error = of(first, name), of(first, f"{name}_se")
        covered = np.mean(np.abs(value - value.mean()) <= 1.96 * error)
        of_difference = "difference" if name == "capacity" else name
        z = np.array([getattr(d, of_difference) / getattr(d, f"{of_difference}_se") for d in differences])
        rows.append(
            f"| {name}, over {over} | {value.std(ddof=1):.4f} | {np.sqrt(np.mean(error**2)):.4f} | {covered:.3f} | "
            f"{np.mean(np.abs(z) > 1.96):.3f} |"
        )
    return rows


def of(found: list[Capacity], name: str) -> np.ndarray:
    """One number of several results."""
    return np.array([getattr(one, name) for one in found])


def voxels(folder: Path, halves: int = 40) -> list[str]:
    """Share of random halves of the voxels whose numbers differ by more than 1.96 errors."""
    data = np.load(folder / "data" / "haxby-1slice.npz")
    x, category, run = data["responses"].astype(float), data["category"], data["run"]
    mean = [[x[(category == c) & (run == r)].mean(0) for r in np.unique(run)] for c in np.unique(category)]
    patterns = torch.tensor(np.array(mean))
    groups = np.tile(np.unique(run), len(mean))
    rows = []
    for resample in (None, ("units",), ("groups", "units")):
        z, over = [], ""
        for seed in range(halves):
            order = torch.randperm(patterns.shape[2], generator=torch.Generator().manual_seed(seed))
            half = len(order) // 2
            pair = [
                capacity(patterns[:, :, part], groups=groups, n_draws=100, seed=seed, resample=resample)
                for part in (order[:half], order[half:])
            ]
            d = capacity_difference(*pair)
            over = d.errors_over
            z.append([d.difference / d.difference_se, *(getattr(d, n) / getattr(d, f"{n}_se") for n in NUMBERS[1:])])
        beyond = np.mean(np.abs(z) > 1.96, axis=0)
        rows.append(f"| {over} | {' | '.join(f'{share:.3f}' for share in beyond)} |")
    return rows


def gain_modulated(seed: int) -> Representation:
    """150 rows in 60 units, each with a gain of its own."""
    gain = torch.exp(0.5 * normal(150, 1, seed=seed + 1))
    return Representation(gain * normal(150, 60, seed=seed) * SPECTRUM.sqrt())


def correlated_runs(seed: int) -> Representation:
    """12 runs of 10 trials, correlated .5 within a run."""
    run = torch.arange(12).repeat_interleave(10)
    x = (normal(12, 60, seed=seed + 1)[run] + normal(120, 60, seed=seed)) / 2**0.5
    return Representation(x * SPECTRUM.sqrt(), groups=run)


def dimensions(repeats: int) -> list[str]:
    """Coverage of the participation ratio of the population by its estimators."""
    truth = float(SPECTRUM.sum() ** 2 / SPECTRUM.square().sum())
    rows = []
    for name, make in (("rows with a gain each", gain_modulated), ("12 runs of 10 trials", correlated_runs)):
        for estimator in ("unbiased", "wishart"):
            found = [get("participation_ratio_corrected")(make(2 * i), estimator=estimator) for i in range(repeats)]
            value, error = (np.array([getattr(one, key) for one in found]) for key in ("value", "stderr"))
            covered = np.mean(np.abs(value - truth) <= 1.96 * error)
            rows.append(f"| {name}, {estimator} | {truth:.1f} | {value.mean():.1f} | {value.std(ddof=1):.2f} | "
                        f"{np.sqrt(np.mean(error**2)):.2f} | {covered:.3f} |")  # fmt: skip
    return rows


def main() -> None:
    """Print the tables, and keep them if asked."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--repeats", type=int, default=200)
    asked.add_argument("--shared", type=Path)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    begin = time.perf_counter()
    lines = [
        "| six manifolds of 10 points, 100 draws | SD | rms error | coverage | two sessions differ |",
        "|---" * 5 + "|",
    ]
    lines += [row for resample in (None, "trials") for row in manifolds(options.repeats, resample)]
    if options.shared:
        lines += ["", f"| 40 halves of 530 voxels, errors over | {' | '.join(NUMBERS)} |", "|---" * 8 + "|"]
        lines += voxels(options.shared)
    lines += ["", "| participation ratio | truth | mean | SD | rms error | coverage |", "|---" * 6 + "|"]
    lines += dimensions(options.repeats)
    lines += ["", f"{machine(PACKAGES, torch.get_num_threads())}, {time.perf_counter() - begin:.0f} s"]
    print("\n".join(lines))
    if options.write:
        keep("error_coverage", lines)


if __name__ == "__main__":
    main()
