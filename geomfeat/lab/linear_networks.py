"""Exact linear networks: the balance lambda of two layers sets how a mode is learned and the kernel turns."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pandas as pd
import torch
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import LinearTask, aligned_mode, balanced_network, linear_flow

SHAPES = {"square 5-5-5": (5, 5, 5), "funnel 10-5-5": (10, 5, 5), "anti-funnel 5-5-10": (5, 5, 10),
          "bottleneck 10-5-10": (10, 5, 10)}  # fmt: skip
MODES = (1.0, 3.0)  # smallest and largest singular value of the task
# Final turn of the kernel at lambda = -20, -5, 5, 20 for a task of singular values 1 to 3 and a small start.
KNOWN = {
    "square 5-5-5": (0.0, 0.004, 0.004, 0.0),
    "funnel 10-5-5": (0.484, 0.446, 0.006, 0.0),
    "anti-funnel 5-5-10": (0.0, 0.006, 0.453, 0.495),
}
KNOWN_AT = (-20.0, -5.0, 5.0, 20.0)
SMALL_START = 1e-3


@experiment(
    name="linear-networks",
    title="Exact linear networks: the balance of two layers sets the regime",
    question="How does a two-layer linear network learn when its layers start balanced by lambda?",
    theory="W2'W2 − W1W1' = λI is conserved. One aligned mode follows ds/dt = √(λ² + 4s²) (σ − s): a sigmoid at λ = 0, "
    "an exponential of rate |λ| at large |λ|. A square network is lazy at both ends; a funnel turns its kernel at "
    "negative λ, an anti-funnel at positive.",
    source="Domine et al. 2024, theorem 4.1 and section 5; Saxe et al. 2014",
)
def run(size: str, seed: int, progress: bool) -> Findings:
    draws = 8
    balances = KNOWN_AT if size == "small" else (-20, -12, -8, -5, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 8, 12, 20)
    turns = {
        (name, float(balance)): [turn(shape, float(balance), seed + draw) for draw in range(draws)]
        for name, shape in tqdm(SHAPES.items(), desc="shapes", disable=not progress, leave=False)
        for balance in balances
    }
    means = {key: fmean(values) for key, values in turns.items()}
    rows = [{"shape": k[0], "lambda": k[1], "draw": i, "turn": v} for k, vs in turns.items() for i, v in enumerate(vs)]
    away = max(_mode_error(balance) for balance in (0.0, 1.0, 10.0))
    checks = [
        Check(f"{name}, turn at λ = {at:g}", means[name, at], known, 0.03 if known > 0.1 else 0.002)
        for name, column in KNOWN.items()
        for at, known in zip(KNOWN_AT, column, strict=True)
    ]
    checks.append(Check("aligned mode, flow of the network less closed form", away, 0.0, 1e-8))
    return Findings(_answer(means), [_modes(), _turns(turns)], checks, pd.DataFrame(rows),
                    {"draws": draws, "modes": MODES, "start": SMALL_START, "seed": seed}, [
                        "At λ = 0 a square network keeps the sign of det(W2 W1): a draw of the wrong sign ends at "
                        "the saddle where its weakest mode is not learned, and its kernel turns by less."])  # fmt: skip


def turn(shape: tuple[int, int, int], balance: float, seed: int) -> float:
    """1 - cos between the first and last tangent kernel of a balanced network, trained for good on a random task."""
    inputs, hidden, outputs = shape
    generator = stream(seed, "lab", "task", inputs, outputs)
    u, v = (torch.linalg.qr(torch.randn(n, hidden, generator=generator, dtype=WORKING)).Q for n in (outputs, inputs))
    task = LinearTask((u * torch.linspace(*MODES, hidden, dtype=WORKING)) @ v.T)
    start = balanced_network(inputs, hidden, outputs, float(balance), SMALL_START, seed=seed)
    path = linear_flow(*start, task, [0.0, 10 + 8 * abs(float(balance))])
    return float(path.ntk_movement(torch.eye(inputs, dtype=WORKING))[-1])


def _mode_error(balance: float) -> float:
    """Largest difference of a whole network's mode and the closed form of it, over time."""
    times = [0.0, 0.3, 1.0, 3.0]
    start = balanced_network(1, 1, 1, balance, 0.05)
    first = float((start[1] @ start[0]).item())
    path = linear_flow(*start, LinearTask(torch.tensor([[2.0]], dtype=WORKING)), times)
    return float((path.product.flatten() - aligned_mode(first, 2.0, balance, times)).abs().max())


def _modes() -> Plot:
    times = torch.linspace(0, 5, 120, dtype=WORKING)
    curves = []
    for balance in (0.0, 1.0, 4.0, 20.0):
        rate = math.hypot(balance, 2.0)
        s = aligned_mode(1e-2, 1.0, balance, 2 * times / rate)
        curves.append(Curve(f"λ = {balance:g}", times.tolist(), s.tolist(), kind="theory"))
    return Plot(
        "One aligned mode",
        "time × √(λ² + 4) / 2",
        "singular value",
        curves,
        caption="At λ = 0 a small network waits and then learns at once; at large |λ| it learns exponentially. "
        "Time is counted so that all end together.",
    )


def _turns(turns: dict[tuple[str, float], list[float]]) -> Plot:
    curves = []
    for name in SHAPES:
        found = {balance: values for (shape, balance), values in turns.items() if shape == name}
        mean = [fmean(values) for values in found.values()]
        error = [stdev(values) / len(values) ** 0.5 for values in found.values()]
        curves.append(Curve(name, list(found), mean, error))
    left, right, gap = KNOWN_AT[:2], KNOWN_AT[2:], (math.nan,)  # no line through λ = 0, where no value is known
    curves += [
        Curve(f"{n}, published", (*left, 0.0, *right), (*known[:2], *gap, *known[2:]), kind="theory")
        for n, known in KNOWN.items()
    ]
    return Plot(
        "Turn of the tangent kernel over training",
        "λ",
        "1 − cos(K₀, K)",
        curves,
        caption="Dashed: the values of the published table. Bars are one standard error over draws of task and start.",
    )


def _answer(means: dict[tuple[str, float], float]) -> str:
    return (
        f"A square network ends lazy at large |λ| (turn of the kernel {means['square 5-5-5', 20.0]:.3f} at 20); a "
        f"funnel becomes rich at λ = −20 ({means['funnel 10-5-5', -20.0]:.2f}) and stays lazy at +20 "
        f"({means['funnel 10-5-5', 20.0]:.3f}); the anti-funnel is its mirror image, and a bottleneck turns at both "
        f"ends ({means['bottleneck 10-5-10', -20.0]:.2f} and {means['bottleneck 10-5-10', 20.0]:.2f})."
    )
