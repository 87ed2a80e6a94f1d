"""The lazy limit: a trained network against its linearisation and against kernel regression, over gamma."""

from __future__ import annotations

import math

import pandas as pd
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.data._load_data import load_data
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.models import build
from geomfeat.numerics import WORKING, Device
from geomfeat.regimes.linearization import lazy_agreement, lazy_limit, linearisation_gaps
from geomfeat.regimes.training import TrainOptions, train_at_gamma

NETWORKS = {
    "MLP, tanh": ("mlp", {"hidden": (64, 64), "activation": "tanh"}),
    "CNN, tanh": ("cnn", {"channels": (8, 16), "activation": "tanh"}),
    "MLP, ReLU": ("mlp", {"hidden": (64, 64), "activation": "relu"}),
}
GAMMAS = {"full": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0), "small": (1e-4, 1e-2, 1.0)}
SAMPLES, STEPS = {"full": 80, "small": 24}, {"full": 300, "small": 40}
SHARE_OF_LARGEST_LR = 0.1  # at gamma = 10 the curvature has grown several times by the end
LAZY_BELOW = 1e-2  # the slope is fitted up to this gamma
SLOPE_TOLERANCE = 0.03


@experiment(
    name="lazy-limit",
    title="The lazy limit: when a network equals its linearisation and its kernel machine",
    question="At which gamma does a trained network agree with its linearisation and its tangent kernel?",
    theory="f = (net(w) − net(w0))/γ tends to the linear model f_lin(w) = Df(w0)(w − w0)/γ as γ → 0, with a relative "
    "difference of first order in γ (slope 1) for smooth activations; gradient descent on the linear model is, "
    "exactly, kernel descent with the initial tangent kernel.",
    source="Chizat, Oyallon and Bach 2019, theorem 2.2; Lee et al. 2019, section 2",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    data = load_data("digits", n=SAMPLES[size], seed=seed)
    assert data.labels is not None
    inputs, labels = data.inputs.to(device, WORKING), data.labels.to(device)
    networks = {
        name: build(kind, **options, seed=seed).to(device, WORKING) for name, (kind, options) in NETWORKS.items()
    }
    rates = {
        name: SHARE_OF_LARGEST_LR * lazy_limit(network, inputs, labels, centered=True).largest_lr
        for name, network in networks.items()
    }
    cells = [(name, gamma) for name in NETWORKS for gamma in GAMMAS[size]]
    rows = []
    for name, gamma in tqdm(cells, desc="trainings", disable=not progress, leave=False):
        found = lazy_agreement(networks[name], inputs, labels, gamma=gamma, lr=rates[name], steps=STEPS[size])
        rows.append({"network": name, "lr": rates[name], **vars(found)})
    table = pd.DataFrame(rows)
    slopes = {name: _slope(table.query("network == @name and gamma <= @LAZY_BELOW")) for name in NETWORKS}
    first = next(iter(NETWORKS))
    gaps = _gaps(networks[first], inputs, labels, rates[first], size)
    return Findings(
        _answer(table, slopes), [_differences(table), _gap_plot(first, gaps)], _checks(table, slopes), table,
        {"data": "digits", "samples": SAMPLES[size], "steps": STEPS[size], "seed": seed,
         "share of the largest lr": SHARE_OF_LARGEST_LR}, [
            "All trainings are full-batch gradient descent on the mean square, in float64, with equal lr and steps.",
            "No slope is checked for ReLU: it is also 1 while no gate flips, but the first flip is a jump, and when "
            "about γ·n of n gates flip, by amounts of order γ and of random signs, the difference is of order √(γ/n)."],
    )  # fmt: skip


def _slope(rows: pd.DataFrame) -> float:
    """Least-squares slope of log difference on log gamma."""
    x = rows.gamma.map(math.log)
    y = rows.network_linearised.map(math.log)
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).pow(2).sum())


def _gaps(network: nn.Module, inputs: Tensor, labels: Tensor, lr: float, size: str) -> dict[float, dict[int, float]]:
    """Linearisation gap along training, for each gamma of at least 1e-3."""
    when = sorted({round(STEPS[size] ** (i / 12)) for i in range(13)})
    gaps = {}
    for gamma in (g for g in GAMMAS[size] if g >= 1e-3 and math.isclose(math.log10(g) % 1, 0, abs_tol=1e-9)):
        options = TrainOptions(momentum=0.0, back_off=False, snapshot_steps=when)
        run = train_at_gamma(network, inputs, labels, gamma=gamma, lr=lr, max_steps=STEPS[size], options=options)
        gaps[gamma] = linearisation_gaps(network, run.snapshots, inputs)
    return gaps


def _differences(table: pd.DataFrame) -> Plot:
    curves = []
    for name, rows in table.groupby("network", sort=False):
        gammas = rows.gamma.tolist()
        curves.append(Curve(f"{name}: network − linearised", gammas, rows.network_linearised.tolist()))
        curves.append(Curve(f"{name}: linearised − kernel", gammas, rows.linearised_kernel.tolist()))
    first = table.iloc[0]
    gammas = sorted(set(table.gamma))
    line = [first.network_linearised * g / first.gamma for g in gammas]
    curves.append(Curve("slope 1", gammas, line, kind="theory"))
    return Plot(
        "Difference of the outputs after equal training",
        "γ",
        "relative difference",
        curves,
        log_x=True,
        log_y=True,
        caption="Norm of the difference over all samples and outputs, relative to the linearised network's outputs. "
        "The linearised network and kernel descent differ by rounding alone.",
    )


def _gap_plot(name: str, gaps: dict[float, dict[int, float]]) -> Plot:
    curves = [Curve(f"γ = {gamma:g}", list(of), list(of.values())) for gamma, of in gaps.items()]
    return Plot(
        f"Linearisation gap during training ({name})",
        "step",
        "|f − f_lin| / |f|",
        curves,
        log_x=True,
        log_y=True,
        caption="The network is linearised at the initial weights and evaluated at the trained ones.",
    )


def _checks(table: pd.DataFrame, slopes: dict[str, float]) -> list[Check]:
    checks = [
        Check(f"{name}: slope of log difference on log γ, γ ≤ {LAZY_BELOW:g}", slope, 1.0, SLOPE_TOLERANCE)
        for name, slope in slopes.items()
        if "tanh" in name
    ]
    lazy, rich = table[table.gamma == 1e-4], table[table.gamma >= 1]
    return [
        *checks,
        Check(
            "largest difference of network and linearised at γ = 1e-4", float(lazy.network_linearised.max()), 0.0, 1e-3
        ),
        Check("largest difference of network and kernel at γ = 1e-4", float(lazy.network_kernel.max()), 0.0, 1e-3),
        Check("largest difference of linearised and kernel, every γ", float(table.linearised_kernel.max()), 0.0, 1e-8),
        Check("trainings at γ ≥ 1 that count as lazy", float(rich.is_lazy.sum()), 0.0, 0.0),
    ]


def _answer(table: pd.DataFrame, slopes: dict[str, float]) -> str:
    lazy = table[table.gamma == 1e-4].network_linearised.max()
    rich = table[table.gamma == 1.0].network_linearised
    listed = ", ".join(f"{slope:.3f} ({name})" for name, slope in slopes.items())
    return (
        f"At γ = 1e-4 all networks agree with their linearisation to {lazy:.1g}; at γ = 1 they differ from it by "
        f"{rich.min():.0%} to {rich.max():.0%}. Up to γ = {LAZY_BELOW:g} the difference grows with slope {listed}. The "
        f"linearised network and kernel descent agree to {table.linearised_kernel.max():.1g}."
    )
