"""Speed and agreement of RSA beside rsatoolbox, on the same data in one run.

    python benchmarks/rsa.py [--write]

Crossnobis: 100 conditions x 6 runs x 1000 units. Inference: 4 models and 8 subjects on 92 conditions, 1,000 bootstrap
samples, with the noise ceiling in every sample, resampling stimuli, and stimuli and subjects together; the peer is
timed on 2 to 40 samples and its time scaled. Times are medians of three calls that take turns (seven for crossnobis,
one where the peer is slow). 'difference' is the largest one of the RDMs, or of the similarities in three resamples.
--write keeps the table in benchmarks/RESULTS.md. Peer: pip install rsatoolbox.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from keeping import keep, machine

from geomfeat.geometry.rsa import RDMs, condition_residuals, noise_precision, rank_by_rsa, rdm
from geomfeat.geometry.rsa.bootstrap import resample
from geomfeat.geometry.rsa.compare import similarities
from geomfeat.numerics import WORKING, stream

PACKAGES = ("torch", "numpy", "numba", "rsatoolbox")

# Comparator: the peer's name, how many samples it is timed on (the time is scaled to 1,000), the goal.
PEERS = {
    "cosine": ("cosine", 40, 5),
    "correlation": ("corr", 40, None),
    "rho_a": ("rho-a", 8, 5),
    "whitened_cosine": ("cosine_cov", 2, None),
}


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
    theirs = [ModelFixed(f"m{i}", line) for i, line in enumerate(models.numpy())]
    data = PeerRDMs(subjects.numpy())
    rows = []
    for comparator, (method, n_peer, goal) in PEERS.items():
        for over, peer in (("stimuli", eval_bootstrap_pattern), ("both", eval_bootstrap)):
            ours = lambda c=comparator, o=over: rank_by_rsa(RDMs(models), RDMs(subjects), c, over=o)  # noqa: E731
            ours()  # compiled before it is timed
            calls = {"geomfeat": ours, "peer": lambda m=method, n=n_peer, p=peer: p(theirs, data, method=m, N=n)}
            seconds = in_turn(calls, 3 if n_peer > 10 else 1)
            seconds["peer"] *= 1000 / n_peer
            error = f"{difference(models, subjects, comparator, method):.0e}"
            rows.append(row(f"1,000 samples over {over}, {comparator}", seconds, error, goal))
    return rows


def difference(models: torch.Tensor, subjects: torch.Tensor, comparator: str, method: str) -> float:
    """Largest difference of the similarities in three samples of the stimuli."""
    from rsatoolbox.rdm import RDMs as PeerRDMs, compare

    counts = resample(92, 3, 1, "stimuli")
    found = similarities(models, subjects, comparator, counts).numpy()
    worst = 0.0
    for sample, ours in zip(counts.long(), found, strict=True):
        stimuli = torch.arange(92).repeat_interleave(sample).tolist()
        sides = [PeerRDMs(x.numpy()).subsample_pattern("index", stimuli) for x in (models, subjects)]
        worst = max(worst, float(np.abs(compare(*sides, method) - ours).max()))
    return worst


def row(name: str, seconds: dict[str, float], error: str, goal: float | None) -> str:
    """One line of the table."""
    ours, peer = seconds["geomfeat"], seconds["peer"]
    wanted = "" if goal is None else f"{goal:g}x"
    line = f"| {name} | {ours:.3g} | {peer:.3g} | **{peer / ours:.3g}x** | {wanted} | {error} |"
    print(line, flush=True)
    return line


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    head = ["| what | geomfeat, s | rsatoolbox, s | ratio | goal | difference |", "|---|---|---|---|---|---|"]
    print("\n".join(head))
    lines = [*head, *crossnobis(), *inference(), "", machine(PACKAGES, torch.get_num_threads())]
    print(f"\n{lines[-1]}")
    if options.write:
        keep("rsa", lines)


if __name__ == "__main__":
    main()
