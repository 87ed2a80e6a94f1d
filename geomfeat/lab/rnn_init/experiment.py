"""Gain by rank by output scale of recurrent networks, their ranks under two norms, and large gains."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm import tqdm

from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Findings
from geomfeat.lab.rnn_init.findings import answer, checks, notes, plots
from geomfeat.lab.rnn_init.runs import EACH, EQUAL, STEPS, trained_and_located
from geomfeat.lab.rnn_init.summary import Found
from geomfeat.numerics import Device


@dataclass(frozen=True)
class Size:
    """What is run.

    Attributes:
        units, trials: of every network. target: loss over that of outputs 0. seeds: of the grid; of large gains.
        gains, ranks, scales: of the grid; rank None: full. all_gains: at full rank and scale 1. large: gains and scales
            of the networks that are asked whether they are called lazy. strength: of the weights in both norms.
    """

    units: int
    trials: int
    target: float
    seeds: tuple[int, int]
    gains: tuple[float, ...]
    ranks: tuple[int | None, ...]
    scales: tuple[float, ...]
    all_gains: tuple[float, ...]
    large: tuple[tuple[float, ...], tuple[float, ...]]
    strength: float = 1.5


SIZES = {
    "full": Size(48, 24, 0.1, (3, 5), (0.5, 1.5), (1, 4, 16, None), (0.1, 1.0, 10.0), (0.2, 0.5, 1.0, 1.5, 2.0, 2.5),
                 ((1.4, 2.0, 2.5), (3.0, 10.0, 30.0))),
    "small": Size(24, 8, 0.2, (2, 2), (1.5,), (1, None), (0.3, 3.0), (0.2, 2.0), ((1.4,), (10.0,))),
}  # fmt: skip


@experiment(
    name="rnn-init",
    title="Initial gain, rank and output scale of a recurrent network",
    question="Where does a vanilla rate network end up between lazy and rich, by the gain and the rank of its initial "
    "recurrent weights, and by its output scale, when all are trained to one loss on one task?",
    theory="The output scale acts as in feed-forward networks: what is learned, f / scale, asks for ever more of the "
    "weights, so R and κ rise by one decade with a decade less of scale. Weights of low rank are richer than those of "
    "full rank of the same mean square: all but a few directions of the task have no kernel at the start. Weak weights "
    "forget within a few steps, so R falls with the gain; but beyond a gain of about 1 the network is chaotic, its "
    "kernel turns whatever the demand, and R alone would call networks lazy that no linear model describes.",
    source="Liu et al. 2023; Schuessler et al. 2020; Sompolinsky et al. 1988",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    chosen = SIZES[size]
    with tqdm(total=_count(chosen), desc="recurrent networks", disable=not progress, leave=False) as bar:
        found = _found(chosen, seed, bar.update, device)
    settings = {"network": f"x ← x/2 + (W tanh x + U u + b)/2, {chosen.units} units, scale (net(x) − net₀(x))",
                "task": f"delayed match, {chosen.trials} trials, steps {STEPS}",
                "loss": f"{chosen.target:g} of that of outputs 0", "seeds": chosen.seeds[0], "seed": seed}  # fmt: skip
    return Findings(answer(found), plots(found), checks(found), found.table, settings, notes(found))


def _count(chosen: Size) -> int:
    few, many = chosen.seeds
    grid = len(chosen.gains) * len(chosen.ranks) * len(chosen.scales) + 2 * len(chosen.ranks) + len(chosen.all_gains)
    return few * grid + many * len(chosen.large[0]) * len(chosen.large[1])


def _found(chosen: Size, seed: int, step: Callable[[], object], device: Device) -> Found:
    few, many = ([seed + k for k in range(n)] for n in chosen.seeds)
    known: dict[Any, dict[str, Any]] = {}

    def row(gain: float, rank: int | None, scale: float, norm: str, own: int) -> dict[str, Any]:
        # Both norms agree at full rank.
        key = (gain, rank, scale, norm if rank else EQUAL, own)
        if key not in known:
            known[key] = trained_and_located(
                gain, rank, scale, own, norm=norm, units=chosen.units, trials=chosen.trials, target=chosen.target,
                device=device,
            )  # fmt: skip
        step()
        return known[key] | {"norm": norm}

    g, full = chosen.strength, (None,)
    grid = itertools.product(chosen.gains, chosen.ranks, chosen.scales, (EQUAL,), few)
    norms = itertools.product((g,), chosen.ranks, (1.0,), (EQUAL, EACH), few)
    gains = itertools.product(chosen.all_gains, full, (1.0,), (EQUAL,), few)
    chaotic = itertools.product(chosen.large[0], full, chosen.large[1], (EQUAL,), many)
    return Found(*(pd.DataFrame([row(*point) for point in points]) for points in (grid, norms, gains, chaotic)))
