"""One trajectory written in four parametrizations: where R and kappa place it, with and without the optimizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.location.initial_states import observe, start_from
from geomfeat.network import Network
from geomfeat.numerics import WORKING, Device, stream, times

# Width -> draws of the weights. Wide networks need few: what differs between them falls with the width.
DRAWS = {"full": {64: 8, 128: 8, 256: 6, 512: 3, 1024: 1, 2048: 1}, "small": {128: 3, 384: 2}}
# Slopes without the optimizer are fitted to wider networks only: at width 64 the layers that lose their part of the
# kernel with the width still hold some.
PLAIN_FROM = 128
FLAT, STEEP = 0.1, 0.2  # tolerances of slopes, beside two standard errors over draws
INPUTS, SAMPLES = 10, 8  # few samples, so that no mode of the kernel is so slow that its rank in width matters
RATE, STEPS = 0.3, 100
LAYERS = ("fc1", "fc2")
FORMS = {"multipliers": "multipliers", "rates": "rates by layer", "doubled": "doubled layer",
         "rescaled": "rescaled layers"}  # fmt: skip
# Slopes on log10 width without the optimizer, by theory: R of both layers, and kappa where it is known.
PLAIN = {"multipliers": (0.0, 0.0, 0.0), "rates": (-2.0, -1.0, -0.5), "doubled": (-2.0, -1.0, -0.5),
         "rescaled": (-1.0, 0.0, None)}  # fmt: skip

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


def _unfilled(fan_in: int, fan_out: int) -> nn.Linear:
    """A linear layer whose weights are still to be set."""
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=False, dtype=WORKING)
    assert isinstance(layer, nn.Linear)
    return layer


class Sum(nn.Module):
    """The sum of two linear layers."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.a, self.b = (_unfilled(fan_in, fan_out) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(n, fan_in) -> (n, fan_out)."""
        return self.a(x) + self.b(x)


class Layered(nn.Module):
    """Two hidden ReLU layers and a read-out, each with a factor in the forward pass."""

    def __init__(self, first: nn.Module, width: int, factors: Sequence[float]) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = first, _unfilled(width, width), _unfilled(width, 1)
        self.factors = tuple(factors)

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, 1)."""
        a, b, c = self.factors
        return times(self.head(times(self.fc2(times(self.fc1(x), a).relu()), b).relu()), c)


@dataclass(frozen=True, eq=False)
class Written:
    """A network at the start and its rates by layer."""

    model: nn.Module
    rates: tuple[float, float, float]

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Plain descent of a copy of the model at these rates."""
        layers = zip(("fc1", "fc2", "head"), self.rates, strict=True)
        return torch.optim.SGD([{"params": model.get_submodule(name).parameters(), "lr": lr} for name, lr in layers])


