"""How far lazy-only and active-only dynamics are from the true ones, over initial variance and width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import Products, aligned_mode, descend_products, mixed_flow, random_products
from geomfeat.regimes.linear_networks.mixed_dynamics import mixed_velocity

DIMENSION = 8
SPREAD = (0.0, -1.0)  # the target's modes go from d to d / 10
VARIANCE, WIDTH = (-5.0, 0.0), (1.0, 4.0)  # powers of the dimension
STEP = {"full": 0.25, "small": 0.5}  # one step for both axes, so that cells of one threshold lie on diagonals
RECORDS = {"full": 300, "small": 60}
SHARE = {"full": 0.05, "small": 0.1}  # of the largest stable learning rate
REACHED = 0.01  # relative distance from the target at which a network counts as converged
LENGTH = 1.6  # of a training, in convergence times that theory predicts
SMALL_START = 0.1  # size of the initial map, relative to the target's, up to which theory is checked
FORMULAS = ("lazy alone", "active alone", "mixed")


@experiment(
    name="mixed-distances",
    title="Lazy-only and active-only dynamics against the true ones, over variance and width",
    question="Where in the plane of initial variance and width does a lazy or an active formula alone describe "
    "training, and how long does training take there?",
    theory="With c = σ²w a mode moves at 2√(s² + c²)(σᵢ − s): the lazy formula keeps 2c of it, the active one 2s. From "
    "a small start a mode's missed share of the way is 1 − (c/σᵢ) asinh(σᵢ/c) for the lazy one and "
    "1 + c/σᵢ − √(1 + c²/σᵢ²) for the active one, equal at c = 0.42 σᵢ; both depend on c alone, so they change over "
    "along log_d σ² + log_d w = 1. Time to converge is that of the slowest mode. Random weights drive modes at rates "
    "within a share 2√(d/w) of c, which bounds all differences from this.",
    source="Tu, Aranguri and Jacot 2024, equation 1 and section 3",
)
def run(size: str, seed: int, progress: bool) -> Findings:
    plane = _plane(size)
    target, modes = _target(seed)
    theory = _theory(plane, modes, RECORDS[size])
    found = _train(plane, target, theory.time, size, seed)
    table = pd.DataFrame({
        "log_d variance": plane.variance.tolist(), "log_d width": plane.log_width.tolist(),
        "threshold / d": (plane.threshold / DIMENSION).tolist(), **{k: v.tolist() for k, v in found.items()},
        "time, theory": theory.time.tolist(), "distance of lazy alone, theory": theory.distance.tolist(),
        **{f"missed by {name}, theory": values.tolist() for name, values in theory.missed.items()},
    })  # fmt: skip
    columns = {str(name): table[name].to_numpy(float) for name in table}
    checks = _checks(columns)
    plots = [_missed(columns), _distances(columns), _times(columns), *_maps(plane, columns)]
    settings = {"dimension": DIMENSION, "modes": f"{modes[0]:g} to {modes[-1]:g}", "cells": len(table), "seed": seed,
                "converged": f"relative distance {REACHED}"}  # fmt: skip
    notes = [
        f"Checks are over cells whose initial map is below {SMALL_START:g} of the target, of a width of d² or more.",
        "Distances are the largest over training, relative to the target; cells whose initial map is larger than the "
        "target are left out of the maps.",
    ]
    return Findings(_answer(columns), plots, checks, table, settings, notes)


@dataclass(frozen=True)
class _Plane:
    """All cells, (n,): powers of the dimension, hidden units, sigma^2 w; and the axes of the maps."""

    variance: Tensor
    log_width: Tensor
    widths: tuple[int, ...]
    threshold: Tensor
    axes: tuple[list[float], list[float]]


@dataclass(frozen=True)
class _Theory:
    """What aligned modes that start at 0 do in every cell, (n,)."""

    time: Tensor
    distance: Tensor
    missed: dict[str, Tensor]


def _plane(size: str) -> _Plane:
    variance, powers = (
        torch.arange(low, high + STEP[size] / 2, STEP[size], dtype=WORKING) for low, high in (VARIANCE, WIDTH)
    )
    widths = tuple(round(DIMENSION**power) for power in powers.tolist())
    pairs = [(v, w) for v in variance.tolist() for w in widths]
    logs = torch.tensor([math.log(w, DIMENSION) for _, w in pairs], dtype=WORKING)
    threshold = torch.tensor([DIMENSION**v * w for v, w in pairs], dtype=WORKING)
    return _Plane(torch.tensor([v for v, _ in pairs], dtype=WORKING), logs, tuple(w for _, w in pairs), threshold,
                  (variance.tolist(), powers.tolist()))  # fmt: skip


def _target(seed: int) -> tuple[Tensor, list[float]]:
    left, right = (torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=stream(seed, "lab", side),
                                               dtype=WORKING)).Q for side in ("left", "right"))  # fmt: skip
    modes = DIMENSION * torch.logspace(*SPREAD, DIMENSION, dtype=WORKING)
    return (left * modes) @ right, modes.tolist()


def _theory(plane: _Plane, modes: list[float], records: int) -> _Theory:
    goal = torch.tensor(modes, dtype=WORKING)
    cells = [_aligned(c, goal, records) for c in plane.threshold.tolist()]
    time, distance, *missed = torch.tensor(cells, dtype=WORKING).unbind(1)
    return _Theory(time, distance, dict(zip(FORMULAS, missed, strict=False)))


def _aligned(c: float, goal: Tensor, records: int) -> tuple[float, float, float, float]:
    """Time to converge, largest distance of the lazy path, and the shares of the way that lazy and active miss."""

    def path(times: Tensor) -> Tensor:
        return torch.stack([aligned_mode(0.0, mode, 2 * c, times) for mode in goal.tolist()], 1)

    # No mode is slower than the smallest one at its final speed, after the time in which it leaves c.
    last = float(goal.min())
    longest = (math.log(1 / REACHED) + math.asinh(last / c)) / (2 * math.hypot(last, c))
    grid = torch.linspace(0, 3 * longest, 4000, dtype=WORKING)
    far = (path(grid) - goal).norm(dim=1) / goal.norm()
    time = float(grid[int((far <= REACHED).nonzero()[0])])
    times = torch.linspace(0, LENGTH * time, records + 1, dtype=WORKING)
    s = path(times)
    lazy = goal * (1 - torch.exp(-2 * c * times))[:, None]
    root = (s.square() + c * c).sqrt()
    way = (root * (goal - s)).norm(dim=1).sum()
    missed = (((root - part) * (goal - s)).norm(dim=1).sum() / way for part in (c, s))
    missed_by_lazy, missed_by_active = map(float, missed)
    return time, float((lazy - s).norm(dim=1).max() / goal.norm()), missed_by_lazy, missed_by_active


def _train(plane: _Plane, target: Tensor, time: Tensor, size: str, seed: int) -> dict[str, Tensor]:
    """Every cell by gradient descent and by the three formulas, and the distances between them, (n,) each."""
    c = plane.threshold
    start = _starts(plane, seed)
    top = torch.maximum(torch.linalg.matrix_norm(start.map, 2), torch.linalg.matrix_norm(target, 2))
    length = LENGTH * time
    records = RECORDS[size]
    every = math.ceil(float((length * 2 * torch.hypot(top, c)).max()) / (SHARE[size] * records))
    rates = (length / (every * records))[:, None, None]
    descent = descend_products(start, target, rates, range(0, records * every + 1, every))
    maps = torch.stack([p.map for p in descent])
    # In units of the length of training all cells share their times: A, Y and c are inverse times.
    shares = torch.linspace(0, 1, records + 1, dtype=WORKING)
    unit = length[:, None, None]
    decay = torch.exp(-2 * c * length * shares[:, None])[..., None, None]
    paths = {"lazy alone": target + (start.map - target) * decay}
    for name, threshold in (("active alone", torch.zeros_like(c)), ("mixed", c)):
        paths[name] = mixed_flow(start.map * unit, target * unit, threshold * length, shares.tolist()) / unit
    gap = maps - target
    away = gap.norm(dim=(2, 3)) / target.norm()
    out = {"start": start.map.norm(dim=(1, 2)) / target.norm(), "time": _first(away <= REACHED) / records * length}
    true = torch.stack([-(p.second @ g + g @ p.first) for p, g in zip(descent, gap, strict=True)])
    way = true.norm(dim=(2, 3)).sum(0)
    goal = target.expand_as(maps)
    motions = {"lazy alone": -2 * c[:, None, None] * gap, "active alone": mixed_velocity(maps, goal, torch.zeros(())),
               "mixed": mixed_velocity(maps, goal, c.expand(len(maps), -1))}  # fmt: skip
    for name in FORMULAS:
        out[f"distance of {name}"] = (paths[name] - maps).norm(dim=(2, 3)).amax(0) / target.norm()
        out[f"missed by {name}"] = (motions[name] - true).norm(dim=(2, 3)).sum(0) / way
    out["active alone, left at the end"] = (paths["active alone"][-1] - target).norm(dim=(1, 2)) / target.norm()
    return out


def _starts(plane: _Plane, seed: int) -> Products:
    """The initial products of all cells; those of one width share their weights up to the scale."""
    unit = {w: random_products(DIMENSION, DIMENSION, w, 1.0, seed=seed) for w in set(plane.widths)}
    scale = (DIMENSION**plane.variance)[:, None, None]
    return Products(*(scale * torch.stack([getattr(unit[w], part) for w in plane.widths])
                      for part in ("map", "first", "second")))  # fmt: skip


def _first(true: Tensor) -> Tensor:
    """(n,) index of the first record (of the first dimension) that is true; NaN for none."""
    return torch.where(true.any(0), true.int().argmax(0).to(WORKING), math.nan)


def _small(columns: dict[str, np.ndarray]) -> np.ndarray:
    return columns["start"] <= SMALL_START


def _wide(columns: dict[str, np.ndarray]) -> np.ndarray:
    return _small(columns) & (columns["log_d width"] >= 2 - 0.01)


def _checks(columns: dict[str, np.ndarray]) -> list[Check]:
    kept = _wide(columns)
    wide = {name: values[kept] for name, values in columns.items()}
    apart = {
        name: float(np.abs(wide[f"{name} alone"] - wide[f"{name} alone, theory"]).max())
        for name in ("missed by lazy", "missed by active", "distance of lazy")
    }
    root = DIMENSION ** (wide["log_d width"] / 2 - 0.5)  # of w / d
    ratios = wide["time"] / wide["time, theory"]
    late = np.abs(ratios - 1) * root
    return [
        Check("largest difference from theory, way missed by the lazy formula", apart["missed by lazy"], 0.0, 0.05),
        Check("largest difference from theory, way missed by the active formula", apart["missed by active"], 0.0, 0.05),
        Check("largest difference from theory, distance of the lazy path", apart["distance of lazy"], 0.0, 0.05),
        Check("threshold at which both miss the same, over theory's", _crossing(columns, "") / _crossing(
            columns, ", theory"), 1.0, 0.1),
        Check("time to converge over theory's, median", float(np.median(ratios)), 1.0, 0.05),
        Check("relative error of the time times √(w/d), largest", float(late.max()), 0.0, 2.0),
        Check("distance of the mixed path times √(w/d), largest", float((wide["distance of mixed"] * root).max()), 0.0,
              0.9),
    ]  # fmt: skip


def _crossing(columns: dict[str, np.ndarray], which: str) -> float:
    """The threshold / d at which the lazy and active formula miss the same share, over wide cells, by interpolation."""
    kept = _wide(columns)
    c = np.log(columns["threshold / d"][kept])
    ahead = (columns[f"missed by lazy alone{which}"] - columns[f"missed by active alone{which}"])[kept]
    order = np.argsort(c)
    c, ahead = c[order], ahead[order]
    near = np.abs(ahead) < 0.5
    slope, level = np.polyfit(c[near], ahead[near], 1)
    return float(np.exp(-level / slope))


def _along(columns: dict[str, np.ndarray], name: str, kept: np.ndarray) -> tuple[list[float], list[float]]:
    order = np.argsort(columns["threshold / d"][kept])
    return columns["threshold / d"][kept][order].tolist(), columns[name][kept][order].tolist()


def _missed(columns: dict[str, np.ndarray]) -> Plot:
    curves = []
    for name in FORMULAS:
        curves.append(Curve(name, *_along(columns, f"missed by {name}", _wide(columns)), kind="scatter"))
        if name != "mixed":
            line = _along(columns, f"missed by {name}, theory", _wide(columns))
            curves.append(Curve(f"{name}, theory", *line, kind="theory"))
    return Plot("Share of the way that a formula misses", "σ²w / d", "share of the way", curves, log_x=True,
                caption="Along the true path: length of the difference of velocities over that of the path. One mark "
                "for every cell of width d² or more. The target's modes go from 0.1 d to d.")  # fmt: skip


def _distances(columns: dict[str, np.ndarray]) -> Plot:
    curves = [Curve("lazy alone", *_along(columns, "distance of lazy alone", _wide(columns)), kind="scatter"),
              Curve("lazy alone, theory", *_along(columns, "distance of lazy alone, theory", _wide(columns)),
                    kind="theory")]  # fmt: skip
    for power in (1.0, 2.0, 3.0, 4.0):
        kept = _small(columns) & (np.abs(columns["log_d width"] - power) < 0.01)
        curves.append(Curve(f"active alone, w = d^{power:g}", *_along(columns, "distance of active alone", kept)))
    curves.append(Curve("mixed", *_along(columns, "distance of mixed", _wide(columns)), kind="scatter"))
    return Plot("Largest distance of a formula's path from the true one", "σ²w / d", "distance / |Y|", curves,
                log_x=True, caption="All from the same initial map. The active formula alone starts late, the later "
                "the wider the network: the map of random weights is √w times smaller than their drive.")  # fmt: skip


def _times(columns: dict[str, np.ndarray]) -> Plot:
    curves = [Curve("descent", *_along(columns, "time", _wide(columns)), kind="scatter"),
              Curve("descent, theory", *_along(columns, "time, theory", _wide(columns)), kind="theory")]  # fmt: skip
    return Plot("Time to converge", "σ²w / d", "learning rate × steps", curves, log_x=True, log_y=True,
                caption="Lazy networks take a time of 1/(2c); active ones that of their slowest mode, which depends on "
                "the start by its logarithm alone.")  # fmt: skip


def _maps(plane: _Plane, columns: dict[str, np.ndarray]) -> list[Heat]:
    y, x = plane.axes
    lines = [Curve("log_d σ² + log_d w = 1", [1.0, 4.0], [0.0, -3.0], kind="theory"),
             Curve("start as large as the target", [1.0, 4.0], [-0.5, -2.0], kind="theory")]  # fmt: skip
    shown = columns["start"] <= 1
    axes = ("log_d width", "log_d initial variance")

    def heat(title: str, values: np.ndarray, label: str) -> Heat:
        kept = np.where(shown, values, np.nan).reshape(len(y), len(x))
        return Heat(title, *axes, x, y, kept.tolist(), label, lines)

    maps = [
        heat(f"Distance of the path: {n}", np.minimum(columns[f"distance of {n}"], 1.0), "distance / |Y|, up to 1")
        for n in FORMULAS
    ]
    return [*maps, heat("Time to converge", np.log10(columns["time"]), "log10 of learning rate × steps")]


def _answer(columns: dict[str, np.ndarray]) -> str:
    kept = _wide(columns)
    wide = {name: values[kept] for name, values in columns.items()}
    cross = _crossing(columns, "")
    active = wide["threshold / d"] < 0.01
    return (
        f"Lazy and active formula miss the same share of the way at σ²w = {cross:.2f} d (theory "
        f"{_crossing(columns, ', theory'):.2f} d). Where σ²w < d/100 the active one misses up to "
        f"{wide['missed by active alone'][active].max():.0%} of it, the lazy one at least "
        f"{wide['missed by lazy alone'][active].min():.0%}; the mixed path is nowhere more than "
        f"{wide['distance of mixed'].max():.0%} off. But the active formula alone, from the same random map, is late "
        f"even there: {wide['distance of active alone'][active].min():.0%} to "
        f"{wide['distance of active alone'][active].max():.0%} off. Convergence takes {wide['time'].max():.2g} in the "
        f"most active network and {wide['time'].min():.2g} in the laziest."
    )
