"""Trainings of rate networks on delayed match to sample, each located: a row a training."""

from __future__ import annotations

import math
from typing import Any

from geomfeat.data.tasks import delayed_match
from geomfeat.location.initial_states import observe, start_from
from geomfeat.location.regimes import regime_of
from geomfeat.models.recurrent import rate_rnn
from geomfeat.network import Network
from geomfeat.numerics import WORKING, Device
from geomfeat.regimes.training import train_at_gamma

LAYER = "rates"
STEPS = {"sample": 2, "delay": 4, "test": 2, "response": 1}
MOST_STEPS = 4000
EQUAL, EACH = "equal mean square", "equal components"


def gain_of(strength: float, norm: str, rank: int | None, units: int) -> float:
    """The gain of a network whose recurrent weights are g / sqrt(units rank) L R', or g / units L R' ("each").

    By the second a component has one strength, whatever the rank (Mastrogiuseppe & Ostojic 2018); by the first the
    weights have one mean square. They agree at full rank.

    >>> gain_of(1.5, EACH, 4, 16), gain_of(1.5, EQUAL, 4, 16)
    (0.75, 1.5)
    """
    return strength * math.sqrt((rank or units) / units) if norm == EACH else strength


def trained_and_located(
    strength: float, rank: int | None, scale: float, seed: int, *, norm: str = EQUAL, units: int, trials: int,
    target: float, device: Device = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """One training of f = scale (net - net0) by descent to this loss, over that of outputs 0; NaN where it missed it.

    Args:
        strength: g. rank: of the initial recurrent weights, None for full. seed: of weights and trials.
    """
    task = delayed_match(trials, **STEPS, seed=seed)
    gain = gain_of(strength, norm, rank, units)
    net = rate_rnn(task.inputs.shape[2], units, 1, gain=gain, rank=rank, seed=seed).to(device, WORKING)
    inputs, goal = task.inputs.to(device, WORKING), 2 * task.choices.to(device, WORKING) - 1
    trained = train_at_gamma(net, inputs, goal, gamma=1 / scale, target_loss=target, max_steps=MOST_STEPS)
    row: dict[str, Any] = {"gain": strength, "rank": rank or units, "scale": scale, "norm": norm, "seed": seed,
                           "loss": trained.train_loss, "steps": trained.steps,
                           "reached": trained.converged}  # fmt: skip
    if not trained.converged:
        return row
    network = Network.prepare(trained.model, inputs, initial=net, layers=LAYER)
    found = start_from(net, observe(network, None, n_probes=trials))
    assert found.kernel is not None
    kernel, richness, movement = found.kernel, found.demand.richness, found.movement[LAYER]
    place = (richness, movement, kernel.demand.demand, kernel.change, kernel.excess, movement)
    return row | {"R": richness, "M": movement, "kappa": kernel.demand.demand, "kernel_change": kernel.change,
                  "gap": kernel.gap, "regime": regime_of(*place, kernel.gap),
                  "regime_without_gap": regime_of(*place)}  # fmt: skip
