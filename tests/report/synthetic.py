"""Studies made up for the tests of the report: numbers of a plausible size, every measure, no network behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.location.regimes import regime_of
from geomfeat.location.result import KERNEL, Location
from geomfeat.study import Study

HOSTILE = '<img src=x onerror="window.broken=1">%{x} $\\foo$ & </script><b>"quoted"</b>'

COLUMNS = (
    "run", "seed", "at", "gamma", "layer", "layer_b", "measure", "quantity", "value", "stderr", "ok", "note",
    "n", "d", "dtype", "device", "seconds", "options", "version",
)  # fmt: skip


def names(n_layers: int) -> list[str]:
    """Layer names as a small network has them."""
    return [f"layers.{i}" for i in range(n_layers)]


def make_study(
    name: str = "mlp lazy",
    richness: float = -1.5,
    *,
    layers: Sequence[str] | int = 6,
    located: bool = True,
    arrays: bool = True,
    failures: bool = False,
    tier: str = "initial",
    ladder: bool = False,
    n: int = 200,
    seed: int = 0,
) -> Study:
    """A study of a network whose features were asked to move by 10**richness of their size."""
    names_ = names(layers) if isinstance(layers, int) else list(layers)
    rng = np.random.default_rng(seed + int(abs(richness) * 100))
    rows = _layer_rows(names_, richness, rng) + _movement_rows(names_, richness, rng)
    if failures:
        _spoil(rows)
    where = _location(names_, richness, rng, tier, ladder) if located else None
    if where is not None:
        rows += _location_rows(where)
    else:
        note = "the checkpoint has no initial weights and no factory was given: pass --initial FILE"
        rows += [
            _row("init->trained", "", "location", q, math.nan, None, note) for q in ("richness", "movement", "excess")
        ]
    fixed = {"run": name, "seed": seed, "gamma": 10**richness, "n": n, "d": 64, "dtype": "float32", "device": "cpu",
             "seconds": 0.1, "options": "{}", "version": "0.1.0"}  # fmt: skip
    table = pd.DataFrame([{**fixed, **row} for row in rows], columns=list(COLUMNS))
    return Study(
        name, table, where, _arrays(names_, richness, rng, n) if arrays else {}, _settings(name, names_, richness)
    )


def gallery() -> list[Study]:
    """Three models of six layers from lazy to rich."""
    return [
        make_study("mlp lazy", -1.5, seed=1),
        make_study("mlp middle", -0.2, seed=1, ladder=True),
        make_study("mlp rich", 0.9, seed=1),
    ]


def trouble() -> list[Study]:
    """One model with failures, a hostile name and re-initialised weights, and one without a location or arrays."""
    layers = ["stem", HOSTILE, "блок.2", "encoder.layers.11.attention.output.dense", "head"]
    return [
        make_study("model " + HOSTILE, -0.9, layers=layers, failures=True, tier="reinitialised"),
        make_study("no location", 0.4, layers=layers, located=False, arrays=False),
    ]


def _row(
    at: str, layer: str, measure: str, quantity: str, value: float, stderr: float | None = None, note: str = ""
) -> dict[str, Any]:
    return {
        "at": at, "layer": layer, "layer_b": "", "measure": measure, "quantity": quantity, "value": value,
        "stderr": math.nan if stderr is None else stderr, "ok": math.isfinite(value), "note": note,
    }  # fmt: skip


def _layer_rows(layers: list[str], richness: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    learned = 1 / (1 + math.exp(-3 * (richness + 0.4)))  # how much of the rich end's geometry this network has
    for at in ("init", "trained"):
        for i, layer in enumerate(layers):
            depth = (i + 1) / len(layers)
            gain = 1 + (2.2 * learned * depth if at == "trained" else 0.0)
            jitter = lambda scale: 1 + scale * rng.standard_normal()  # noqa: E731
            numbers = {
                ("capacity", "capacity"): (0.06 * gain * jitter(0.02), 0.002 * gain),
                ("capacity", "dimension"): (22 / gain * jitter(0.02), 0.6),
                ("capacity", "radius"): (1.25 / gain**0.4 * jitter(0.01), 0.02),
                ("capacity", "utility"): (0.7 * jitter(0.01), 0.01),
                ("capacity", "simulated_capacity"): (0.062 * gain * jitter(0.02), None),
                ("capacity", "frac_inside"): (max(0.3 - 0.2 * depth, 0.0), None),
                ("capacity", "frac_nonseparable"): (0.2, None),
                ("capacity", "center_alignment"): (0.5 / gain**0.5 * jitter(0.02), 0.01),
                ("capacity", "axis_alignment"): (0.16 * jitter(0.03), 0.008),
                ("capacity", "center_axis_alignment"): (0.12 * jitter(0.03), 0.006),
                ("capacity", "alignment_floor"): (math.sqrt(2 / (math.pi * 64)), None),
                ("participation_ratio_corrected", ""): (18 / gain * jitter(0.05), 0.9),
                ("participation_ratio", ""): (15 / gain * jitter(0.05), 0.8),
                ("effective_rank", ""): (40 / gain**0.6 * jitter(0.03), None),
                ("stable_rank", ""): (6 / gain**0.5 * jitter(0.03), None),
                ("two_nn", ""): (11 / gain**0.3 * jitter(0.05), 0.5),
                ("power_law_exponent", "exponent"): (1.1 * gain**0.2 * jitter(0.02), 0.04),
                ("power_law_exponent", "r2"): (0.97, None),
                ("power_law_exponent", "first_rank"): (2.0, None),
                ("power_law_exponent", "last_rank"): (40.0, None),
                ("linear_probe_accuracy", ""): (min(0.9 + 0.02 * gain * depth, 0.995), 0.008),
                ("nc1", ""): (8.0 / gain**2 * jitter(0.1), None),
                ("label_alignment_unbiased", ""): (0.12 * gain * jitter(0.04), 0.01),
                ("d_lr", ""): (0.43 / gain**0.5 * jitter(0.02), None),
            }
            rows += [_row(at, layer, m, q or m, *number) for (m, q), number in numbers.items()]
    return rows


def _movement_rows(layers: list[str], richness: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows, moved = [], 10**richness
    for layer in ["", *layers]:
        by_depth = 1.0 if not layer else 0.5 + 1.2 * layers.index(layer) / len(layers)
        noise = 1 + 0.05 * rng.standard_normal()
        numbers = {
            ("kernel_relative_change", "relative_change"): 1.5 * moved * by_depth * noise,
            ("kernel_distance", "distance"): min(moved**2 * by_depth * 0.5, 0.8),
            ("kernel_distance_centred", "distance_centred"): min(moved**2 * by_depth * 0.6, 0.9),
            ("feature_movement", "relative"): moved * by_depth * noise,
            ("weight_movement", "spectral"): 0.8 * moved * by_depth,
            ("weight_movement", "frobenius"): 0.3 * moved * by_depth,
            ("activation_stability", "stability"): 0.5 + 0.5 / (1 + moved * by_depth),
            ("linearisation_gap", "gap"): moved / (1 + moved),
        }
        if layer:
            numbers["representation_change", ""] = min(0.9 * moved * by_depth, 1.4)
        rows += [_row("init->trained", layer, m, q or m, value) for (m, q), value in numbers.items()]
    return rows


def _spoil(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["measure"] == "nc1":
            row.update(value=math.nan, ok=False, note="class 7 has one sample: give at least two of every class")
        if row["measure"] == "capacity" and row["layer"] == "head" and row["at"] == "trained":
            row.update(ok=False, note="3 of 200 draws not certified (worst violation 2e-6): pass draws of lower rank")
        if row["measure"] == "two_nn" and row["at"] == "init" and row["layer"] == "stem":
            row["note"] = "12 duplicated points were left out"


def _location(layers: list[str], richness: float, rng: np.random.Generator, tier: str, ladder: bool) -> Location:
    demand = richness + np.linspace(-0.35, 0.35, len(layers)) + 0.05 * rng.standard_normal(len(layers))
    movement = np.minimum(demand, 0.15 * demand - 0.05) + 0.04
    R, M = float(demand.mean()), float(movement.mean())
    frame = pd.DataFrame({
        "layer": layers, "richness": demand, "low": demand - 0.06, "high": demand + 0.08, "movement": movement,
        "excess": movement - demand, "regime": [regime_of(r, m) for r, m in zip(demand, movement, strict=True)],
    })  # fmt: skip
    again = tier == "reinitialised"
    kernel = _kernel(R, again)
    seen = (kernel[name] for name in ("kernel_demand", "kernel_change", "kernel_excess"))
    regime = "at most lazy" if again else regime_of(R, M, *seen)
    flags = ["few probes (64): R is a lower bound on the demand of the training set"] if richness > 0 else []
    flags += ["BatchNorm: running statistics of each snapshot were used"] if again else []
    counts = [16, 32, 64, 128]
    rungs = pd.DataFrame(
        {"gamma": [0.01, 0.1, 1.0, 10.0], "richness": [-1.9, -0.95, 0.1, 1.0], "train_loss": [0.05] * 4}
    )
    return Location(
        R, R - 0.07, R + 0.09, M, M - R, tier, -0.8 if again else None, again,
        regime, frame, tuple(flags),
        pd.DataFrame({"n_probes": counts, "richness": [R - 0.2 / k for k in (1, 2, 4, 8)]}),
        {"n_probes": 128, "n_outputs": 10, "epsilon": 0.01, "method": "exact", "seed": 0},
        *((0.62, 0.5, 0.77, rungs) if ladder else ()), **kernel,
    )  # fmt: skip


def _kernel(richness: float, again: bool) -> dict[str, Any]:
    """The numbers of the tangent kernel of such a network: no measured ones with fresh weights."""
    kappa = richness + 0.1
    change = math.nan if again else 0.2 * 10 ** min(kappa, 0.3 * kappa + 0.3)
    gap = math.nan if again else change / (1 + change)
    spans = {"kernel_demand": (kappa - 0.06, kappa + 0.08), "kernel_demand_on_target": (kappa - 0.3, kappa - 0.1)}
    if not again:
        spans |= {name: (0.9 * x, 1.1 * x) for name, x in (("kernel_change", change), ("linearisation_gap", gap))}
    return {
        "kernel_demand": kappa, "kernel_demand_on_target": kappa - 0.2, "kernel_change": change,
        "kernel_excess": math.nan if again else 0.02, "linearisation_gap": gap, "kernel_intervals": spans,
    }  # fmt: skip


def _location_rows(where: Location) -> list[dict[str, Any]]:
    known = [q for q in KERNEL if not math.isnan(getattr(where, q))]
    rows = [
        _row("init->trained", "", "location", q, getattr(where, q)) for q in ("richness", "movement", "excess", *known)
    ]
    for one in where.layers.to_dict("records"):
        rows += [_row("init->trained", one["layer"], "location", q, one[q]) for q in ("richness", "movement", "excess")]
    return rows


def _arrays(layers: list[str], richness: float, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    place, moved = np.arange(len(layers)), min(0.75 * 10 ** min(richness, 0.0), 0.75)
    within = np.exp(-np.abs(place[:, None] - place) / 5)
    out = {
        "cka/initial/initial": within,
        "cka/trained/trained": within**1.5,
        "cka/initial/trained": within * (1 - moved * (place + 1) / len(layers)),
    }
    labels = np.arange(n) % 10
    for at, spread in (("initial", 1.6), ("trained", 1.6 - 1.2 * moved)):
        for i, layer in enumerate(layers):
            steep = 1.0 + (0.8 * moved * (i + 1) / len(layers) if at == "trained" else 0.0)
            out[f"spectrum/{at}/{layer}"] = 3.0 * np.arange(1, 65) ** -steep * np.exp(0.03 * rng.standard_normal(64))
        centers = 4 * np.stack([np.cos(labels * 0.628), np.sin(labels * 0.628)], 1)
        out[f"umap/{at}/{layers[-1]}"] = centers + spread * rng.standard_normal((n, 2))
    return {**out, "umap/labels": labels}


def _settings(name: str, layers: list[str], richness: float) -> dict[str, Any]:
    return {
        "layers": layers, "model": "geomfeat.models:mlp", "data": "digits", "n_samples": 200, "seed": 0,
        "accuracy": {"train": 0.995, "test": 0.93 + 0.01 * math.tanh(richness)},
        "left_out": {"d_lr": "it needs the network's outputs: extract with the model"},
        "versions": {"geomfeat": "0.1.0", "torch": "2.13.0", "numpy": "2.3.1"},
        "command": f"geomfeat analyze --model mlp --trained {name.split()[0]}.safetensors --data digits",
    }  # fmt: skip
