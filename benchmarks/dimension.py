"""Intrinsic dimension beside the peers' own packages: seconds, values and memory on the same 10,000 x 200 points.

    python benchmarks/dimension.py [--dadapy PYTHON] [--large] [--write]

Every call runs in a process of its own, after one of its kind on 500 points (which compiles, and imports what is
needed); the tools take turns, three rounds, medians. 'memory' is what the call takes at its highest, where
the points (16 MB) are loaded already. dadapy needs numpy < 2, hence an environment of its own: give its Python.
--large adds one run of 100,000 x 200 points, of some minutes. --write keeps the table in benchmarks/RESULTS.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from keeping import added_memory, keep, machine, memory

PACKAGES = ("torch", "numpy", "numba", "scipy", "scikit-dimension")

JOBS = {
    "TwoNN (likelihood)": ("geomfeat", "scikit-dimension", "dadapy"),
    "MLE, 20 neighbours": ("geomfeat", "scikit-dimension"),
    "GRIDE, 2 to 64 neighbours": ("geomfeat", "scikit-dimension", "dadapy"),
}
GOAL = 1.5


def points(n: int) -> np.ndarray:
    """A curved sheet of 8 dimensions in 200 units, with a little noise in all of them."""
    draw = np.random.default_rng(0)
    flat = draw.uniform(-1, 1, (n, 8))
    curved = np.concatenate([flat, 0.3 * np.sin(2 * flat @ draw.normal(size=(8, 30)))], 1)
    return curved @ draw.normal(size=(38, 200)) / 38**0.5 + 0.001 * draw.normal(size=(n, 200))


def call(tool: str, job: str, x: np.ndarray) -> list[float]:
    """The estimates of one tool: one number, or one a scale."""
    if tool == "geomfeat":
        import torch

        from geomfeat.geometry.dimension import dimension_curve, mle_dimension, two_nn

        t = torch.from_numpy(x)
        if job.startswith("TwoNN"):
            return [two_nn(t).value]
        return [mle_dimension(t, 20).value] if job.startswith("MLE") else list(dimension_curve(t).value)
    if tool == "scikit-dimension":
        from skdim import id as estimators

        if job.startswith("TwoNN"):
            return [float(estimators.TwoNN(discard_fraction=0, method="mle").fit(x).dimension_)]
        if job.startswith("MLE"):
            return [float(estimators.MLE(K=20).fit(x, n_neighbors=20).dimension_)]
        found = estimators.GRIDE(multiscale=True, range_max=64).fit(x)
        return [float(v) for v in np.ravel(np.asarray(found.dimension_))]
    from dadapy import Data  # pyright: ignore[reportMissingImports]

    data = Data(x, maxk=2 if job.startswith("TwoNN") else 64, n_jobs=2)
    if job.startswith("TwoNN"):
        return [float(data.compute_id_2NN(algorithm="ml")[0])]
    return [float(v) for v in data.return_id_scaling_gride(range_max=64)[0]]


def work(tool: str, job: str, file: str) -> None:
    """In a process of its own: print seconds, megabytes added to the peak, megabytes in all, and the estimates."""
    x = np.load(file)
    call(tool, job, x[:500])
    values: list[float] = []
    start = time.perf_counter()
    added = added_memory(lambda: values.extend(call(tool, job, x)))
    seconds = time.perf_counter() - start
    print("RESULT", json.dumps([seconds, added, memory("VmHWM"), values]))


def run(python: str, tool: str, job: str, file: str) -> tuple[float, float, float, list[float]]:
    """What `work` says in that Python."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    if tool == "geomfeat":
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    out = subprocess.run(
        [python, str(Path(__file__).resolve()), "--work", tool, job, file],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if out.returncode:
        raise SystemExit(f"{tool}, {job}: {out.stderr[-2000:]}")
    line = next(line for line in out.stdout.splitlines() if line.startswith("RESULT"))
    return tuple(json.loads(line[7:]))


def rows(pythons: dict[str, str], file: str) -> list[str]:
    """One row a job: seconds, memory and estimate of every tool, and how many times geomfeat's the seconds are."""
    out = []
    for job, tools in JOBS.items():
        tools = [tool for tool in tools if tool in pythons]
        measured = {tool: [] for tool in tools}
        for _ in range(3):
            for tool in tools:
                measured[tool].append(run(pythons[tool], tool, job, file))
        cells = [job]
        ours = statistics.median(m[0] for m in measured["geomfeat"])
        exact = measured["geomfeat"][0][3]
        for tool in ("geomfeat", "scikit-dimension", "dadapy"):
            if tool not in measured:
                cells.append("")
                continue
            seconds, memory = (statistics.median(m[i] for m in measured[tool]) for i in (0, 1))
            values = measured[tool][0][3]
            text = f"{seconds:.2f} s, {memory:.0f} MB, d = {values[0]:.3f}" + (
                f" to {values[-1]:.3f}" if len(values) > 1 else ""
            )
            if tool != "geomfeat":
                error = max(abs(a / b - 1) for a, b in zip(values, exact, strict=False))
                text += f": **{seconds / ours:.2g}x** (goal {GOAL}), differs by {error:.0e}"
            cells.append(text)
        out.append(f"| {' | '.join(cells)} |")
        print(out[-1], flush=True)
    return out


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description="Intrinsic dimension beside the peers' own packages.")
    parser.add_argument("--dadapy", default="", help="a Python that has dadapy")
    parser.add_argument("--large", action="store_true", help="100,000 x 200 points too")
    parser.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    pythons = {"geomfeat": sys.executable, "scikit-dimension": sys.executable}
    if options.dadapy:
        pythons["dadapy"] = options.dadapy
    lines = ["| 10,000 x 200 | geomfeat | scikit-dimension | dadapy |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "points.npy")
        np.save(file, points(10_000))
        lines += rows(pythons, file)
        if options.large:
            np.save(file, points(100_000))
            seconds, _, peak, values = run(sys.executable, "geomfeat", "TwoNN (likelihood)", file)
            lines.append(
                f"| TwoNN, 100,000 x 200 | {seconds:.0f} s, {peak / 1e3:.2f} GB of the whole process (goal 4 GB), "
                f"d = {values[0]:.3f} | | |"
            )
            print(lines[-1], flush=True)
    lines += ["", machine(PACKAGES, 2)]
    if options.write:
        keep("dimension", lines)


if __name__ == "__main__":
    main()
