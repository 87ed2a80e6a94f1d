"""Mixed dynamics: one formula for lazy and rich modes of one network, against gradient descent and its two limits."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import (
    activity_threshold,
    descend_products,
    mixed_flow,
    mode_regimes,
    n_active,
    random_products,
)

DIMENSION, THRESHOLD, RATE = 10, 1.0, 1e-3
SPREAD = (1.0, -1.0)  # modes of the target from 10 to 0.1


@experiment(
    name="mixed-dynamics",
    title="Lazy and rich at once: the modes of one linear network",
    question="Can one network be lazy in some directions and rich in others, and do its weights show which?",
    theory="A = W2W1 moves by dA/dt = −[√(AA' + c²) G + G √(A'A + c²)], G = A − Y, c = σ²w: modes below c learn at one "
    "rate 2c as in the lazy limit, modes above it as in the rich one. The weights alone give s/c of every mode.",
    source="Tu, Aranguri and Jacot 2024, equation 1 and section 2",
)
def run(size: str, seed: int, progress: bool) -> Findings:
    width, units = (100_000, 5000) if size == "full" else (10_000, 1500)
    sigma = (THRESHOLD / width) ** 0.5
    left, right = (torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=stream(seed, "lab", side),
                                               dtype=WORKING)).Q for side in ("left", "right"))  # fmt: skip
    target = (left * torch.logspace(*SPREAD, DIMENSION, dtype=WORKING)) @ right
    steps = sorted({round(10 ** (1 + 0.1 * k)) for k in range(24)})
    times = [RATE * k for k in steps]
    start = random_products(DIMENSION, DIMENSION, width, sigma, seed=seed)
    descent = torch.stack([p.map for p in descend_products(start, target, RATE, steps)])
    c = activity_threshold(sigma, width)
    flows = {
        "mixed flow": mixed_flow(start.map, target, c, times),
        "lazy alone": torch.stack([target + (start.map - target) * torch.tensor(-2 * c * t).exp() for t in times]),
        "balanced alone": mixed_flow(start.map, target, 0.0, times),
    }
    errors = {name: (flow - descent).norm(dim=(1, 2)) / descent.norm(dim=(1, 2)) for name, flow in flows.items()}
    strengths, rho = _read_off(target, c, units, seed)
    worst = {name: float(error.max()) for name, error in errors.items()}
    active = int(n_active(target, c))
    away = float((rho / (strengths / c)).log10().abs().median())
    checks = [
        Check("mixed flow, largest relative error", worst["mixed flow"], 0.0, 0.03),
        Check("modes above the threshold", int(n_active(descent[-1], c)), active, 0),
        Check("regime read from the weights, median error", away, 0.0, 0.05, "decades"),
    ]
    answer = (
        f"{active} of {DIMENSION} modes end above c = {c:g} and learn richly, the rest lazily. The mixed flow follows "
        f"gradient descent within {worst['mixed flow']:.1%}, the lazy formula alone is up to {worst['lazy alone']:.0%} "
        f"off and the balanced one {worst['balanced alone']:.0%}. The trained weights alone give s/c within "
        f"{away:.3f} decades (median)."
    )
    plots = [
        _modes(times, descent, flows["mixed flow"], left, right, c),
        _errors(times, errors),
        _read_from_weights(strengths, rho, c),
    ]
    table = pd.DataFrame({"time": times, **{name: error.tolist() for name, error in errors.items()}})
    settings = {"dimension": DIMENSION, "width": width, "sigma": sigma, "learning rate": RATE, "seed": seed}
    return Findings(answer, plots, checks, table, settings)


def _read_off(target: Tensor, c: float, units: int, seed: int) -> tuple[Tensor, Tensor]:
    """(strengths, rho) of a pair of layers trained from random weights, read from the end alone."""
    d, generator = len(target), stream(seed, "lab", "weights")
    w1, w2 = ((c / units) ** 0.5 * torch.randn(s, generator=generator, dtype=WORKING) for s in ((units, d), (d, units)))
    for _ in range(1000):
        gap = w2 @ w1 - target
        w1, w2 = w1 - 0.004 * w2.mT @ gap, w2 - 0.004 * gap @ w1.mT
    found = mode_regimes(w1, w2)
    return found.strengths, found.rho


def _modes(times: list[float], descent: Tensor, flow: Tensor, left: Tensor, right: Tensor, c: float) -> Plot:
    along = [torch.einsum("oi,toj,ij->ti", left, path, right).abs() for path in (descent, flow)]
    curves = []
    for i in range(0, len(left), 3):
        curves.append(Curve(f"mode {i + 1}, descent", times, along[0][:, i].tolist()))
        curves.append(Curve(f"mode {i + 1}, mixed flow", times, along[1][:, i].tolist(), kind="theory"))
    curves.append(Curve("threshold c", [times[0], times[-1]], [c, c], kind="theory"))
    return Plot("Modes of the map", "time", "strength", curves, log_x=True, log_y=True,
                caption="Strong modes run ahead once above the threshold; weak ones learn at one rate.")  # fmt: skip


def _errors(times: list[float], errors: dict[str, Tensor]) -> Plot:
    curves = [Curve(name, times, error.tolist()) for name, error in errors.items()]
    return Plot("Three formulas against gradient descent", "time", "relative error", curves, log_x=True, log_y=True)


def _read_from_weights(strengths: Tensor, rho: Tensor, c: float) -> Plot:
    x = (strengths / c).tolist()
    curves = [Curve("modes of the trained pair", x, rho.tolist()), Curve("equal", x, x, kind="theory")]
    return Plot("Regime of every mode, from the trained weights alone", "strength / threshold", "ρ", curves,
                log_x=True, log_y=True)  # fmt: skip
