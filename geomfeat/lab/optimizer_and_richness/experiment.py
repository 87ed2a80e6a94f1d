"""The optimizer, its rate and its schedule from one set of initial weights: what they do to R, M, E and the kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from geomfeat.lab.optimizer_and_richness import runs
from geomfeat.lab.optimizer_and_richness.charts import plots
from geomfeat.lab.optimizer_and_richness.checks import checks
from geomfeat.lab.optimizer_and_richness.sentences import answer, notes
from geomfeat.lab.optimizer_and_richness.starts import (
    ADAMW,
    BEYOND,
    FLOW,
    GAMMAS,
    HEAVY,
    LAZY,
    MUON,
    OPTIMIZERS,
    RICH,
    SGD,
    Start,
    start_at,
)
from geomfeat.lab.optimizer_and_richness.summary import Found, Table, rows_of
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Findings
from geomfeat.numerics import Device


@dataclass(frozen=True)
class Size:
    """What is run.

    Attributes:
        samples: digits. target: loss over that of outputs 0. width: of both hidden layers. seeds: of initial weights.
        rates: start -> optimizer -> rates in units of the start's, from the slowest on.
        scheduled: (start, optimizer, rate) at which schedules are compared. schedules: their names.
        paths: starts whose trainings are followed. times: when, as shares of the steps, besides the end.
    """

    samples: int
    target: float
    width: int
    seeds: int
    rates: dict[str, dict[str, tuple[float, ...]]]
    scheduled: tuple[tuple[str, str, float], ...]
    schedules: tuple[str, ...]
    paths: tuple[str, ...]
    times: tuple[float, ...]


RATES = {
    LAZY: {SGD: (1 / 8, 1 / 4, 1 / 2, 1, 1.4, 2, 4), HEAVY: (1 / 32, 1 / 8, 1 / 2, 1, 1.4),
           ADAMW: (1 / 64, 1 / 16, 1 / 4, 1 / 2, 1, 2), MUON: (1 / 128, 1 / 32, 1 / 16, 1 / 8, 1 / 4)},
    RICH: {SGD: (1 / 8, 1 / 4, 1 / 2, 1, 1.4, 2, 4), HEAVY: (1 / 32, 1 / 8, 1 / 2, 1.4),
           ADAMW: (1 / 64, 1 / 16, 1 / 4, 1), MUON: (1 / 128, 1 / 32, 1 / 8)},
}  # fmt: skip
FEW = {
    LAZY: {SGD: (1 / 4, 1 / 2, 1, 2), HEAVY: (1 / 16, 1), ADAMW: (1 / 16, 1), MUON: (1 / 64, 1 / 8)},
    RICH: {SGD: (1 / 4, 1 / 2, 2)},
}
DESCENT = ((LAZY, SGD, FLOW), (LAZY, SGD, BEYOND))
SIZES = {
    "full": Size(30, 0.01, 48, 3, RATES, (*DESCENT, (LAZY, ADAMW, 1 / 16), (LAZY, ADAMW, 1.0), (RICH, SGD, BEYOND)),
                 runs.SCHEDULES, (LAZY, RICH), (0.03, 0.1, 0.3)),
    "small": Size(10, 0.02, 32, 2, FEW, DESCENT, ("warm-up", "decay 5%"), (LAZY,), (0.1,)),
}  # fmt: skip
LOSSES = (5.0, 1.0)  # times the target, to which lazy networks are trained to see what R depends on
PATHS = {"flow": (FLOW, ""), "beyond": (BEYOND, ""), "beyond, after warm-up": (BEYOND, "warm-up")}
Step = Callable[[], object]


@experiment(
    name="optimizer-and-richness",
    title="The optimizer, its rate and its schedule",
    question="From fixed initial weights to one loss: what do the optimizer, its rate, warm-up, decay, batches and "
    "weight decay do to demand R, excess E and the kernel?",
    theory="Steps, decay and noise are no demand. R depends on the initial weights and on what was learned, not on "
    "how: slope 0 on the log rate, and one value for all optimizers in one metric. Below the stable rate, "
    "2/λ₀ min(1, 10^(½ − κ)), descent follows its flow: E and the kernel's change have slope 0 too. Beyond it a lazy "
    "network catapults, so features and kernel move more than was asked; a rich one is held at the edge of stability, "
    "so its kernel grows less.",
    source="Chizat et al. 2019; Lewkowycz et al. 2020; Cohen et al. 2021",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    chosen = SIZES[size]
    with tqdm(total=chosen.seeds * _count(chosen), desc="optimizers", disable=not progress, leave=False) as bar:
        starts = [
            start_at(
                name,
                seed + k,
                samples=chosen.samples,
                width=chosen.width,
                target=chosen.target,
                data_seed=seed,
                device=device,
            )
            for name in GAMMAS
            for k in range(chosen.seeds)
        ]
        rates = _rates(starts, chosen, bar.update)
        schedules = _schedules(starts, rates, chosen, bar.update)
        times = _times(starts, (rates, schedules), chosen, bar.update)
        losses = _losses(starts, bar.update)
    found = Found(rates, schedules, times, losses, chosen.target)
    settings = {"network": f"64-{chosen.width}-{chosen.width}-10, ReLU, no biases, (net(x) − net₀(x)) / γ",
                "γ": ", ".join(f"{gamma:g} ({name})" for name, gamma in GAMMAS.items()),
                "digits": chosen.samples, "loss": f"{chosen.target:g} of that of outputs 0", "seeds": chosen.seeds,
                "seed": seed}  # fmt: skip
    return Findings(answer(found), plots(found), checks(found), found.table, settings, notes(found))


def _count(chosen: Size) -> int:
    """How many trainings there are of a seed, at most."""
    rates = sum(len(shares) for by_optimizer in chosen.rates.values() for shares in by_optimizer.values())
    schedules = len(chosen.scheduled) * len(chosen.schedules)
    return rates + schedules + len(chosen.paths) * len(PATHS) + 2 * len(LOSSES)


def _rates(starts: Sequence[Start], chosen: Size, step: Step) -> Table:
    rows = []
    for start in starts:
        for optimizer, shares in chosen.rates[start.name].items():
            for share in shares if optimizer in OPTIMIZERS else ():
                rows.append(runs.at_rate(start, optimizer, share))
                step()
    return pd.DataFrame(rows)


def _schedules(starts: Sequence[Start], rates: Table, chosen: Size, step: Step) -> Table:
    """Every schedule beside the constant rate, where this reached the loss."""
    steps = {(r["start"], r["seed"], r["optimizer"], r["share"]): r["steps"]
             for r in rates.to_dict("records") if r["reached"]}  # fmt: skip
    rows = []
    for start, (name, optimizer, share) in itertools.product(starts, chosen.scheduled):
        constant = steps.get((start.name, start.seed, optimizer, share))
        if start.name != name or constant is None:
            continue
        options = runs.schedules(start, optimizer, share, constant)
        for schedule in chosen.schedules:
            trained = runs.train(start, options[schedule])
            rows.append(runs.row_of(start, optimizer, share, trained) | {"schedule": schedule})
            step()
    return pd.DataFrame(rows)


def _times(starts: Sequence[Start], found: Sequence[Table], chosen: Size, step: Step) -> Table:
    """Along training: descent in the flow and beyond it, and beyond it after a warm-up."""
    rates, schedules = found
    rows = []
    for start, (label, (share, schedule)) in itertools.product(starts, PATHS.items()):
        wanted = {"start": start.name, "seed": start.seed, "optimizer": SGD, "share": share}
        known = rows_of(rates, **wanted, reached=True).to_dict("records")
        if start.name not in chosen.paths or not known:
            continue
        end = known[0]
        options = start.rule(SGD, share, max_steps=end["steps"])
        if schedule:
            options = runs.schedules(start, SGD, share, end["steps"])[schedule]
            (end,) = rows_of(schedules, **wanted, schedule=schedule).to_dict("records")
        for row in runs.along(start, options, end, chosen.times):
            rows.append({"start": start.name, "seed": start.seed, "training": label, **row})
        step()
    return pd.DataFrame(rows)


def _losses(starts: Sequence[Start], step: Step) -> Table:
    """Lazy networks trained to more and to less than the loss of all others."""
    rows = []
    for start, share in itertools.product([s for s in starts if s.name == LAZY], (FLOW, BEYOND)):
        for loss in LOSSES:
            rows.append(runs.at_loss(start, share, loss * start.target))
            step()
    return pd.DataFrame(rows)
