"""A million samples of 512 features, streamed in batches: CKA, spectrum, dimensions, NC1, capacity, a linear probe.

    python benchmarks/million_samples.py [--samples N] [--write]

The features are made batch by batch, in float32, and never held together: they would take 2 GB for each of two layers.
The probe takes two passes over them; beside it, as a way of its own, scikit-learn's probe by stochastic gradient
descent, tested on the later half of the samples before it is trained on them. Every way runs in a process of its own,
whose peak resident memory is that of all it has loaded. --write keeps the table in benchmarks/RESULTS.md. The exit code
is 1 where the peak of all of them together is above 1.5 GB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from keeping import keep, machine, memory
from sklearn.linear_model import SGDClassifier
from torch import Tensor

from geomfeat.geometry import FittedProbe, StreamingCKA, StreamingMoments, StreamingPoints, StreamingProbe, capacity
from geomfeat.numerics import stream

D, CLASSES, BATCH, LIMIT_GB = 512, 10, 4096, 1.5
WAYS = ("batches alone", "CKA", "moments", "points", "probe", "probe by SGD", "all")
PACKAGES = ("torch", "numpy", "scikit-learn")


def batches(n: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Features of a layer, those of the next one, labels, and which samples they are."""
    shape = stream(0, "million samples")
    means = torch.randn(CLASSES, D, generator=shape)
    scale = torch.arange(1, D + 1) ** -0.5
    mix = torch.randn(D, D, generator=shape) / D**0.5
    for first in range(0, n, BATCH):
        noise, index = stream(1, "million samples", first), torch.arange(first, min(n, first + BATCH))
        labels = torch.randint(CLASSES, (len(index),), generator=noise)
        x = 0.01 * means[labels] + torch.randn(len(index), D, generator=noise) * scale + 1
        yield x, torch.relu(x @ mix), labels, index


def streamed(n: int, way: str) -> str:
    """What the streams of a way find."""
    if way == "probe by SGD":
        return by_sgd(n)
    cka, moments, points = StreamingCKA(), StreamingMoments(CLASSES), StreamingPoints(CLASSES, most=100)
    probe = StreamingProbe(CLASSES)
    for x, y, labels, index in batches(n):
        if way in ("CKA", "all"):
            cka.update({"layer": x, "next": y})
        if way in ("moments", "all"):
            moments.update(x, labels)
        if way in ("points", "all"):
            points.update(x, labels, index)
        if way in ("probe", "all"):
            probe.update(x, labels, index)
    found = []
    if way in ("CKA", "all"):
        found.append(f"CKA {float(cka.result().values[0, 1]):.4f}")
    if way in ("moments", "all"):
        m = moments.result()
        found.append(f"participation ratio {m.participation_ratio:.2f}, {len(m.eigenvalues)} eigenvalues")
        found.append(f"NC1 {m.nc1:.1f}")
    if way in ("points", "all"):
        found.append(f"capacity of {CLASSES * 100} points {capacity(points.result(), n_draws=50).capacity:.4f}")
    if way in ("probe", "all"):
        found.append(tested(probe.fitted(), n))
    return ", ".join(found) or "-"


def tested(fitted: FittedProbe, n: int) -> str:
    """The second pass of the probe."""
    for x, _, labels, index in batches(n):
        fitted.update(x, labels, index)
    accuracy = fitted.result()
    return f"accuracy {accuracy.accuracy:.4f} ± {accuracy.stderr:.4f}"


def by_sgd(n: int) -> str:
    """The accuracy of scikit-learn's logistic probe, in one pass."""
    probe, right, later = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=0), 0.0, 0
    for x, _, labels, index in batches(n):
        if int(index[0]) >= n // 2:
            right += probe.score(x.numpy(), labels.numpy()) * len(index)
            later += len(index)
        probe.partial_fit(x.numpy(), labels.numpy(), classes=range(CLASSES))
    return f"accuracy {right / max(1, later):.4f}"


def row(way: str, n: int) -> tuple[str, float]:
    """A line of the table, from a process of its own, and its peak in GB."""
    command = [sys.executable, __file__, "--way", way, "--samples", str(n)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("\t")
    found, seconds, peak = out[0], float(out[1]), float(out[2])
    return f"| {way} | {seconds:.0f} s | {peak:.2f} GB | {found} |", peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--only", choices=WAYS, action="append")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.way:
        start = time.process_time()
        found = streamed(options.samples, options.way)
        peak = memory("VmHWM") / 1e3
        print(f"{found}\t{time.process_time() - start}\t{peak}")
        return 0
    lines = [f"| {options.samples:,} samples of {D} features | processor | peak memory | found |", "|---|---|---|---|"]
    peaks = {}
    for way in options.only or WAYS:
        line, peaks[way] = row(way, options.samples)
        print(line, flush=True)
        lines.append(line)
    lines.append(f"\n{machine(PACKAGES, torch.get_num_threads())}")
    if options.write:
        keep("million_samples", lines)
    return int(max(peaks.values()) > LIMIT_GB)


if __name__ == "__main__":
    sys.exit(main())
