"""Feature-learning strength: training over eight decades of gamma at matched steps, and ensembles of lazy and rich."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from statistics import fmean

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.data._load_data import load_data
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.models import build
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, Device, stream
from geomfeat.regimes.stability import sharpness
from geomfeat.regimes.training import TrainOptions, scaled_outputs, train_at_gamma
from geomfeat.regimes.training.objective import centred_one_hot

INPUTS, WIDTH, OUTPUTS, SAMPLES = 8, 16, 2, 20
MODES = (2.0, 1.0)  # singular values of the linear task, on whitened inputs
DEPTHS = {"full": (2, 3, 4), "small": (2, 3)}
PER_DECADE = {"full": 2, "small": 1}
STEPS = {2: 500, 3: 3000, 4: 7000}  # what the largest gamma takes for its first drop
SHARE = 0.1  # of the largest stable rate at the start
FALLEN = 0.9  # loss at which the silent period ends
LAZY, RICH = 1e-3, 1e3
ENSEMBLE = {"full": {"n": 50, "seeds": 8, "widths": (64, 128, 256, 512, 1024),
                     "powers": range(-3, 4)},
            "small": {"n": 20, "seeds": 5, "widths": (128, 256, 512), "powers": (-3, -2, 3)}}  # fmt: skip
ASYMPTOTIC = {"full": 256, "small": 128}  # width from which the kernel's noise is small beside its eigenvalues
TARGET_LOSS = 0.1


@experiment(
    name="feature-learning-strength",
    title="Feature-learning strength: eight decades of gamma, and ensembles at both ends",
    question="How does training look from lazy to ultra-rich at a matched learning rate, and what does averaging "
    "several networks gain at either end?",
    theory="f = (net(w) − net(w₀))/γ, raw rate η ~ min(γ², γ^(2/L)) for L weight layers. Lazy: the loss over steps "
    "does not depend on γ. Rich: with w = γ^(1/L) v, v follows the flow of γ = 1 from a start of γ^(−1/L): the loss "
    "stays silent for a time that grows as ln γ for L = 2 and as γ^((L−2)/L) beyond, and then falls on one curve. Mean "
    "loss = loss of the mean + variance over starts; the variance falls as 1/width at both ends (at γ ~ √width), with "
    "the smaller constant where features are learned.",
    source="Atanasov et al. 2024 (feature learning strength); Geiger et al. 2020; Vyas et al. 2023",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    x, y = (part.to(device) for part in _linear_task(seed))
    gammas = [10 ** (k / PER_DECADE[size]) for k in range(-4 * PER_DECADE[size], 4 * PER_DECADE[size] + 1)]
    losses, rates = {}, {}
    for depth in tqdm(DEPTHS[size], desc="loss curves", disable=not progress, leave=False):
        nets = [build("linear", inputs=INPUTS, hidden=(WIDTH,) * (depth - 1), outputs=OUTPUTS, parameterization="ntk",
                      seed=seed + s).to(device, WORKING) for s in range(2)]  # fmt: skip
        # At small gamma the curvature is that of the start over gamma^2.
        curvature = max(sharpness(net, x, y, initial=net, gamma=LAZY, rtol=1e-3).top * LAZY**2 for net in nets)
        rates[depth] = SHARE * 2 / curvature
        losses[depth] = side_by_side(
            nets, x, y, gammas, [rates[depth] * min(g**2, g ** (2 / depth)) for g in gammas], STEPS[depth]
        )
    silent = _silent(losses, gammas)
    ensembles = _ensembles(size, seed, progress, device)
    checks = [*_curve_checks(losses, silent, gammas, rates), *_ensemble_checks(ensembles, size)]
    plots = [_rescaled(losses[3], gammas), _drops(losses[3], gammas), _silent_plot(silent, gammas, losses),
             _gain_plot(ensembles), _width_plot(ensembles)]  # fmt: skip
    table = pd.concat([silent.assign(part="silent period"), ensembles.assign(part="ensemble")], ignore_index=True)
    settings = {"linear networks": f"{INPUTS}-{WIDTH}-..-{OUTPUTS}", "share of the stable rate": SHARE, "seed": seed,
                "ensembles": f"digits, {ENSEMBLE[size]['n']}, one hidden layer, loss {TARGET_LOSS}"}  # fmt: skip
    notes = [
        "The time to drop is asymptotic: below γ ~ 100 the growth of the weights also starts from the lazy part.",
        "The variance of lazy networks falls more slowly than 1/width until the width is several times the number of "
        "samples: the kernel's fluctuations are not yet small beside its small eigenvalues.",
    ]
    return Findings(_answer(silent, ensembles), plots, checks, table, settings, notes)


def _linear_task(seed: int) -> tuple[Tensor, Tensor]:
    """Whitened inputs (n, inputs), and targets of a random map with the singular values MODES."""
    draw = stream(seed, "lab", "feature-learning strength")

    def directions(rows: int, columns: int) -> Tensor:
        return torch.linalg.qr(torch.randn(rows, columns, generator=draw, dtype=WORKING)).Q

    x = directions(SAMPLES, INPUTS) * SAMPLES**0.5
    return x, x @ directions(INPUTS, OUTPUTS) * torch.tensor(MODES, dtype=WORKING)


def side_by_side(
    nets: Sequence[nn.Module], x: Tensor, y: Tensor, gammas: Sequence[float], rates: Sequence[float], steps: int
) -> Tensor:
    """Relative losses (steps + 1, gammas, networks), on the CPU, of descent at a raw rate for every gamma."""
    cells = [dict(net.named_parameters()) for _ in gammas for net in nets]
    weights = {name: torch.stack([cell[name].detach() for cell in cells]).requires_grad_() for name in cells[0]}
    gamma, rate = (
        torch.tensor(v, dtype=WORKING, device=x.device).repeat_interleave(len(nets))
        for v in (list(gammas), list(rates))
    )
    outputs = torch.func.vmap(lambda own: torch.func.functional_call(nets[0], own, (x,)))
    start = outputs(weights).detach()
    unit, seen = y.square().sum(1).mean(), []
    for step in range(steps + 1):
        loss = ((outputs(weights) - start) / gamma[:, None, None] - y).square().sum(2).mean(1)
        seen.append(loss.detach() / unit)
        if step == steps:
            break
        slopes = torch.autograd.grad(loss.sum(), list(weights.values()))
        with torch.no_grad():
            for weight, slope in zip(weights.values(), slopes, strict=True):
                weight -= rate.view(-1, *[1] * (slope.ndim - 1)) * slope
    return torch.stack(seen).view(steps + 1, len(gammas), len(nets)).cpu()


def _reached(losses: Tensor, level: float) -> float:
    """Step, interpolated, at which a loss curve first falls to the level; NaN if never."""
    below = (losses <= level).nonzero().flatten()
    if not len(below):
        return math.nan
    k = int(below[0])
    before, after = losses[k - 1 : k + 1].tolist()
    return k - 1 + (before - level) / (before - after)


def _silent(losses: dict[int, Tensor], gammas: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"layers": depth, "gamma": gamma, "network": s, "silent steps": _reached(found[:, i, s], FALLEN),
         "steps to half": _reached(found[:, i, s], 0.5)}
        for depth, found in losses.items() for i, gamma in enumerate(gammas) for s in range(found.shape[2])
    )  # fmt: skip


def _mean(silent: pd.DataFrame, depth: int, gamma: float, column: str) -> float:
    """Mean over networks of a column at one depth and gamma."""
    kept = (silent["layers"].to_numpy() == depth) & (abs(silent["gamma"].to_numpy() / gamma - 1) < 1e-6)
    return float(silent[column].to_numpy(float)[kept].mean())


def _ensembles(size: str, seed: int, progress: bool, device: Device) -> pd.DataFrame:
    """Test losses of single networks and of their mean, over gamma at one width and over the width at both ends."""
    chosen = ENSEMBLE[size]
    middle = chosen["widths"][1]
    cells = [(middle, 10.0**k, "gamma") for k in chosen["powers"]]
    cells += [(w, gamma, "width") for w in chosen["widths"] for gamma in (LAZY, RICH * (w / middle) ** 0.5)]
    data = load_data("digits", n=chosen["n"], seed=seed)
    assert data.labels is not None
    assert data.test_inputs is not None
    assert data.test_labels is not None
    wanted = centred_one_hot(data.test_labels, 10, WORKING)
    inputs, labels, unseen = (part.to(device) for part in (data.inputs, data.labels, data.test_inputs))

    @cache  # networks of the middle width are in both series
    def ensemble(width: int, gamma: float) -> dict[str, float]:
        outputs = []
        for s in range(chosen["seeds"]):
            net = mlp(hidden=(width,), bias=False, parameterization="ntk", seed=seed + s).to(device)
            trained = train_at_gamma(net, inputs, labels, gamma=gamma, target_loss=TARGET_LOSS,
                                     max_steps=5000, options=TrainOptions(momentum=0.0))  # fmt: skip
            outputs.append(scaled_outputs(trained.model, net, unseen, gamma=gamma).to("cpu", WORKING))
        return _ensemble(torch.stack(outputs), wanted)

    return pd.DataFrame(
        {"over": over, "width": width, "gamma": gamma, "lazy": gamma == LAZY, **ensemble(width, gamma)}
        for width, gamma, over in tqdm(cells, desc="ensembles", disable=not progress, leave=False)
    )


def _ensemble(outputs: Tensor, wanted: Tensor) -> dict[str, float]:
    """Losses relative to that of f = 0, and the variance over networks; outputs (networks, n, C)."""
    unit = float(wanted.square().sum(1).mean())
    mean = outputs.mean(0)
    single = float((outputs - wanted).square().sum(2).mean()) / unit
    together = float((mean - wanted).square().sum(1).mean()) / unit
    spread = float((outputs - mean).square().sum(2).mean()) / unit
    return {"single": single, "ensemble": together, "spread": spread, "gain": 1 - together / single,
            "variance": spread * len(outputs) / (len(outputs) - 1)}  # fmt: skip


def _curve_checks(
    losses: dict[int, Tensor], silent: pd.DataFrame, gammas: list[float], rates: dict[int, float]
) -> list[Check]:
    rises = sum(float((found.diff(dim=0) > 1e-9).any(0).sum()) for found in losses.values())
    checks = [Check("trainings at the matched rate whose loss ever rises", rises, 0, 0)]
    for depth, found in losses.items():
        near = gammas.index(min(gammas, key=lambda g: abs(g / 1e-3 - 1)))
        apart = float((found[:, 0] - found[:, near]).abs().max())
        checks.append(Check(f"L = {depth}: largest difference of the loss, γ = 1e-4 and 1e-3", apart, 0.0, 5e-3))
        at = [_mean(silent, depth, gamma, "silent steps") for gamma in (1e2, 1e3, 1e4)]
        if depth == 2:
            # The largest mode of the linear task grows by 1 + growth a step, until |w|^2 ~ gamma.
            growth = 2 * rates[depth] * MODES[0] / (INPUTS * WIDTH) ** 0.5
            theory = math.log(10) / (2 * math.log1p(growth))
            checks.append(Check("L = 2: silent steps for a decade of γ, over theory's", (at[2] - at[1]) / theory, 1.0,
                                0.05))  # fmt: skip
        else:
            power = math.log10((at[2] - at[1]) / (at[1] - at[0]))
            checks.append(Check(f"L = {depth}: power of γ in the silent steps", power, (depth - 2) / depth, 0.02))
        drops = [_mean(silent, depth, g, "steps to half") - _mean(silent, depth, g, "silent steps") for g in (1e3, 1e4)]
        checks.append(Check(f"L = {depth}: steps of the drop at γ = 1e4 over those at 1e3", drops[1] / drops[0], 1.0,
                            0.03))  # fmt: skip
    return checks


def _over_width(ensembles: pd.DataFrame, lazy: bool) -> tuple[list[int], list[float]]:
    rows = [r for r in ensembles.to_dict("records") if r["over"] == "width" and r["lazy"] == lazy]
    return [int(r["width"]) for r in rows], [float(r["variance"]) for r in rows]


def _slope(widths: list[int], variance: list[float], start: int) -> float:
    x, y = (torch.tensor([math.log(v) for v, w in zip(values, widths, strict=True) if w >= start], dtype=WORKING)
            for values in (widths, variance))  # fmt: skip
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x))


def _over_gamma(ensembles: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    rows = [r for r in ensembles.to_dict("records") if r["over"] == "gamma"]
    return [float(r["gamma"]) for r in rows], [float(r[column]) for r in rows]


def _ensemble_checks(ensembles: pd.DataFrame, size: str) -> list[Check]:
    (gammas, gains), (_, variance) = (_over_gamma(ensembles, column) for column in ("gain", "variance"))
    checks = [
        Check(f"variance at γ = {gammas[1]:g} over that at {gammas[0]:g}", variance[1] / variance[0], 1.0, 0.02),
        Check("gain of the ensemble at γ = 1000 over that at 0.001", gains[-1] / gains[0], 0.0, 0.5),
    ]
    for name, lazy in (("lazy", True), ("rich, γ ~ √width", False)):
        slope = _slope(*_over_width(ensembles, lazy), ASYMPTOTIC[size])
        checks.append(Check(f"{name}: power of the width in the variance, from {ASYMPTOTIC[size]}", slope, -1.0, 0.15))
    return checks


def _rescaled(losses: Tensor, gammas: list[float]) -> Plot:
    curves = []
    for i, gamma in enumerate(gammas):
        if not math.isclose(math.log10(gamma) % 1, 0, abs_tol=1e-9):
            continue
        steps = sorted({round(10 ** (k / 25)) for k in range(int(25 * math.log10(len(losses) - 1)) + 1)})
        values = losses[:, i, 0][steps].tolist()
        curves.append(Curve(f"γ = {gamma:g}", steps, values, kind="theory" if gamma == gammas[0] else "measured"))
    return Plot("Loss of a network of three layers at the matched rate", "step at η ~ min(γ², γ^(2/3))",
                "loss / loss at f = 0", curves, log_x=True,
                caption="Dashed: γ = 1e-4, which the linearised network follows. Lazy curves coincide; rich ones wait, "
                "the longer the larger γ, and fall in steps, a mode at a time.")  # fmt: skip


def _drops(losses: Tensor, gammas: list[float]) -> Plot:
    curves = []
    for gamma in (1e1, 1e2, 1e3, 1e4):
        values = losses[:, min(range(len(gammas)), key=lambda i: abs(math.log(gammas[i] / gamma))), 0]
        end = _reached(values, FALLEN)
        steps = range(max(0, round(end) - 40), min(len(values), round(end) + 121), 4)
        kind = "theory" if gamma == 1e4 else "measured"
        curves.append(Curve(f"γ = {gamma:g}", [step - end for step in steps], values[list(steps)].tolist(), kind=kind))
    return Plot("The first drop of the rich networks, laid over each other", f"steps after the loss fell to {FALLEN}",
                "loss / loss at f = 0", curves,
                caption="Dashed: the largest γ, whose course the others tend to.")  # fmt: skip


def _silent_plot(silent: pd.DataFrame, gammas: list[float], losses: dict[int, Tensor]) -> Plot:
    curves = []
    for depth in losses:
        rich = [gamma for gamma in gammas if gamma > 5]
        y = [_mean(silent, depth, gamma, "silent steps") for gamma in rich]
        curves.append(Curve(f"L = {depth}", rich, y))
        # a g + b through the last two decades, with theory's g.
        g = [math.log(v) if depth == 2 else v ** (1 - 2 / depth) for v in (*rich, 1e3, 1e4)]
        late, early = (_mean(silent, depth, v, "silent steps") for v in (1e4, 1e3))
        a = (late - early) / (g[-1] - g[-2])
        line = [late + a * (v - g[-1]) for v in g[:-2]]
        law = "a ln γ + b" if depth == 2 else f"a γ^({Fraction(depth - 2, depth)}) + b"
        curves.append(Curve(f"L = {depth}, {law}", rich, [v if v > 1 else math.nan for v in line], kind="theory"))
    return Plot("Silent period", "γ", f"steps until the loss falls to {FALLEN}", curves, log_x=True, log_y=True,
                caption="Dashed: theory's law through the last two decades.")  # fmt: skip


def _gain_plot(ensembles: pd.DataFrame) -> Plot:
    x, single = _over_gamma(ensembles, "single")
    together, spread = (_over_gamma(ensembles, column)[1] for column in ("ensemble", "spread"))
    curves = [Curve("single networks, mean", x, single), Curve("mean of their outputs", x, together),
              Curve("variance over starts", x, spread),
              Curve("single − variance", x, [a - b for a, b in zip(single, spread, strict=True)], kind="theory"),
              ]  # fmt: skip
    return Plot("Test loss of single networks and of their ensemble", "γ", "loss / loss at f = 0", curves, log_x=True,
                caption=f"Digits, one hidden layer, all trained to a training loss of {TARGET_LOSS}.")  # fmt: skip


def _width_plot(ensembles: pd.DataFrame) -> Plot:
    curves = []
    for name, lazy in (("lazy", True), ("rich", False)):
        widths, variance = _over_width(ensembles, lazy)
        curves.append(Curve(name, widths, variance))
        line = [variance[-1] * widths[-1] / w for w in widths]
        curves.append(Curve(f"{name}, 1/width", widths, line, kind="theory"))
    return Plot("Variance of the predictions over starts", "width", "variance / loss at f = 0", curves, log_x=True,
                log_y=True, caption=f"Lazy: γ = {LAZY:g}. Rich: γ ~ √width, where features change as much at every "
                "width. Dashed: through the widest.")  # fmt: skip


def _answer(silent: pd.DataFrame, ensembles: pd.DataFrame) -> str:
    depth = max(silent["layers"].tolist())
    waits = [_mean(silent, depth, gamma, "silent steps") for gamma in (1e-4, 1e4)]
    (_, gains), (_, single), (_, together) = (_over_gamma(ensembles, c) for c in ("gain", "single", "ensemble"))
    variance = fmean(_over_width(ensembles, True)[1]) / fmean(_over_width(ensembles, False)[1])
    return (
        f"At the matched rate lazy training does not depend on γ; a network of {depth} layers at γ = 10⁴ waits "
        f"{waits[1]:.0f} steps, against {waits[0]:.1f} at the lazy end, and then falls as at any other large γ. "
        f"Averaging networks removes {gains[0]:.0%} of the test loss at γ = {LAZY:g} ({single[0]:.3f} to "
        f"{together[0]:.3f}) and {gains[-1]:.1%} at {RICH:g} ({single[-1]:.3f} to {together[-1]:.3f}): the predictions "
        f"of lazy networks vary {variance:.1f} times as much over starts."
    )
