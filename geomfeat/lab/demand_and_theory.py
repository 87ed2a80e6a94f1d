"""Demand R against theory: modes of linear networks, balanced layers, and widths in two parameterizations."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.location.demand import MIDDLE, linearised_task, solve
from geomfeat.models.functional import functional
from geomfeat.models.linear import linear
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import balanced_demand, balanced_network, one_mode_demand

DIMENSION, START = 6, 0.1
SIGMAS, STRENGTHS = (0.1, 0.3, 1.0), (0.1, 1.0, 10.0)
BALANCES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
PROBES, INPUTS, OUTPUTS = 12, 10, 2
HIDDEN = ("fc1", "fc2", "fc3")
SLOPES = {"ntk": (-0.5, -0.5, -0.5), "standard": (-1.5, -0.5, -0.5)}
SLOPES_FROM = 128  # narrower networks have not reached their slope: -.6 from 64 to 128 in NTK parameterization

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


@experiment(
    name="demand-and-theory",
    title="Demand R where theory predicts it: modes, balance and width",
    question="Does demand R agree with the theory of lazy and rich learning where the theory is known?",
    theory="One mode of a wide linear network: R = log10(s / σ²w) + log10((1 − √ε) / 2√d). A square λ-balanced one: "
    "the mean of R over both layers falls as −log10 |λ|, the first layer's as −2 log10 |λ| for λ < 0 only. Width n: "
    "R ~ −½ log10 n for each layer in NTK parameterization; in the standard one −3/2 for the first, −½ for the rest.",
    source="Tu, Aranguri and Jacot 2024, section 2; Domine et al. 2024, section 5; Karkada 2024, section 3",
)
def run(size: str, seed: int, progress: bool) -> Findings:
    full = size == "full"
    with tqdm(total=3, desc="theory", disable=not progress, leave=False) as bar:
        modes = _modes((16, 64, 256, 1024) if full else (64, 1024), 4 if full else 2, seed)
        bar.update()
        balanced: Table = pd.DataFrame(_balanced(b, seed) for b in (*(-x for x in reversed(BALANCES)), 0.0, *BALANCES))
        bar.update()
        widths = _widths((64, 128, 256, 512, 1024) if full else (128, 512), 6 if full else 4, seed)
        bar.update()
    # Log slope over everything at once: strength, variance and width enter through one number.
    wide = modes[modes["width"] == modes["width"].max()]
    slope, _ = np.polyfit(modes["log_ratio"], modes["R"], 1)
    constant = float((wide["R"] - wide["log_ratio"]).mean())
    far = balanced[balanced["lambda"].abs() >= 10]
    both = far.assign(size=far["lambda"].abs()).groupby("size")["R"].mean().to_dict()
    mean_slope, _ = np.polyfit([math.log10(b) for b in both], list(both.values()), 1)
    left = far[far["lambda"] < 0]
    left_slope, _ = np.polyfit(np.log10(-left["lambda"]), left["R"], 1)
    fitted = _slopes(widths)
    checks = [
        Check("one mode: slope of R on log10(s / σ²w)", float(slope), 1.0, 0.03),
        Check(f"one mode: constant at width {wide['width'].max()}", constant,
              one_mode_demand(1.0, 1.0, DIMENSION), 0.02, "decades"),
        Check("balanced: largest distance of R from the closed form",
              float((balanced["R"] - balanced["theory"]).abs().max()), 0.0, 1e-6, "decades"),
        Check("balanced: slope of the mean R of both layers on log10 |λ|", float(mean_slope), -1.0, 0.02),
        Check("balanced: slope of the first layer's R on log10 |λ|, λ < 0", float(left_slope), -2.0, 0.02),
        *(Check(f"{p} parameterization, {layer}: slope on log10 width", fitted[p, layer], SLOPES[p][i], 0.1)
          for p in SLOPES for i, layer in enumerate(HIDDEN)),
    ]  # fmt: skip
    fits = {p: ", ".join(f"{fitted[p, layer]:+.2f}" for layer in HIDDEN) for p in SLOPES}
    answer = (
        f"R of one mode is log10(s / σ²w) {constant:+.2f} (slope {slope:.3f} over strength, variance and width). In "
        f"square balanced networks it follows the closed form; the mean over both layers falls with slope "
        f"{mean_slope:.2f}, but at λ ≫ 0 the small first layer still moves by {10 ** balanced['R'].iloc[-1]:.1f} times "
        f"its size while the kernel rests. Slopes on log width, layer by layer: NTK {fits['ntk']}; standard "
        f"{fits['standard']}."
    )
    table = pd.concat([modes.assign(part="mode"), balanced.assign(part="balance"), widths.assign(part="width")])
    settings = {"dimension": DIMENSION, "start": START, "probes": PROBES, "seed": seed}
    return Findings(
        answer, [_mode_plot(modes), _balance_plot(balanced), *_width_plots(widths)], checks, table, settings
    )


def _demand(model: nn.Module, x: Tensor, change: Tensor, layers: tuple[str, ...]) -> dict[str, float]:
    # The closed forms are of one share; the mean over several would differ from them by .02 decades.
    return solve(linearised_task(functional(model), x, change, layers, shares=[MIDDLE])).layers


def _two_layers(w1: Tensor, w2: Tensor) -> nn.Module:
    model = linear(w1.shape[1], (w1.shape[0],), w2.shape[0]).to(WORKING)
    with torch.no_grad():
        model.get_parameter("fc1.weight").copy_(w1)
        model.get_parameter("head.weight").copy_(w2)
    return model


def _modes(widths: tuple[int, ...], draws: int, seed: int) -> Table:
    """R of one mode over width, initial scale and strength."""
    rows, x = [], torch.eye(DIMENSION, dtype=WORKING)
    for width in widths:
        for sigma in SIGMAS:
            for draw in range(draws):
                g = stream(seed, "lab", "one mode", width, sigma, draw)
                shapes = ((width, DIMENSION), (DIMENSION, width), (DIMENSION, 1), (DIMENSION, 1))
                w1, w2, v, u = (torch.randn(s, generator=g, dtype=WORKING) for s in shapes)
                mode = (v / v.norm()) @ (u / u.norm()).mT
                model = _two_layers(sigma * w1, sigma * w2)
                for s in STRENGTHS:
                    r = _demand(model, x, s * mode, ("fc1",))["fc1"]
                    rows.append({"width": width, "sigma": sigma, "strength": s, "draw": draw,
                                 "log_ratio": math.log10(s / (sigma**2 * width)), "R": r})  # fmt: skip
    return pd.DataFrame(rows)


def _balanced(balance: float, seed: int) -> dict[str, float]:
    """R of a square balanced network towards a rotation of its map, with the closed form."""
    w1, w2 = balanced_network(DIMENSION, DIMENSION, DIMENSION, balance, START, seed=seed)
    drawn = torch.randn(DIMENSION, DIMENSION, generator=stream(seed, "lab", "turn"), dtype=WORKING)
    change = torch.linalg.qr(drawn).Q
    r = _demand(_two_layers(w1, w2), torch.eye(DIMENSION, dtype=WORKING), change, ("fc1",))["fc1"]
    return {"lambda": balance, "R": r, "theory": balanced_demand(balance, START, 1.0)}


def _widths(widths: tuple[int, ...], draws: int, seed: int) -> Table:
    """R by layer of ReLU networks towards a fixed random change, over width and parameterization."""
    x, change = (torch.randn(PROBES, k, generator=stream(seed, "lab", "width", k), dtype=WORKING)
                 for k in (INPUTS, OUTPUTS))  # fmt: skip
    rows = []
    for parameterization in SLOPES:
        for width in widths:
            for draw in range(draws):
                net = mlp(INPUTS, (width,) * 3, OUTPUTS, parameterization=parameterization, seed=seed + draw)
                found = _demand(net, x, change, HIDDEN)
                rows += [{"parameterization": parameterization, "width": width, "draw": draw, "layer": k, "R": r}
                         for k, r in found.items()]  # fmt: skip
    return pd.DataFrame(rows)


def _slopes(widths: Table) -> dict[tuple[str, str], float]:
    wide = widths[widths["width"] >= SLOPES_FROM]
    return {
        (p, layer): float(np.polyfit(np.log10(rows["width"]), rows["R"], 1)[0])
        for p in SLOPES
        for layer in HIDDEN
        for rows in [wide[(wide["parameterization"] == p) & (wide["layer"] == layer)]]
    }


def _mode_plot(modes: Table) -> Plot:
    curves = []
    for width, rows in modes.groupby("width"):
        means = rows.groupby("log_ratio")["R"].mean()
        curves.append(Curve(f"width {width}", means.index.tolist(), means.tolist()))
    ends = [float(modes["log_ratio"].min()), float(modes["log_ratio"].max())]
    line = [one_mode_demand(10**end, 1.0, DIMENSION) for end in ends]
    return Plot("One mode of a linear network", "log10(s / σ²w)", "R, decades",
                [*curves, Curve("slope 1", ends, line, kind="theory")],
                caption="Initial scales, widths and strengths fall on one line.")  # fmt: skip


def _balance_plot(balanced: Table) -> Plot:
    curves = []
    for sign, name in ((-1, "λ < 0"), (1, "λ > 0")):
        rows = balanced[balanced["lambda"] * sign > 0]
        rows = rows.iloc[rows["lambda"].abs().argsort()]
        x = rows["lambda"].abs().tolist()
        curves += [Curve(name, x, rows["R"].tolist()),
                   Curve(f"{name}, closed form", x, rows["theory"].tolist(), kind="theory")]  # fmt: skip
    mean = [(a + b) / 2 for a, b in zip(curves[0].y, curves[2].y, strict=True)]
    curves.append(Curve("mean of both layers", curves[0].x, mean))
    return Plot("Square balanced networks", "|λ|", "R of the first layer, decades", curves, log_x=True,
                caption="At −λ the two layers change places, so the mean over signs is that over layers.")  # fmt: skip


def _width_plots(widths: Table) -> list[Plot]:
    plots = []
    for p, theory in SLOPES.items():
        curves = []
        for layer, slope in zip(HIDDEN, theory, strict=True):
            rows = widths[(widths["parameterization"] == p) & (widths["layer"] == layer)]
            by_width = {w: list(part["R"]) for w, part in rows.groupby("width")}
            x, mean = [float(w) for w in by_width], [fmean(v) for v in by_width.values()]
            error = [stdev(v) / len(v) ** 0.5 for v in by_width.values()]
            curves += [Curve(layer, x, mean, error),
                       Curve(f"{layer}, slope {slope:g}", x,
                             [mean[-1] + slope * math.log10(w / x[-1]) for w in x], kind="theory")]  # fmt: skip
        plots.append(Plot(f"Width, {p} parameterization", "width", "R, decades", curves, log_x=True))
    return plots