@experiment(
    name="parametrizations",
    title="One trajectory, four parametrizations",
    question="Does the place of a network depend on how its parameters and rates are written down?",
    theory="θ = cφ with rate c² for θ moves as φ with rate 1, so outputs, features and JDJ' are the same for "
    "multipliers, rates by layer, rescaled layers (ReLU) and a layer that is the sum of two at half the rate. In that "
    "metric R and κ agree, and are flat in width under μP. Without it, rates by layer read R₁ ~ n⁻², R₂ ~ n⁻¹ and "
    "κ ~ n^(−1/2), since the read-out would make up the kernel; rescaled layers R₁ ~ n⁻¹, R₂ ~ n⁰ (R, κ in decades).",
    source="Yang and Hu 2021; Yang et al. 2022, tables 3 and 8; Karkada 2024, section 3",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    plan = [(width, draw) for width, draws in DRAWS[size].items() for draw in range(draws)]
    x, y = (part.to(device) for part in task(seed))
    rows = []
    for width, draw in tqdm(plan, desc="parametrizations", disable=not progress, leave=False):
        # Further draws are for the slopes on width.
        rows += _one_trajectory(width, seed, draw, x, y, list(FORMS) if draw == 0 else ["rates", "rescaled"])
    table: Table = pd.DataFrame(rows)
    apart = {name: float((table.groupby(["width", "draw"])[name].agg(np.ptp)).max())
             for name in ("R", "kappa", "R_plain", "kappa_plain")}  # fmt: skip
    widest = table[table["width"] == table["width"].max()].groupby("form")["R_plain"].mean()
    flat = {name: _slope(table[table["form"] == "rates"], name) for name in ("R", "kappa")}
    answer = (
        f"Written in {len(FORMS)} ways, outputs agree to {table['outputs_apart'].max():.0e} over {STEPS} steps. "
        f"Without the optimizer R differs by up to {apart['R_plain']:.2f} decades and κ by {apart['kappa_plain']:.2f}: "
        + ", ".join(f"{widest[form]:+.2f} ({FORMS[form]})" for form in FORMS)
        + f" at width {table['width'].max()}. In the optimizer's metric they agree to {apart['R']:.0e} and "
        f"{apart['kappa']:.0e}, with slopes {flat['R'][0]:+.2f} and {flat['kappa'][0]:+.2f} a decade of width."
    )  # fmt: skip
    settings = {"draws by width": str(DRAWS[size]), "inputs": INPUTS, "samples": SAMPLES, "steps": STEPS,
                "rate": RATE, "seed": seed}  # fmt: skip
    return Findings(answer, _plots(table, seed), _checks(table, apart, flat), table, settings)


def written(width: int, seed: int, draw: int = 0, device: Device = "cpu") -> dict[str, Written]:
    """One network at one start in every form, with the rates at which each moves the same way."""
    shapes = [(width, INPUTS), (width, width), (1, width)]
    generator = stream(seed, "lab", "parametrizations", width, draw)
    unit = [torch.randn(shape, generator=generator, dtype=WORKING) for shape in shapes]
    mup = (math.sqrt(2 / INPUTS), math.sqrt(2 / width), 1 / width)
    # The read-out at its standard size, and the hidden layers smaller: ReLU takes factors through.
    moved = tuple(c * by for c, by in zip(mup, (width**-0.25, width**-0.25, width**0.5), strict=True))
    ones = (1.0, 1.0, 1.0)

    def form(sizes: tuple[float, ...], factors: Sequence[float], copies: int = 1) -> Written:
        first = Sum(INPUTS, width) if copies == 2 else _unfilled(INPUTS, width)
        model = Layered(first, width, factors)
        with torch.no_grad():
            for p in first.parameters():
                p.copy_(sizes[0] * unit[0] / copies)
            model.fc2.weight.copy_(sizes[1] * unit[1])
            model.head.weight.copy_(sizes[2] * unit[2])
        one, two, three = (RATE * width * c**2 for c in sizes)
        return Written(model.to(device), (one / copies, two, three))

    return {"multipliers": form(ones, mup), "rates": form(mup, ones), "doubled": form(mup, ones, copies=2),
            "rescaled": form(moved, ones)}  # fmt: skip


def task(seed: int) -> tuple[Tensor, Tensor]:
    """(n, d) inputs on a sphere and (n, 1) targets of size 1, linear and quadratic in them."""
    x = torch.randn(SAMPLES, INPUTS, generator=stream(seed, "lab", "parametrizations", "task"), dtype=WORKING)
    x = math.sqrt(INPUTS) * x / x.norm(dim=1, keepdim=True)
    y = x[:, :1] * x[:, 1:2] + x[:, 2:3]
    return x, y / y.square().mean().sqrt()


def train(start: Written, x: Tensor, y: Tensor) -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
    """The trained copy, its optimizer, and the outputs before every step and at the end (steps + 1, n)."""
    model = copy.deepcopy(start.model)
    optimizer, outputs = start.optimizer(model), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        f = model(x)
        outputs.append(f.detach()[:, 0])
        ((f - y).square().mean() / 2).backward()
        optimizer.step()
    with torch.no_grad():
        outputs.append(model(x)[:, 0])
    return model, optimizer, torch.stack(outputs)


def _one_trajectory(
    width: int, seed: int, draw: int, x: Tensor, y: Tensor, forms: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for every form: its place in the optimizer's metric and in the plain one."""
    rows: list[dict[str, Any]] = []
    first: Tensor | None = None
    networks = written(width, seed, draw, x.device)
    for name in forms:
        start = networks[name]
        model, optimizer, outputs = train(start, x, y)
        first = outputs if first is None else first
        row = {"width": width, "draw": draw, "form": name,
               "loss": float((outputs[-1] - y[:, 0]).square().mean()),
               "outputs_apart": float((outputs - first).abs().max() / first.abs().max())}  # fmt: skip
        for given, mark in ((optimizer, ""), (None, "_plain")):
            network = Network.prepare(model, x, initial=start.model, layers=LAYERS, optimizer=given)
            found = start_from(start.model, observe(network, None, n_probes=SAMPLES))
            assert found.kernel is not None
            row |= {f"R{mark}": found.demand.richness, f"kappa{mark}": found.kernel.demand.demand,
                    f"kernel_change{mark}": found.kernel.change, f"gap{mark}": found.kernel.gap,
                    **{f"R_{layer}{mark}": found.demand.layers[layer] for layer in LAYERS},
                    "M": float(np.mean(list(found.movement.values())))}  # fmt: skip
        rows.append(row)
    return rows


def _slope(rows: Table, name: str) -> tuple[float, float]:
    """On log10 width, of the mean over draws, and its error; a single draw has the spread of the narrower width."""
    by_width = rows.groupby("width")[name]
    x = np.log10(np.array(list(by_width.groups), float))
    pull = (x - x.mean()) / np.square(x - x.mean()).sum()
    spread = by_width.std().ffill().to_numpy() / np.sqrt(by_width.size().to_numpy())
    return float(pull @ by_width.mean().to_numpy()), float(np.linalg.norm(pull * spread))


def _checks(table: Table, apart: dict[str, float], flat: dict[str, tuple[float, float]]) -> list[Check]:
    moved = float(table.groupby(["width", "draw"])["M"].agg(np.ptp).max())
    checks = [
        Check("largest difference of outputs between forms, over training", float(table["outputs_apart"].max()), 0.0,
              1e-9),
        Check("movement M, largest difference between forms", moved, 0.0, 1e-6, "decades"),
        Check("R in the optimizer's metric, largest difference between forms", apart["R"], 0.0, 1e-6, "decades"),
        Check("κ in the optimizer's metric, largest difference between forms", apart["kappa"], 0.0, 1e-6, "decades"),
        *(Check(f"μP: slope of {label} on log₁₀ width", flat[name][0], 0.0, FLAT + 2 * flat[name][1])
          for name, label in (("R", "R"), ("kappa", "κ"))),
    ]  # fmt: skip
    for form in ("rates", "rescaled"):
        rows = table[(table["form"] == form) & (table["width"] >= PLAIN_FROM)]
        for name, label, theory in zip(("R_fc1_plain", "R_fc2_plain", "kappa_plain"), ("R₁", "R₂", "κ"), PLAIN[form],
                                       strict=True):  # fmt: skip
            if theory is not None:
                slope, error = _slope(rows, name)
                checks.append(Check(f"{FORMS[form]}, no optimizer: slope of {label}", slope, theory, STEEP + 2 * error))
    return checks


def _plots(table: Table, seed: int) -> list[Plot]:
    def over_width(name: str, form: str, label: str, slope: float | None = None) -> list[Curve]:
        rows = table[table["form"] == form].groupby("width")[name].agg(["mean", "sem"])
        x, y = [float(w) for w in rows.index], rows["mean"].tolist()
        curves = [Curve(label, x, y, rows["sem"].fillna(0.0).tolist())]
        if slope is not None:
            line = [y[-1] + slope * math.log10(w / x[-1]) for w in x]
            curves.append(Curve(f"{label}, slope {slope:g}", x, line, kind="theory"))
        return curves

    def by_layer(name: str, which: int) -> list[Curve]:
        return [c for form in ("rates", "rescaled") for c in over_width(name, form, FORMS[form], PLAIN[form][which])]

    plots = []
    for name, label, slope_of in (
        ("R", "demand R", lambda one, two, _: (one + two) / 2),
        ("kappa", "kernel demand κ", lambda *slopes: slopes[2]),
    ):
        curves = [c for form in FORMS for c in over_width(f"{name}_plain", form, FORMS[form], slope_of(*PLAIN[form]))]
        curves += over_width(name, "rates", "all, with the optimizer", 0.0)
        plots.append(Plot(f"One trajectory's {label}", "width", f"{label}, decades", curves, log_x=True,
                          caption="Forms without the optimizer, and the one line of all with it. Bars: one standard "
                          "error over draws, where there are several."))  # fmt: skip
    narrow = int(table["width"].min())
    paths = [Curve(FORMS[form], list(range(STEPS + 1)), path) for form, path in _paths(narrow, seed).items()]
    return [
        *plots,
        Plot("First layer without the optimizer", "width", "R₁, decades", by_layer("R_fc1_plain", 0), log_x=True),
        Plot("Second layer without the optimizer", "width", "R₂, decades", by_layer("R_fc2_plain", 1), log_x=True),
        Plot(f"Output for one input, width {narrow}", "step", "f(x)", paths, caption="All four lie on one line."),
    ]


def _paths(width: int, seed: int) -> dict[str, list[float]]:
    """The output for the first input over training, by form."""
    x, y = task(seed)
    return {form: train(start, x, y)[2][:, 0].tolist() for form, start in written(width, seed).items()}
