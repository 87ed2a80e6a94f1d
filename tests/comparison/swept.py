"""Tables of sweeps with planted slopes, confounds and failures, in the form that a sweep writes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.study.table import row, table_of
from geomfeat.types import Estimate

FIXED = {
    "data": "digits", "architecture": "mlp", "width": 128, "depth": 2, "parameterization": "standard", "gamma": 1.0,
    "optimizer": "sgd", "batch_size": None,
}  # fmt: skip
Number = float | Estimate
Numbers = dict[tuple[str, str, str], Number]


def training(
    conditions: Mapping[str, Any],
    seed: int,
    numbers: Mapping[tuple[str, str, str], Number],
    *,
    outcome: str = "matched",
    note: str = "",
    status: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """One training's rows. numbers: (measure, quantity, layer) -> value; status: further numbers of the training."""
    facts = {**FIXED, **conditions, "seed": seed, "outcome": outcome}
    fine = outcome in ("matched", "completed")
    training = {"train_loss": 0.1, "train_accuracy": 0.99, "converged": float(fine), **(status or {})}
    rows = [
        row(q, Estimate(v, ok=not note, note=note) if math.isfinite(v) else Estimate.failed(note or "not known"),
            at="trained", measure="training")
        for q, v in training.items()
    ]  # fmt: skip
    for (measure, quantity, layer), value in numbers.items():
        at = "init->trained" if measure == "location" else "trained"
        estimate = value if isinstance(value, Estimate) else Estimate(value)
        rows.append(row(quantity, estimate, at=at, measure=measure, layer=layer))
    name = " ".join(f"{k}={v}" for k, v in facts.items())
    return table_of(rows, run=name, seed=seed, conditions=facts, version="0")


def grid(axes: Mapping[str, Sequence[Any]], n_seeds: int) -> list[tuple[dict[str, Any], int]]:
    """(conditions, seed) of every training of a grid."""
    return [
        (dict(zip(axes, point, strict=True)), s) for point in itertools.product(*axes.values()) for s in range(n_seeds)
    ]


def sweep(
    axes: Mapping[str, Sequence[Any]], n_seeds: int, numbers: Callable[[dict[str, Any], int], Any]
) -> pd.DataFrame:
    """A table of a grid. numbers(conditions, seed) -> the training's numbers, or (numbers, further arguments)."""
    parts = []
    for conditions, seed in grid(axes, n_seeds):
        made = numbers(conditions, seed)
        values, further = made if isinstance(made, tuple) else (made, {})
        parts.append(training(conditions, seed, values, **further))
    return pd.concat(parts, ignore_index=True)


def log(x: float) -> float:
    return math.log10(x)


def noise(seed: int, *names: float) -> float:
    """A normal number that depends on seed and names alone."""
    return float(np.random.default_rng([seed, *(int(1e6 * abs(n)) + 17 for n in names)]).normal())
