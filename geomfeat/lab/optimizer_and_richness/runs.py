"""Trainings from one start to one loss, each located: a row a training."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from geomfeat.lab.optimizer_and_richness.starts import ADAMW, HEAVY, MUON, SGD, Start
from geomfeat.location.initial_states import observe, start_from
from geomfeat.network import Network
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import PlainOptions, PlainTraining, train_plainly
from geomfeat.regimes.training.objective import centred_one_hot
from geomfeat.tangent import ntk

LAYERS = ("net.act1", "net.act2")
CATAPULT = 1.5  # times the first loss, that the loss rises to
# Steps after which a training is given up, by the rate's share of its unit: more than twice what the slowest take.
STEPS = {SGD: 600, HEAVY: 30, ADAMW: 20, MUON: 8}
FEWEST = 800
LONGER = 4  # times the steps of the constant rate, that a schedule may take
FAST = 100.0
# What a schedule takes is in units of the steps of a constant rate: half of them for the warm-up; a decay to 0 within
# three times as many, of which it needs some two fifths.
WARMUP, HORIZON = 0.5, 3.0
SHRINK = (0.01, 0.05)  # what weight decay takes from the weights in a training of that many steps
SCHEDULES = ("warm-up", "cosine", "batch n/5", *(f"decay {shrink:.0%}" for shrink in SHRINK))


def located(start: Start, trained: PlainTraining, model: nn.Module | None = None) -> dict[str, float]:
    """R, M, E, kappa and the measured changes of the kernel and the function, by network and by layer.

    model: a checkpoint in place of the trained network, located in the metric of the end.
    """
    network = Network.prepare(model or trained.trained, start.inputs, initial=start.model, layers=LAYERS,
                              optimizer=trained.rates)  # fmt: skip
    found = start_from(start.model, observe(network, None, n_probes=len(start.inputs)))
    assert found.kernel is not None
    moved, asked = found.movement, found.demand.layers
    mean = sum(moved.values()) / len(moved)
    row = {"R": found.demand.richness, "M": mean, "E": mean - found.demand.richness,
           "kappa": found.kernel.demand.demand, "kernel_change": found.kernel.change,
           "kernel_excess": found.kernel.excess, "gap": found.kernel.gap}  # fmt: skip
    for number, layer in enumerate(LAYERS, start=1):
        row |= {f"R{number}": asked[layer], f"M{number}": moved[layer], f"E{number}": moved[layer] - asked[layer]}
    return row


def plain_richness(start: Start, trained: PlainTraining) -> float:
    """R of the same change in the coordinates of plain descent."""
    network = Network.prepare(trained.trained, start.inputs, initial=start.model, layers=LAYERS)
    observed = observe(network, None, n_probes=len(start.inputs))
    return start_from(start.model, observed, with_kernel=False).demand.richness


def at_rate(start: Start, optimizer: str, share: float) -> dict[str, Any]:
    """One training on all samples at a constant rate, in units of the start's."""
    options = start.rule(optimizer, share, max_steps=most_steps(optimizer, share))
    return row_of(start, optimizer, share, train(start, options))


def at_loss(start: Start, share: float, loss: float) -> dict[str, Any]:
    """One training of plain descent to another loss: R, and how much of what is left to learn is in fast modes."""
    options = start.rule(SGD, share, max_steps=8 * most_steps(SGD, share), target=loss)
    trained = train(start, options)
    return {"seed": start.seed, "share": share, "target": loss, "loss": trained.train_loss,
            "R": plain_richness(start, trained), "left_fast": left_in_fast_modes(start, trained)}  # fmt: skip


def left_in_fast_modes(start: Start, trained: PlainTraining) -> float:
    """Share of the squared error that lies in modes of the first kernel with eigenvalues within `FAST` of the top."""
    values, modes = torch.linalg.eigh(ntk(start.model, start.inputs, outputs="full").gram)
    with torch.no_grad():
        left = trained.trained(start.inputs) - centred_one_hot(start.labels, 10, WORKING)
    part = (modes.mT @ left.flatten()).square()
    return float(part[values * FAST > values[-1]].sum() / part.sum())


def most_steps(optimizer: str, share: float) -> int:
    """Steps after which a training at this rate is given up."""
    return max(FEWEST, math.ceil(STEPS[optimizer] / share))


def row_of(start: Start, optimizer: str, share: float, trained: PlainTraining) -> dict[str, Any]:
    """What a training was, and where it led; NaN where it did not reach the loss."""
    losses = trained.history["loss"]
    highest = float(losses.max() / losses.iloc[0])
    row: dict[str, Any] = {
        "start": start.name, "seed": start.seed, "optimizer": optimizer, "share": share,
        "rate": share * start.units[optimizer], "steps": trained.steps, "loss": trained.train_loss,
        "highest": highest, "reached": trained.converged, "phase": _phase(trained, highest),
    }  # fmt: skip
    if not trained.converged:
        return row
    row |= located(start, trained)
    return row | {"R_plain": plain_richness(start, trained) if optimizer in (ADAMW, MUON) else row["R"]}


def _phase(trained: PlainTraining, highest: float) -> str:
    if not trained.converged:
        return "diverged" if trained.diverged else "did not learn"
    return "catapult" if highest > CATAPULT else "flow"


def train(start: Start, options: PlainOptions) -> PlainTraining:
    """From the start, by these options."""
    return train_plainly(start.model, start.inputs, start.labels, loss="mse", seed=start.seed, options=options)


def schedules(start: Start, optimizer: str, share: float, steps: int) -> dict[str, PlainOptions]:
    """Name -> training of this base rate, in one thing unlike the constant one, which takes so many steps."""
    horizon, warm, n = math.ceil(HORIZON * steps), math.ceil(WARMUP * steps), len(start.inputs)
    most = LONGER * steps

    def options(**more: Any) -> PlainOptions:
        return start.rule(optimizer, share, **{"max_steps": most, **more})

    rate = share * start.units[optimizer]
    found = [
        options(warmup_steps=warm),
        options(schedule="cosine", max_steps=horizon),
        options(batch_size=n // 5),
        *(options(weight_decay=shrink / (rate * steps)) for shrink in SHRINK),
    ]
    return dict(zip(SCHEDULES, found, strict=True))


def along(
    start: Start, options: PlainOptions, end: Mapping[Hashable, Any], shares: tuple[float, ...]
) -> list[dict[str, float]]:  # fmt: skip
    """R, M, E and the kernel after these shares of a training's steps, in the metric of its end, and at its end.

    end: the row of the same training, which is made again for the networks on its way.
    """
    at = {share: math.ceil(share * end["steps"]) for share in shares}
    trained = train(start, replace(options, snapshot_steps=tuple(at.values())))
    rows = [{"time": share} | located(start, trained, trained.snapshots[step]) for share, step in at.items()]
    return [*rows, {"time": 1.0} | {name: end.get(name, math.nan) for name in rows[0] if name != "time"}]
