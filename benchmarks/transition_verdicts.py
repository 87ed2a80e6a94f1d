"""Verdicts of `transitions` on runs whose regime is known from how they were set up.

    python -m benchmarks.transition_verdicts

The limits LAZY_TURN and LATE_SHARE were set on `setting` and are judged on `judged`, which shares no run with it. The
truth: polynomial networks and digits at far ends of the output scale are lazy or rich; a large start with weight decay
is first lazy, then rich; a small start is rich; a large start without decay is lazy; a run that is cut short, or whose
snapshots are unrelated networks, has no transition.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from geomfeat.data._load_data import load_data
from geomfeat.models.mlp import mlp
from geomfeat.regimes.grokking import modular_addition, polynomial_grokking, train_with_decay, transitions
from geomfeat.regimes.grokking._transitions import LAZY, LAZY_THEN_RICH, NONE, RICH, VERDICTS
from geomfeat.regimes.training import TrainingSeries, TrainOptions, train_at_gamma, training_series
from geomfeat.regimes.training.series import log_spaced_steps
from geomfeat.types import Snapshot

Case = tuple[str, str, TrainingSeries]


def polynomial(alphas: tuple[float, ...], seeds: range, steps: int = 1000) -> Iterator[Case]:
    found = polynomial_grokking(alphas, seeds, rate=5.0, steps=steps, per_decade=10)
    for (seed, alpha), series in found.series.items():
        truth = NONE if steps < 20 else RICH if alpha <= 0.5 else LAZY
        yield f"polynomial, alpha {alpha}, seed {seed}", truth, series


def setting() -> Iterator[Case]:
    yield from polynomial((0.25, 0.5, 4.0, 8.0), range(5))
    yield from polynomial((1.0,), range(2), steps=12)
    for seed in range(3):
        task = modular_addition(23, seed=seed)
        yield f"sums mod 23, decay, seed {seed}", LAZY_THEN_RICH, train_with_decay(task, seed=seed, steps=2000).series()
        run = train_with_decay(task, init_scale=0.1, seed=seed, steps=1000)
        yield f"sums mod 23, small start, seed {seed}", RICH, run.series()
        run = train_with_decay(task, decay=0.0, lr=0.003, seed=seed, steps=800)
        yield f"sums mod 23, no decay, seed {seed}", LAZY, run.series()
        yield f"sums mod 23, cut short, seed {seed}", NONE, train_with_decay(task, seed=seed, steps=20).series()


def judged() -> Iterator[Case]:
    yield from polynomial((0.2, 0.4, 5.0, 16.0), range(5, 10))
    for seed in (11, 12, 13):
        for modulus, width in ((29, 128), (31, 160)):
            task = modular_addition(modulus, seed=seed)
            run = train_with_decay(task, init_scale=2.0 + seed % 3, seed=seed, width=width, steps=2000)
            yield f"sums mod {modulus}, decay, seed {seed}", LAZY_THEN_RICH, run.series()
            run = train_with_decay(task, init_scale=0.05, seed=seed, width=width, steps=600)
            yield f"sums mod {modulus}, small start, seed {seed}", RICH, run.series()
        run = train_with_decay(
            modular_addition(29, seed=seed), init_scale=5.0, decay=0.0, lr=0.006, seed=seed, steps=1000
        )
        yield f"sums mod 29, no decay, seed {seed}", LAZY, run.series()
        run = train_with_decay(modular_addition(23, 0.7, seed=seed), activation="relu", seed=seed, steps=2000)
        yield f"sums mod 23, ReLU, decay, seed {seed}", LAZY_THEN_RICH, run.series()
    yield from digits()


def digits() -> Iterator[Case]:
    train, test = load_data("digits", split="train", n=300), load_data("digits", split="test")
    x, y, other = train.inputs.flatten(1), train.labels, (test.inputs.flatten(1), test.labels)
    for seed in range(3):
        for gamma in (0.02, 0.05, 10.0, 30.0):
            run = train_at_gamma(
                mlp(64, (128,), 10, parameterization="ntk", seed=seed), x, y, gamma=gamma, max_steps=1000, seed=seed,
                options=TrainOptions(snapshot_steps=log_spaced_steps(1000, 6), dtype=torch.float64),
            )  # fmt: skip
            snapshots = [Snapshot(run.snapshots[step], step) for step in sorted(run.snapshots)]
            series = training_series(snapshots, x, y, test=other, gamma=gamma, probes=48)
            yield f"digits, gamma {gamma}, seed {seed}", LAZY if gamma < 1 else RICH, series
        snapshots = [Snapshot(mlp(64, (128,), 10, seed=100 * seed + i), i) for i in range(5)]
        yield f"digits, unrelated networks, seed {seed}", NONE, training_series(snapshots, x, y, test=other, probes=48)
        yield f"digits, large start and decay, seed {seed}", LAZY_THEN_RICH, decayed(x, y, other, seed)


def decayed(x: torch.Tensor, y: torch.Tensor, test: tuple[torch.Tensor, torch.Tensor], seed: int) -> TrainingSeries:
    network = mlp(64, (200,), 10, init_scale=8.0, bias=False, seed=seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=1.0)
    wanted, snapshots = set(log_spaced_steps(3000, 8)), []
    for step in range(3001):
        if step in wanted:
            snapshots.append(Snapshot(copy.deepcopy(network), step))
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    return training_series(snapshots, x, y, test=test, loss="cross-entropy", probes=48)


def main() -> None:
    for name, cases in (("set on", setting()), ("judged on", judged())):
        right: dict[str, list[bool]] = {verdict: [] for verdict in VERDICTS}
        for what, truth, series in cases:
            r = transitions(series)
            right[truth].append(r.verdict == truth)
            print(
                f"{'    ' if r.verdict == truth else 'NOT '}{what:44} {truth:20} fit {r.fit_time:6.0f}   test "
                f"{r.test_time:6.0f}   turn {r.turn_at_fit:.3f} of {r.furthest_turn:.3f}   late {r.late_share:.2f}"
            )
        shares = [sum(found) / len(found) for found in right.values()]
        print(f"{name} {sum(map(len, right.values()))} runs: balanced accuracy {sum(shares) / len(shares):.3f}")


if __name__ == "__main__":
    main()
