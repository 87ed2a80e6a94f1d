"""What time courses cost, and how often their cluster tests are wrong.

    python benchmarks/over_time.py [--repeats 200] [--write]

500 trials of 8 conditions in 10 runs, 200 units and 50 time bins, with a signal from bin 25 on: seconds for each
in all bins with errors over runs. False positives of the cluster test at 5 % on noise whose strength differs between
runs (8 runs, 128 trials, 9 units, 8 bins). --write keeps the table in benchmarks/RESULTS.md.
"""

import argparse
import time

import numpy as np
import torch
from keeping import keep, machine

import geomfeat as gf

MEASURES = ("capacity", "linear_probe_accuracy", "participation_ratio", "nc1", "cka_linear_unbiased")
GOAL = 60.0  # seconds, of capacity
RUNS, TRIALS, CONDITIONS, BINS = 8, 128, 8, 8
PACKAGES = ("torch", "numpy", "scikit-learn")


def large() -> gf.Recording:
    """A recording of the size that the goal is about, in two areas of 100 units each."""
    noise = np.random.default_rng(0)
    condition, run = np.arange(500) % 8, np.repeat(np.arange(10), 50)
    x = noise.standard_normal((500, 200, 50))
    x[:, :, 25:] += 0.5 * noise.standard_normal((8, 200))[condition][:, :, None]
    return gf.Recording(x, condition, run=run, time=0.02 * np.arange(50), area=["a"] * 100 + ["b"] * 100)


def times() -> list[str]:
    """Seconds and CPU seconds of every measure in all bins."""
    two = large()
    one = gf.Recording(two.x, two.condition, run=two.run, time=two.time)
    gf.over_time(one.select(time=(0.6, 0.62)), MEASURES[:-1], progress=False)  # compiles the loops
    rows = []
    for name in MEASURES:
        recording = two if name.startswith("cka") else one
        rows.append(_timed(name, lambda recording=recording, name=name: gf.over_time(recording, name, progress=False)))
    return [*rows, _timed("trajectories", lambda: gf.trajectories(one))]


def _timed(name: str, work) -> str:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    goal = f"{GOAL:g}, {'met' if wall < GOAL else 'missed'}" if name == "capacity" else ""
    print(name, round(wall, 1), round(cpu, 1), flush=True)
    return f"| {name} | {wall:.1f} | {cpu:.1f} | {goal} |"


def noise_alone(seed: int) -> gf.Recording:
    """No signal in any bin; runs differ in the size of their responses."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(TRIALS, 18, BINS, generator=draws, dtype=torch.float64)
    run = np.repeat(np.arange(RUNS), TRIALS // RUNS)
    gain = 1 + torch.rand(RUNS, generator=draws, dtype=torch.float64)[torch.as_tensor(run)]
    area = ["a"] * 9 + ["b"] * 9
    return gf.Recording(
        x * gain[:, None, None], np.arange(TRIALS) % CONDITIONS, run=run, area=area, time=0.1 * np.arange(BINS)
    )


def false_clusters(repeats: int) -> list[str]:
    """Share of recordings of noise with any significant cluster."""
    chance = 1 / CONDITIONS
    tests = {
        "squared distance against 0": lambda r: _distance(r).test(),
        "squared distance, areas": lambda r: _distance(r, None).difference(areas=("a", "b")).test(),
        "CKA of areas against 0": lambda r: gf.over_time(r, "cka_linear_unbiased", progress=False).test(),
        "participation ratio, areas": lambda r: _areas(r, "participation_ratio"),
        "participation ratio, baseline": lambda r: _baseline(r, "participation_ratio"),
        "probe accuracy against chance": lambda r: _one(r, "linear_probe_accuracy").test(chance),
        "probe accuracy, areas": lambda r: _areas(r, "linear_probe_accuracy"),
        "probe accuracy, baseline": lambda r: _baseline(r, "linear_probe_accuracy"),
        "NC1, areas": lambda r: _areas(r, "nc1"),
        "NC1, baseline": lambda r: _baseline(r, "nc1"),
    }
    rows = []
    for name, test in tests.items():
        share = np.mean([len(test(noise_alone(seed)).found) > 0 for seed in range(repeats)])
        print(name, share, flush=True)
        rows.append(f"| {name} | {share:.3f} | {(0.05 * 0.95 / repeats) ** 0.5:.3f} |")
    return rows


def _distance(recording: gf.Recording, area: str | None = "a") -> gf.TimeCourse:
    return gf.trajectories(recording).select(quantity="squared_distance", condition="all pairs", area=area)


def _one(recording: gf.Recording, measure: str) -> gf.TimeCourse:
    return gf.over_time(recording.select(area="a"), measure, progress=False)


def _areas(recording: gf.Recording, measure: str) -> gf.ClusterTest:
    return gf.over_time(recording, measure, progress=False).difference(areas=("a", "b")).test()


def _baseline(recording: gf.Recording, measure: str) -> gf.ClusterTest:
    return _one(recording, measure).difference(baseline=(0.0, 0.3)).test()


def main() -> None:
    """Measure both, and keep the tables."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--repeats", type=int, default=200)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    lines = [
        "| 500 trials, 200 units, 50 bins, 10 runs | seconds | CPU seconds | goal |", "|---|---|---|---|", *times(), "",
        "| cluster test at 5 % on noise | false | binomial error |", "|---|---|---|", *false_clusters(options.repeats),
        "", machine(PACKAGES, options.threads),
    ]  # fmt: skip
    print("\n".join(lines))
    if options.write:
        keep("over_time", lines)


if __name__ == "__main__":
    main()
