"""Speed and agreement of RSA beside rsatoolbox, on the same data in one run.

    python benchmarks/rsa.py [--write]

Crossnobis: 100 conditions x 6 runs x 1000 units. Inference: 4 models and 8 subjects on 92 conditions, 1,000 bootstrap
samples, with the noise ceiling in every sample, resampling stimuli, and stimuli and subjects together. Times are medians
of calls that take turns (three, or one where the peer takes minutes). --write keeps the tables in benchmarks/RESULTS.md.
Peer: pip install rsatoolbox.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from geomfeat.kernels import RDMs, condition_residuals, noise_precision, rank_by_rsa, rdm
from geomfeat.numerics import WORKING, stream

RESULTS = Path(__file__).parent / "RESULTS.md"
MARKS = "<!-- rsa: written by benchmarks/rsa.py -->", "<!-- end of rsa -->"
PEER_NAMES = {"cosine": "cosine", "rho_a": "rho-a", "correlation": "corr", "whitened_cosine": "cosine_cov"}


def in_turn(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def crossnobis() -> list[str]:
    """Rows for no precision, a diagonal one and a full one."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    x = torch.randn(600, 1000, generator=stream(0, "crossnobis"), dtype=WORKING).numpy()
    conditions, runs = np.tile(np.arange(100), 6), np.repeat(np.arange(6), 100)
    data = Dataset(x, obs_descriptors={"condition": conditions, "run": runs})
    residuals, dof = condition_residuals(x, conditions)
    full = noise_precision(residuals, dof=dof)
    diagonal = noise_precision(residuals, dof=dof, estimator="variances")
    rows = []
    for name, ours, theirs, goal in (
        ("identity", None, None, 10),
        ("diagonal precision", diagonal, torch.diag(diagonal).numpy(), None),
        ("full precision", full, full.numpy(), None),
    ):
        calls = {
            "geomfeat": lambda p=ours: rdm(x, conditions, runs=runs, dissimilarity="crossnobis", precision=p),
            "peer": lambda p=theirs: calc_rdm(data, "crossnobis", "condition", noise=p, cv_descriptor="run"),
        }
        error = np.abs(calls["geomfeat"]().vectors[0].numpy() - calls["peer"]().dissimilarities[0]).max()
        rows.append(row(f"crossnobis, {name}", in_turn(calls, 7), f"{error:.0e}", goal))
    return rows


def inference() -> list[str]:
    """Rows for each comparator and what is resampled."""
    from rsatoolbox.inference import eval_bootstrap, eval_bootstrap_pattern
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs as PeerRDMs

    noise = stream(0, "inference")
    truth = torch.rand(4186, generator=noise, dtype=WORKING) + 0.5
    subjects = truth + torch.randn(8, 4186, generator=noise, dtype=WORKING).mul_(0.5)
    models = truth + torch.randn(4, 4186, generator=noise, dtype=WORKING).mul_(0.3)
    theirs = [ModelFixed(f"m{i}", row) for i, row in enumerate(models.numpy())]
    rows = []
    for comparator, goal in (("cosine", 5), ("correlation", None), ("rho_a", 5), ("whitened_cosine", None)):
        for over, peer in (("stimuli", eval_bootstrap_pattern), ("both", eval_bootstrap)):
            kept = {}

            def ours(comparator=comparator, over=over, kept=kept) -> None:
                names = tuple(f"m{i}" for i in range(4))
                kept["ours"] = rank_by_rsa(RDMs(models, names=names), RDMs(subjects), comparator, over=over)

            def theirs_(comparator=comparator, peer=peer, kept=kept) -> None:
                np.random.seed(0)  # noqa: NPY002  (the peer draws from the global generator)
                kept["peer"] = peer(theirs, PeerRDMs(subjects.numpy()), method=PEER_NAMES[comparator], N=1000)

            ours()
            seconds = in_turn({"geomfeat": ours, "peer": theirs_}, 1 if comparator == "rho_a" else 1)
            found = kept["ours"]
            order = [int(name[1]) for name in found.names]
            means = kept["peer"].evaluations.mean(0)[order]
            spread = kept["peer"].evaluations.std(0)[order] / found.samples.std(0).numpy()
            told = f"mean of samples {np.abs(means - found.samples.mean(0).numpy()).max():.0e}, spread x {spread.mean():.2f}"
            rows.append(row(f"1,000 samples over {over}, {comparator}", seconds, told, goal))
    return rows


def row(name: str, seconds: dict[str, float], error: str, goal: float | None) -> str:
    """One line of the table."""
    ours, peer = seconds["geomfeat"], seconds["peer"]
    line = f"| {name} | {ours:.3g} | {peer:.3g} | **{peer / ours:.3g}x** | {'' if goal is None else f'{goal:g}x'} | {error} |"
    print(line, flush=True)
    return line


def machine() -> str:
    """Where and with what."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "numba", "rsatoolbox"))
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}; "
        f"{time.strftime('%Y-%m-%d')}, load {load} at the end"
    )


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    head = ["| what | geomfeat, s | rsatoolbox, s | ratio | goal | difference |", "|---|---|---|---|---|---|"]
    print("\n".join(head))
    lines = [*head, *crossnobis(), *inference(), "", machine()]
    print(f"\n{lines[-1]}")
    if options.write:
        text = RESULTS.read_text()
        between = re.compile(re.escape(MARKS[0]) + ".*" + re.escape(MARKS[1]), re.S)
        body = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
        RESULTS.write_text(between.sub(lambda _: body, text))


if __name__ == "__main__":
    main()
