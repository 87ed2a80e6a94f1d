"""A ladder: the user's own architecture trained at known output scales gamma, to read off which gamma a model equals.

Rungs start from the same weights, learn the same task to the same relative loss and are measured on the same probes
as the model; R grows by one decade for a decade of gamma, so a few rungs suffice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from geomfeat.diagnostics.demand import solve
from geomfeat.diagnostics.movement import movement, outputs_and_features
from geomfeat.diagnostics.starts import Observed, Start
from geomfeat.errors import BadInput
from geomfeat.models.functional import as_inputs, functional
from geomfeat.numerics import WORKING, as_tensor
from geomfeat.regimes.knob import train_at_gamma
from geomfeat.regimes.objective import centred_one_hot

# Rungs lie this far apart, in decades of gamma; relative losses outside these bounds are not asked for.
SPACING, LOSS_BOUNDS = 0.5, (0.01, 0.5)


@dataclass(frozen=True, eq=False)
class Ladder:
    """Trained rungs: columns gamma, richness, movement, train_loss, steps, converged, note; the loss they stop at."""

    rungs: pd.DataFrame
    target_loss: float


def wanted_change(labels: Tensor, n_outputs: int) -> Tensor:
    """(n, C) change of the outputs at gamma = 1: centred one-hot rows for classes, the values for a regression."""
    if labels.ndim == 1 and not labels.is_floating_point():
        if int(labels.max()) >= n_outputs or int(labels.min()) < 0:
            raise BadInput(
                f"labels run from {int(labels.min())} to {int(labels.max())}, but the model has {n_outputs} outputs: "
                "a ladder needs classes 0..C-1, or a target value for every output"
            )
        return centred_one_hot(labels, n_outputs, WORKING)
    values = labels.to(WORKING).reshape(labels.shape[0], -1)
    if values.shape[1] != n_outputs:
        raise BadInput(f"labels hold {values.shape[1]} values per sample, but the model has {n_outputs} outputs")
    return values


def fitted_scale(change: Tensor, wanted: Tensor) -> tuple[float, float]:
    """(gamma, relative loss): the least-squares scale of `wanted` (n, C) in `change`, and the share it leaves.

    >>> t = torch.tensor([[1.0], [-1.0]])
    >>> fitted_scale(2 * t, t)
    (2.0, 0.0)
    """
    gamma = float((change * wanted).sum() / wanted.square().sum())
    if gamma <= 0:
        return gamma, float("inf")
    return gamma, float((change / gamma - wanted).square().sum() / wanted.square().sum())


def build_ladder(
    start: Start,
    observed: Observed,
    inputs: Any,
    labels: Any,
    rungs: int | tuple[float, ...],
    *,
    target_loss: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Ladder:
    """Train rungs from `start` on (inputs, labels) and measure each on the probes.

    Args:
        rungs: how many (spaced by half a decade around the expected gamma), or the gammas themselves.
        target_loss: relative loss, 1 at the start, at which a rung stops; default the model's own on the probes.
    """
    if observed.labels is None or labels is None:
        raise BadInput("ladder needs labels: pass labels= (classes or target values of the inputs)")
    if start.task.projection is not None:
        raise BadInput("a ladder compares all outputs: leave out projections=, or the ladder")
    wanted = wanted_change(observed.labels, start.outputs.shape[1]).to(start.outputs.device)
    change = observed.outputs - start.outputs
    if target_loss is None:
        target_loss = float(np.clip(fitted_scale(change, wanted)[1], *LOSS_BOUNDS))
    if isinstance(rungs, int):
        if rungs < 2:
            raise BadInput(f"ladder={rungs}: at least 2 rungs")
        at_one = solve(replace(start.task, change=wanted)).richness
        centre = start.demand.richness - at_one
        rungs = tuple(10 ** (centre + SPACING * (i - (rungs - 1) / 2)) for i in range(rungs))
    rows = []
    for gamma in tqdm(sorted(rungs), desc="ladder", disable=not progress, leave=False):
        rows.append(_rung(start, observed, as_inputs(inputs), as_tensor(labels), gamma, target_loss, seed))
    return Ladder(pd.DataFrame(rows), target_loss)


def _rung(
    start: Start, observed: Observed, inputs: Any, labels: Tensor, gamma: float, target_loss: float, seed: int
) -> dict[str, Any]:
    trained = train_at_gamma(
        start.model, inputs, labels, gamma=gamma, target_loss=target_loss, seed=seed, device=observed.device
    )
    row = {
        "gamma": gamma, "train_loss": trained.train_loss, "steps": trained.steps,
        "converged": trained.converged, "note": trained.note,
    }  # fmt: skip
    f = functional(trained.model, device=observed.device, readout=observed.readout)
    outputs, features = outputs_and_features(f, observed.probes, observed.layers)
    found = solve(replace(start.task, change=outputs - start.outputs))
    moved = [m for m in movement(start.features, features).values() if np.isfinite(m)]
    return {**row, "richness": found.richness, "movement": float(np.mean(moved)) if moved else -np.inf}


def read_off(ladder: Ladder, richness: float, stderr: float, z: float) -> tuple[float, float, float]:
    """(gamma, low, high) at which the converged rungs have this richness.

    Between rungs by linear interpolation of R in log gamma, beyond them at slope 1. The interval combines `stderr`
    of R with the scatter of the rungs about their line of slope 1.
    """
    good = ladder.rungs[ladder.rungs["converged"].astype(bool)]
    good = good.iloc[np.argsort(np.asarray(good["richness"], float))]
    if len(good) < 2:
        raise BadInput(
            f"only {len(good)} of {len(ladder.rungs)} rungs reached the relative loss {ladder.target_loss:.3g}: "
            "the ladder cannot be read; train longer or ask for a larger loss"
        )
    r, g = np.asarray(good["richness"], float), np.log10(np.asarray(good["gamma"], float))
    at = float(np.interp(richness, r, g)) + min(richness - r[0], 0.0) + max(richness - r[-1], 0.0)
    scatter = float(np.std(r - g, ddof=1))
    half = z * float(np.hypot(stderr, scatter))
    return 10**at, 10 ** (at - half), 10 ** (at + half)
