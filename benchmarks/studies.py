"""How the cost of measures and of whole studies grows with samples and features.

    OMP_NUM_THREADS=1 python benchmarks/studies.py [measures] [studies] [comparisons] [--write]

measures: CPU seconds of every default measure of one layer at growing numbers of samples n and of features d, the
smaller of two runs, with the exponents between the two largest sizes. Beyond a size that the note of a number gives,
some samples are drawn, and the exponent is about 0. studies: `gf.analyze` of networks of 20 layers of 512 units, all
default measures, no location and no UMAP, each in a process of its own; seconds and the peak of memory. comparisons:
`gf.compare` of two such networks, with its default measures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from typing import Any

from keeping import keep, machine, memory

SAMPLES = (500, 1000, 2000, 4000, 8000, 16000)
FEATURES = (64, 128, 256, 512, 1024)
AT_SAMPLES, AT_FEATURES = 2000, 256
LAYERS, WIDTH, CLASSES = 20, 512, 10
APART = 2.0  # spread of class means over that within classes: deep random layers keep such classes separable
STUDIES = (2000, 20000)


def layer(n: int, d: int) -> Any:
    """Features of a random ReLU layer on samples of ten classes, and outputs of a random read-out of them."""
    import torch

    from geomfeat.types import Representation

    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % CLASSES
    inputs = 0.7 * torch.randn(CLASSES, d, generator=draws)[labels] + torch.randn(n, d, generator=draws)
    x = torch.relu(inputs @ torch.randn(d, d, generator=draws) / d**0.5)
    return Representation(x, labels, outputs=x @ torch.randn(d, CLASSES, generator=draws) / d**0.5, layer="layer")


def cpu_seconds(name: str, n: int, d: int) -> float:
    from geomfeat.registry import get

    times = []
    for _ in range(2):
        one = layer(n, d)  # of its own, so that nothing of an earlier run is at hand
        start = time.process_time()
        found = get(name).run(one)
        times.append(time.process_time() - start)
        failed = [estimate.note for estimate in found.values() if not estimate.ok]
        if failed:
            print(f"{name} at n = {n}, d = {d}: {failed[0]}", file=sys.stderr)
    return min(times)


def measures() -> list[str]:
    """The table of all default measures of a layer."""
    from geomfeat.registry import available

    names = [m.name for m in available() if m.scope == "layer" and m.by_default]
    for name in names:
        cpu_seconds(name, 200, 32)  # imports and compilation
    heads = [*(f"n = {n}" for n in SAMPLES), "exponent in n", *(f"d = {d}" for d in FEATURES), "exponent in d"]
    lines = ["| measure | " + " | ".join(heads) + " |", "|" + " --- |" * (len(heads) + 1)]
    for name in names:
        by_n = [cpu_seconds(name, n, AT_FEATURES) for n in SAMPLES]
        by_d = [cpu_seconds(name, AT_SAMPLES, d) for d in FEATURES]
        cells = [
            *map(_seconds, by_n), _exponent(by_n, SAMPLES), *map(_seconds, by_d), _exponent(by_d, FEATURES)
        ]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _exponent(values: list[float], sizes: tuple[int, ...]) -> str:
    if values[-1] < 0.02:
        return "–"
    return f"{math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2]):.1f}"


def network(seed: int) -> Any:
    """A deep random ReLU network."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(LAYERS)]
    for block in blocks:
        nn.init.normal_(block[0].weight, std=(2 / WIDTH) ** 0.5)  # type: ignore[arg-type]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, CLASSES))


def one(what: str, n: int) -> dict[str, float]:
    """One study or comparison; in a process of its own."""
    import torch

    import geomfeat as gf
    from geomfeat.study.options import StudyOptions

    models = {f"network {seed}": network(seed) for seed in (1, 0)}
    labels = torch.arange(n) % CLASSES
    inputs = APART * torch.randn(CLASSES, WIDTH)[labels] + torch.randn(n, WIDTH)

    def work(m: int) -> Any:
        if what == "comparisons":
            return gf.compare(models, inputs[:m], labels[:m], progress=False).profiles
        options = StudyOptions(umap=False)
        found = gf.analyze(
            models["network 0"], inputs[:m], labels[:m], location=False, progress=False, options=options
        )  # fmt: skip
        return found.table

    work(100)
    wall, cpu = time.perf_counter(), time.process_time()
    table = work(n)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": memory("VmHWM") / 1e3}
    if what == "studies":
        assert bool(table["ok"].all()), table[~table["ok"]]["note"].tolist()
    return found


def whole(what: str) -> list[str]:
    """The table of studies, or of comparisons."""
    lines = ["| samples | wall s | CPU s | peak GB |", "| --- | --- | --- | --- |"]
    for n in STUDIES:
        command = [sys.executable, __file__, what, "--one", str(n)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        lines.append(f"| {n:,} | {found['wall']:.0f} | {found['cpu']:.0f} | {found['peak']:.1f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["measures", "studies", "comparisons"])
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.parts[0], options.one)))
        return
    for part in options.parts:
        table = measures() if part == "measures" else whole(part)
        said = machine(("torch", "numpy", "scipy", "scikit-learn"), int(os.environ.get("OMP_NUM_THREADS", "2")))
        print(said)
        if options.write:
            keep("studies", [said, "", *table], f", {part}")


if __name__ == "__main__":
    main()
