"""CKA of all pairs of layers, beside pytorch-cka: time, accuracy and peak memory; and streaming over 100,000 samples.

    python benchmarks/similarity.py [--write]

Layers of float32 features that share a signal, each with a mean of its own; unbiased estimator, median of rounds in
which all take their turn. 'error' is the largest difference to a float64 computation from whole Gram matrices (the peer
clamps values below 0; none of these is). Memory is the highest resident size less that before the call, in a process of
its own. 'products alone' are those of features by which half of all entries are formed, and nothing else, with their
rate beside that of one large product: no way through entries can be faster. CPU seconds are of all threads; beside
other work they say more than the clock. The peer has two ways in: `cka_from_features`, and hooks on a model
(`compute_cka`), here one whose layers hand out the features. --write keeps the tables in benchmarks/RESULTS.md.
Peer: pip install '.[bench]'.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from keeping import keep, machine
from torch import Tensor, nn

from geomfeat._numba.threads import in_threads
from geomfeat.geometry.similarity import StreamingCKA, cka_matrix
from geomfeat.geometry.similarity._gram_tiles import tiles_of
from geomfeat.numerics import stream

T = TypeVar("T")
PACKAGES = ("torch", "numpy", "pytorch-cka")

SIZES = {"20 layers 1000 x 512": (20, 1000, 512, 7), "10 layers 4000 x 1024": (10, 4000, 1024, 3)}
SAMPLES, LAYERS, WIDTH = 100_000, 20, 128


def layers(count: int, n: int, d: int) -> list[Tensor]:
    """Features of a shared signal, noise and a mean."""
    signal = torch.randn(n, 8, generator=stream(0, "benchmark", n))
    found = []
    for k in range(count):
        noise = stream(0, "benchmark", n, d, k)
        x = torch.randn(n, d, generator=noise).mul_(2)
        found.append(x.add_(signal @ torch.randn(8, d, generator=noise)).add_(torch.randn(d, generator=noise)))
    return found


class Handing(nn.Module):
    """A model whose layers put out given features."""

    def __init__(self, features: list[Tensor]) -> None:
        super().__init__()
        self.features = features
        self.layers = nn.ModuleList(nn.Identity() for _ in features)

    def forward(self, _: Tensor) -> None:
        for layer, x in zip(self.layers, self.features, strict=True):
            layer(x)


def ours(features: list[Tensor]) -> Tensor:
    return cka_matrix(features).values


def ours_with_errors(features: list[Tensor]) -> Tensor:
    return cka_matrix(features, stderr=True).values


def peer_features(features: list[Tensor]) -> Tensor:
    from cka import cka_from_features

    return cka_from_features(features, features)


def peer_model(features: list[Tensor]) -> Tensor:
    from cka import compute_cka

    model = Handing(features)
    loader = torch.utils.data.DataLoader(torch.zeros(len(features[0]), 1), batch_size=len(features[0]))
    names = [f"layers.{k}" for k in range(len(features))]
    return compute_cka(model, model, loader, layers=names, device="cpu", progress=False)[0]


def products_alone(features: list[Tensor]) -> None:
    """Half of the entries of all Gram matrices, in the tiles that `cka_matrix` takes, and nothing else."""
    arrays, tiles = [x.numpy() for x in features], tiles_of(len(features[0]))

    def one(i: int, _: int) -> None:
        rows, columns = tiles[i]
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for x in arrays:
            np.matmul(x[rows], x[columns].T, out=out)

    in_threads(one, len(tiles), share=1)


def large_product() -> float:
    """GFLOP/s of one product of 2048 x 2048 numbers in single precision, the best of five."""
    a, b = (torch.randn(2048, 2048, generator=stream(k, "product")).numpy() for k in range(2))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        np.matmul(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


WAYS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "geomfeat": ours,
    "geomfeat, stderr=True": ours_with_errors,
    "pytorch-cka, features": peer_features,
    "pytorch-cka, model": peer_model,
}


def exact(features: list[Tensor]) -> Tensor:
    """Unbiased CKA in float64, from whole Gram matrices (Song et al. 2012, eq. 5)."""
    n = len(features[0])
    flat, rows = [], []
    for x in features:
        centered = x.double() - x.double().mean(0)
        gram = centered @ centered.T
        gram.fill_diagonal_(0)
        rows.append(gram.sum(1))
        flat.append(gram.flatten())
    products = torch.stack([torch.stack([a @ b for b in flat]) for a in flat])
    r = torch.stack(rows)
    hsic = products + torch.outer(r.sum(1), r.sum(1)) / ((n - 1) * (n - 2)) - 2 / (n - 2) * r @ r.T
    return hsic / hsic.diagonal().sqrt() / hsic.diagonal().sqrt()[:, None]


def all_pairs(name: str) -> list[str]:
    """One row for every way."""
    count, n, d, rounds = SIZES[name]
    features = layers(count, n, d)
    truth = exact(features)
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in (*WAYS, "products alone")}
    errors = {}
    for _ in range(rounds):
        for way, work in WAYS.items():
            values, took = timed(work, features)
            seconds[way].append(took)
            errors[way] = float((values.double() - truth).abs().max())
        seconds["products alone"].append(timed(products_alone, features)[1])
    medians = {way: statistics.median(wall for wall, _ in s) for way, s in seconds.items()}
    cpu = {way: statistics.median(used for _, used in s) for way, s in seconds.items()}
    lines = []
    for way in seconds:
        ratio, of_cpu = (f"**{m[way] / m['geomfeat']:.2f}x**" if way != "geomfeat" else "" for m in (medians, cpu))
        start = f"| {name} | {way} | {medians[way]:.2f} s | {ratio} | {cpu[way]:.2f} s | {of_cpu} |"
        if way in WAYS:
            lines.append(f"{start} {errors[way]:.0e} | {peak(way, name):.0f} MB |")
        else:
            rate = count * n * (n + 1) * d / 1e9
            lines.append(f"{start} {rate / medians[way]:.0f} GFLOP/s ({rate / cpu[way]:.0f} a core) | |")
    return lines


def timed(work: Callable[[list[Tensor]], T], features: list[Tensor]) -> tuple[T, tuple[float, float]]:
    """What it gives, with the seconds of the clock and of all processors that it took."""
    start, used = time.perf_counter(), time.process_time()
    found = work(features)
    return found, (time.perf_counter() - start, time.process_time() - used)


def peak(way: str, name: str) -> float:
    """Megabytes that a call takes at its highest, in a fresh process."""
    command = [sys.executable, __file__, "--peak", way, "--size", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measured_peak(way: str, name: str) -> float:
    """The same, of this process."""
    if way == "streaming":
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        streamed(1000, "exact")
    else:
        WAYS[way](layers(2, 64, 8))  # what a first call loads
        features = layers(*SIZES[name][:3])
        Path("/proc/self/clear_refs").write_text("5")  # a new process starts with the highest mark of its parent
        before = memory("VmRSS")
        WAYS[way](features)
    return (memory("VmHWM") - before) / 1e3


def memory(field: str) -> float:
    """Kilobytes that this process holds now (VmRSS), or held at most (VmHWM)."""
    (found,) = re.findall(field + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(found)


def batches(size: int) -> Iterator[dict[str, Tensor]]:
    """100,000 samples of 20 layers of 128 units, made in pieces of 1000 that do not depend on the size of batches."""
    mixes = [torch.randn(8, WIDTH, generator=stream(1, "mix", k)) for k in range(LAYERS)]
    waiting: list[list[Tensor]] = []
    for piece in range(SAMPLES // 1000):
        noise = stream(2, piece)
        signal = torch.randn(1000, 8, generator=noise)
        waiting.append([signal @ mix + 2 * torch.randn(1000, WIDTH, generator=noise) + 1 for mix in mixes])
        if sum(len(w[0]) for w in waiting) >= max(size, 1000):
            joined = [torch.cat(parts) for parts in zip(*waiting, strict=True)]
            waiting = []
            for first in range(0, len(joined[0]), size):
                yield {str(k): x[first : first + size] for k, x in enumerate(joined)}


def streamed(size: int, method: str) -> tuple[float, Tensor]:
    """Seconds inside the stream, and the values."""
    found, seconds = StreamingCKA(method=method), 0.0
    for batch in batches(size):
        start = time.perf_counter()
        found.update(batch)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    values = found.result().values
    return seconds + time.perf_counter() - start, values


def streaming() -> list[str]:
    """Rows of the table of streams."""
    lines, truth = [], None
    for size, method in ((1000, "exact"), (125, "exact"), (1000, "minibatch")):
        seconds, values = streamed(size, method)
        truth = values if truth is None else truth
        away = float((values - truth).abs().max())
        name = method if method == "exact" else "minibatch of 1024"
        lines.append(f"| {name}, batches of {size} | {seconds:.1f} s | {away:.0e} |")
    lines.append(f"\nPeak memory of the exact stream: {peak('streaming', ''):.0f} MB (all features: 1024 MB).")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--peak", default="")
    parser.add_argument("--size", default="")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak:
        print(measured_peak(options.peak, options.size))
        return
    lines = ["| what | way | time | of geomfeat's | CPU | of geomfeat's | error | peak memory |", "|" + "---|" * 8]
    print("\n".join(lines), flush=True)
    for name in SIZES:
        rows = all_pairs(name)
        print("\n".join(rows), flush=True)
        lines += rows
    lines.append(f"\nOne product of 2048 x 2048 x 2048 in single precision: {large_product():.0f} GFLOP/s.")
    print(lines[-1], flush=True)
    head = [
        f"\n| {SAMPLES} samples, {LAYERS} layers of {WIDTH} | time | difference to the exact one |",
        "|---|---|---|",
    ]
    rows = [*head, *streaming(), f"\n{machine(PACKAGES, torch.get_num_threads())}"]
    print("\n".join(rows), flush=True)
    if options.write:
        keep("similarity", [*lines, *rows])


if __name__ == "__main__":
    main()
