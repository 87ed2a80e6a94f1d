"""The largest stable learning rate over gamma, and what training at a fixed rate does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.data._load_data import load_data
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.models import build
from geomfeat.numerics import WORKING, Device, stream
from geomfeat.regimes.stability import (
    FixedRateDescent,
    StabilityReport,
    StableRates,
    descend_at_rate,
    largest_stable_lr,
    sharpness,
    training_flags,
)

DEPTHS = (2, 3, 4)
LAZY, RICH = (1e-3, 3e-2), (1e2, 1e4)  # ranges of gamma in which slopes are fitted; the crossover is between them
NETWORKS = {
    "MLP, ReLU": ("mlp", {"hidden": (16, 16), "activation": "relu"}),
    "MLP, tanh": ("mlp", {"hidden": (16, 16), "activation": "tanh"}),
    "CNN, ReLU": ("cnn", {"channels": (4, 4), "activation": "relu"}),
}
CEILING = 10.0  # catapults count as unstable: they would add a factor of up to 2 that depends on gamma
SLOPE_TOLERANCE = 0.05


@experiment(
    name="stable-learning-rate",
    title="The largest stable learning rate, from lazy to rich",
    question="How does the largest learning rate at which training does not diverge depend on gamma?",
    theory="Raw rate η on the weights, f = (net(w) − net(w0))/γ. Lazy: the curvature stays that of the start, so "
    "η* = 2/λ₀ ~ γ². Rich, L weight layers: weights grow to |w|^L ~ γ, where the curvature is γ^(−2/L): η* ~ γ^(2/L). "
    "Above 2/λ₀ a wide network may be catapulted; below it curvature may grow to 2/η, the edge of stability.",
    source="Atanasov et al. 2024; Lewkowycz et al. 2020; Cohen et al. 2021",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    full = size == "full"
    found: dict[str, StableRates] = {}
    names = [*(f"linear, L = {depth}" for depth in DEPTHS), *NETWORKS]
    for name in tqdm(names, desc="stable rates", disable=not progress, leave=False):
        linear = "linear" in name
        found[name] = _linear_rates(int(name[-1]), full, seed, device) if linear else _rates(name, full, seed, device)
    runs = _runs(seed, device)
    table = pd.DataFrame(
        {"network": name, "gamma": gamma, "model": s, "stable rate": float(rate), "above": float(above)}
        for name, rates in found.items()
        for gamma, row, upper in zip(rates.gammas, rates.rates, rates.above, strict=True)
        for s, (rate, above) in enumerate(zip(row, upper, strict=True))
    )
    return Findings(
        _answer(found, runs), [_rate_plot(found), *_traces(runs)], _checks(found, runs), table,
        {"ceiling of the loss": CEILING, "lazy": LAZY, "rich": RICH, "size": size, "seed": seed}, [
            "A training counts as stable if its loss ends below its start and never exceeds ten times its start.",
            "MLP and CNN have three weight layers with biases; the predicted 2/L is for homogeneous ones. tanh "
            "saturates, so its hidden layers cannot grow with γ. The CNN's frontier is rough at large γ.",
        ])  # fmt: skip


def _linear_rates(depth: int, full: bool, seed: int, device: Device) -> StableRates:
    """Deep linear networks of width 8, NTK parameterization, on a random linear task."""
    inputs = torch.randn(10, 8, generator=stream(seed, "stable rate", "inputs"), dtype=WORKING)
    teacher = torch.randn(8, 1, generator=stream(seed, "stable rate", "teacher"), dtype=WORKING) / 8**0.5
    inputs, targets = inputs.to(device), (inputs @ teacher).to(device)
    nets = [
        build("linear", inputs=8, hidden=(8,) * (depth - 1), outputs=1, parameterization="ntk", seed=seed + s).to(
            device
        )
        for s in range(4 if full else 2)
    ]
    gammas = torch.logspace(-3, 4, 15, dtype=WORKING).tolist() if full else [1e-3, 3e-2, 1e2, 1e3]
    return largest_stable_lr(nets, inputs, targets, gammas, steps=300 if full else 150, precision=0.02, ceiling=CEILING)


def _rates(name: str, full: bool, seed: int, device: Device) -> StableRates:
    kind, options = NETWORKS[name]
    data = load_data("digits", n=20 if full else 8, seed=seed)
    assert data.labels is not None
    inputs, labels = data.inputs.to(device), data.labels.to(device)
    nets = [build(kind, **options, seed=seed + s).to(device) for s in range(2 if full else 1)]
    gammas = torch.logspace(-3, 3, 13, dtype=WORKING).tolist() if full else [1e-3, 1e-2]
    steps = 200 if full else 20
    return largest_stable_lr(nets, inputs, labels, gammas, steps=steps, precision=0.1, ceiling=CEILING)


class _WideProduct(nn.Module):
    """v'u x / sqrt(n): the model of the catapult (Lewkowycz et al. 2020, section 2)."""

    def __init__(self, n: int, seed: int) -> None:
        super().__init__()
        generator = stream(seed, "wide product")
        self.u, self.v = (nn.Parameter(torch.randn(n, generator=generator, dtype=WORKING)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return (self.u @ self.v) / len(self.u) ** 0.5 * x


Runs = dict[str, tuple[FixedRateDescent, StabilityReport]]


def _runs(seed: int, device: Device) -> Runs:
    """One training for each phase: digits for flow and the edge, two wide layers for the catapult."""
    data = load_data("digits", n=60, seed=seed)
    assert data.labels is not None
    inputs, labels = data.inputs.to(device, WORKING), data.labels.to(device)
    network = build("mlp", hidden=(24, 24), activation="relu", seed=seed).to(device, WORKING)
    wide, one = _WideProduct(2000, seed).to(device), torch.ones(1, 1, dtype=WORKING, device=device)
    curvature = sharpness(network, inputs, labels, initial=network).top
    kernel = float((wide.u.square().sum() + wide.v.square().sum()).detach()) / len(wide.u)  # Hessian 2 K

    def at(model: nn.Module, x: Tensor, y: Any, lr: float, steps: int, centered: bool) -> Any:
        found = descend_at_rate(model, x, y, lr=lr, steps=steps, centered=centered, sharpness_every=max(1, steps // 20))
        return found, training_flags(found.losses, found.sharpness, found.lr)

    return {
        "flow": at(network, inputs, labels, 0.1 / curvature, 400, True),
        "edge of stability": at(network, inputs, labels, 1.0 / curvature, 400, True),
        "catapult": at(wide, one, 0 * one, 3 / (2 * kernel), 60, False),
        "diverged": at(wide, one, 0 * one, 4.5 / (2 * kernel), 60, False),
    }


def _rate_plot(found: dict[str, StableRates]) -> Plot:
    curves = []
    for name, rates in found.items():
        mean, error = _mean(rates.rates)
        curves.append(Curve(name, rates.gammas, mean, error))
    for depth in DEPTHS:
        rates = found[f"linear, L = {depth}"]
        mean = _mean(rates.rates)[0]
        curves.append(_line(f"γ² (L = {depth})", rates.gammas, mean, LAZY, 2.0))
        curves.append(_line(f"γ^(2/{depth})", rates.gammas, mean, RICH, 2 / depth))
    return Plot(
        "Largest stable learning rate",
        "γ",
        "η* on the raw weights",
        curves,
        log_x=True,
        log_y=True,
        caption="Dashed: theory's slopes through the measured point in the middle of each range.",
    )


def _mean(rates: Tensor) -> tuple[list[float], list[float] | None]:
    """Geometric mean over models, and its standard error."""
    mean = rates.log().mean(1).exp()
    n = rates.shape[1]
    return mean.tolist(), (mean * rates.log().std(1) / n**0.5).tolist() if n > 1 else None


def _line(
    label: str, gammas: Sequence[float], rates: Sequence[float], between: tuple[float, float], slope: float
) -> Curve:
    inside = [i for i, g in enumerate(gammas) if between[0] * 0.99 <= g <= between[1] * 1.01]
    middle = inside[len(inside) // 2]
    x = [gammas[i] for i in inside]
    return Curve(label, x, [rates[middle] * (g / gammas[middle]) ** slope for g in x], kind="theory")


def _traces(runs: Runs) -> list[Plot]:
    shown = {name: pair for name, pair in runs.items() if name != "diverged"}
    losses = [
        Curve(name, range(len(run.losses)), [v / run.losses[0] for v in run.losses])
        for name, (run, _) in shown.items()
    ]  # fmt: skip
    curvature = [
        Curve(name, list(run.sharpness), [v * run.lr / 2 for v in run.sharpness.values()])
        for name, (run, _) in shown.items()
    ]
    longest = max(len(run.losses) for run, _ in shown.values()) - 1
    return [
        Plot("Loss at a fixed rate", "step", "loss / first loss", losses, log_y=True,
             caption="Flow and edge: an MLP on 60 digits. Catapult: two wide linear layers, target 0, η = 3/λ₀."),
        Plot("Sharpness at a fixed rate", "step", "λ η / 2",
             [*curvature, Curve("2/η", [0, longest], [1.0, 1.0], kind="theory")],
             caption="Above the dashed line a quadratic loss diverges."),
    ]  # fmt: skip


def _checks(found: dict[str, StableRates], runs: Runs) -> list[Check]:
    checks = []
    for depth in DEPTHS:
        rates = found[f"linear, L = {depth}"]
        checks.append(Check(f"L = {depth}: slope of η*, lazy", rates.slope(*LAZY)[0], 2.0, SLOPE_TOLERANCE))
        checks.append(Check(f"L = {depth}: slope of η*, rich", rates.slope(*RICH)[0], 2 / depth, SLOPE_TOLERANCE))
    for name in NETWORKS:
        checks.append(Check(f"{name}: slope of η*, γ ≤ 0.01", found[name].slope(1e-3, 1e-2)[0], 2.0, 0.15))
    seen = sum(report.phase == name for name, (_, report) in runs.items())
    checks.append(Check("trainings in the predicted phase", float(seen), float(len(runs)), 0.0))
    edge, catapult = runs["edge of stability"][1], runs["catapult"][1]
    checks.append(Check("edge of stability: λ η / 2, last third", edge.end, 1.0, 0.15))
    checks.append(Check("catapult: λ η / 2 at the start", catapult.start, 1.5, 0.1))
    return checks


def _answer(found: dict[str, StableRates], runs: Runs) -> str:
    phases = []
    for name, rates in found.items():
        rich = tuple(g for g in RICH if g <= max(rates.gammas) * 1.01)
        slopes = f"{rates.slope(*LAZY)[0]:.2f}"
        if max(rates.gammas) >= 1e3 * 0.99 and len(rich):
            slopes += f" then {rates.slope(RICH[0], max(rates.gammas))[0]:.2f}"
        phases.append(f"{slopes} ({name})")
    edge, catapult = runs["edge of stability"][1], runs["catapult"][1]
    spread = catapult.highest if math.isfinite(catapult.highest) else 0.0
    return (
        f"log η* has slope {', '.join(phases)} on log γ, lazy then rich. At the edge of stability λη/2 ends at "
        f"{edge.end:.2f}; the catapult raises the loss {spread:.0f}-fold and takes λη/2 from {catapult.start:.2f} to "
        f"{catapult.end:.2f}."
    )
