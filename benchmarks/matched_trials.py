"""Do capacities of unequal numbers of trials and units agree once they are matched? False positives at 5 %.

    python benchmarks/matched_trials.py [--repeats 40] [--write]

Gaussian manifolds (6 conditions in 30 units around fixed centres): two samples of one distribution with other numbers
of trials, or one of them with a third of the units left out. Unmatched: the difference of the plain capacities over
its error. --write keeps the table in benchmarks/RESULTS.md. Some seven minutes on one core.
"""

import argparse
import time

import numpy as np
import torch
from keeping import keep, machine
from torch import Tensor

from geomfeat.geometry.manifolds import capacity, capacity_difference, matched_capacities

P, N = 6, 30
# Trials and units of the two samples.
PAIRS = (((5, N), (15, N)), ((5, N), (40, N)), ((10, N), (10, 20)))
NUMBERS = ("capacity", "dimension", "radius", "center_alignment")
PACKAGES = ("torch", "numpy")


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trials(m: int, units: int, seed: int) -> Tensor:
    """(P, m, units): centres of variance 1 in each unit, the same always, and trials of variance 1 around them."""
    return (normal(P, 1, N, seed=0) + normal(P, m, N, seed=10**6 + seed))[:, :, :units]


def rows_of(pair: tuple[tuple[int, int], tuple[int, int]], repeats: int) -> str:
    """A row of the table: mean capacities and false positives, plain and matched."""
    plain, matched, z, z_plain = [], [], [], []
    for i in range(repeats):
        both = {name: trials(*size, seed=2 * i + j) for j, (name, size) in enumerate(zip("ab", pair, strict=True))}
        alone = [capacity(x, n_draws=100, seed=i, resample="trials") for x in both.values()]
        gap = capacity_difference(*alone)
        plain.append([c.capacity for c in alone])
        z_plain.append(gap.difference / gap.difference_se)
        found = matched_capacities(both, repeats=10, n_draws=50, seed=i)
        matched.append(found.mean["capacity"].tolist())
        z.append([value / error for value, error in (found.difference("a", "b", q) for q in NUMBERS)])
    beyond = [f"{share:.3f}" for share in np.mean(np.abs(z) > 1.96, axis=0)]
    (a, b), (c, d) = np.mean(plain, axis=0), np.mean(matched, axis=0)
    sizes = " and ".join(f"{m} trials, {n} units" for m, n in pair)
    return (f"| {sizes} | {a:.2f}, {b:.2f} | {np.mean(np.abs(z_plain) > 1.96):.3f} | {c:.2f}, {d:.2f} | "
            f"{' | '.join(beyond)} |")  # fmt: skip


def main() -> None:
    """Print the table, and keep it if asked."""
    asked = argparse.ArgumentParser(description="False positives of capacities of unequal numbers of trials and units")
    asked.add_argument("--repeats", type=int, default=40)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    begin = time.perf_counter()
    lines = [
        "| two samples of one distribution | plain capacities | they differ | matched capacities | "
        + " | ".join(f"differ: {name}" for name in NUMBERS) + " |",
        "|---" * (4 + len(NUMBERS)) + "|",
    ]  # fmt: skip
    lines += [rows_of(pair, options.repeats) for pair in PAIRS]
    lines += ["", f"{machine(PACKAGES, torch.get_num_threads())}, {time.perf_counter() - begin:.0f} s"]
    print("\n".join(lines))
    if options.write:
        keep("matched_trials", lines)


if __name__ == "__main__":
    main()
