"""Are capacity and geometry recovered from noisy trials? Bias and coverage of the noise-corrected numbers.

    python benchmarks/trial_noise.py [--repeats 12] [--write]

Known manifolds (six classes of ten stimuli: Gaussian clouds and spheres of several dimensions around random centres)
plus trial noise: isotropic, correlated between units (eigenvalues 1/i), or Poisson-like (variance by the rate of each
unit, with a part that all units share). SNR: mean square of the responses over the variance of a trial. The truth is
the mean of noise-free capacities of the same stimuli, 200 draws each. --write keeps the table in
benchmarks/RESULTS.md. Some 15 minutes on one core.
"""

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from keeping import keep, machine
from torch import Tensor

from geomfeat.geometry.manifolds import NoiseCorrectedCapacity, capacity, noise_corrected_capacity

NUMBERS = ("capacity", "dimension", "radius", "utility", "center_alignment", "axis_alignment", "center_axis_alignment")
PACKAGES = ("torch", "numpy")
P, M = 6, 10
# Name, dimension of a manifold (0: all units), units, radius over the length of the centres, on a sphere.
SHAPES = (
    ("cloud, 60 of 60 units", 0, 60, 1.0, False),
    ("cloud, 5 of 60", 5, 60, 0.6, False),
    ("cloud, 3 of 40", 3, 40, 0.5, False),
    ("sphere, 4 of 100", 4, 100, 0.8, True),
)
NOISES = ((8, 0.3, "isotropic"), (16, 0.3, "correlated"), (20, 0.3, "Poisson-like"), (12, 1.0, "Poisson-like"),
          (8, 1.0, "correlated"), (8, 3.0, "isotropic"))  # fmt: skip


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def stimuli(d: int, n: int, radius: float, sphere: bool, seed: int) -> Tensor:
    """(P, M, n) noise-free responses."""
    source = torch.Generator().manual_seed(seed)
    basis = math.sqrt(n) * torch.linalg.qr(normal(source, P, n, d or n))[0].mT / math.sqrt(1 if sphere else d or n)
    inside = normal(source, P, M, d or n)
    inside = inside / torch.linalg.vector_norm(inside, dim=2, keepdim=True) if sphere else inside
    return normal(source, P, 1, n) + radius * inside @ basis


def measured(x: Tensor, k: int, snr: float, noise: str, seed: int) -> Tensor:
    """(P, M, k, n) responses in k trials."""
    source, n = torch.Generator().manual_seed(seed), x.shape[2]
    size = (x.square().mean() / snr).sqrt()
    e = normal(source, P, M, k, n)
    if noise == "correlated":
        spectrum = 1 / torch.arange(1, n + 1, dtype=torch.float64)
        turned = torch.linalg.qr(normal(torch.Generator().manual_seed(5), n, n))[0]
        e = e @ (turned * (spectrum / spectrum.mean()).sqrt()) @ turned.T
    if noise == "Poisson-like":
        rate = x - x.min() + 0.2
        e = (rate / rate.mean()).sqrt()[:, :, None] * (0.9 * e + math.sqrt(0.19) * normal(source, P, M, k, 1))
    return x[:, :, None] + size * e


def rows_of(shape: tuple[str, int, int, float, bool], repeats: int) -> tuple[list[str], list[np.ndarray]]:
    """A row of the table for each kind of noise, and z of every number in every repeat."""
    name, d, n, radius, sphere = shape
    rows, every = [], []
    for k, snr, noise in NOISES:
        z, bias, reliable, plain = [], [], [], []
        for i in range(repeats):
            x = stimuli(d, n, radius, sphere, seed=i % 4)
            true = truth(x, f"{name}{i % 4}")
            found = noise_corrected_capacity(measured(x, k, snr, noise, seed=1000 + i), seed=i)
            reliable.append(found.reliability)
            plain.append([getattr(found.measured, q) / true[q] - 1 for q in NUMBERS[:3]])
            if found.estimates["capacity"].ok:
                z.append([distance(found, q, true[q]) for q in NUMBERS])
                bias.append([found.estimates[q].value / true[q] - 1 for q in NUMBERS[:3]])
        cells = [f"{a:+.0%} → {b:+.1%}" for a, b in zip(np.mean(plain, 0), np.mean(bias, 0), strict=True)]
        covered = np.mean(np.abs(z) <= 1.96, axis=0)
        rows.append(f"| {name}; {noise}, SNR {snr:g}, {k} trials | {np.mean(reliable):.2f} | {' | '.join(cells)} | "
                    f"{' | '.join(f'{share:.2f}' for share in covered)} |")  # fmt: skip
        print(rows[-1], flush=True)
        every.append(np.array(z))
    return rows, every


def distance(found: NoiseCorrectedCapacity, name: str, true: float) -> float:
    """How many of its errors a number is from the truth."""
    one = found.estimates[name]
    return (one.value - true) / (one.stderr or math.nan)


def remembered(make: Callable[[Tensor], dict[str, float]]) -> Callable[[Tensor, str], dict[str, float]]:
    """The truth of each set of stimuli, computed once."""
    known: dict[str, dict[str, float]] = {}

    def found(x: Tensor, key: str) -> dict[str, float]:
        if key not in known:
            known[key] = make(x)
        return known[key]

    return found


@remembered
def truth(x: Tensor) -> dict[str, float]:
    """Noise-free numbers: the mean over 20 sets of 200 draws."""
    found = [capacity(x, seed=10**6 + i, resample=None) for i in range(20)]
    return {name: float(np.mean([getattr(one, name) for one in found])) for name in NUMBERS}


def main() -> None:
    """Print the table, and keep it if asked."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--repeats", type=int, default=12)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    begin = time.perf_counter()
    short = [name.replace("_alignment", "") for name in NUMBERS]
    lines = [
        "| manifolds and noise | reliability | capacity: bias before → after | dimension | radius | "
        + " | ".join(f"covered: {name}" for name in short) + " |",
        "|---" * (5 + len(NUMBERS)) + "|",
    ]  # fmt: skip
    parts = [rows_of(shape, options.repeats) for shape in SHAPES]
    lines += [row for rows, _ in parts for row in rows]
    z = np.concatenate([one for _, each in parts for one in each])
    all_covered = " | ".join(f"{share:.3f}" for share in np.mean(np.abs(z) <= 1.96, axis=0))
    lines += [f"| all | | | | | {all_covered} |", ""]
    lines += [f"{machine(PACKAGES, torch.get_num_threads())}, {time.perf_counter() - begin:.0f} s"]
    print("\n".join(lines))
    if options.write:
        keep("trial_noise", lines)


if __name__ == "__main__":
    main()
