"""Width scaling: the richness r as the power of the width with which features change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.data._load_data import load_data
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.models.cnn import cnn
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, Device, safe_eigh
from geomfeat.regimes.width import CoordinateCheck, WidthScaling, coordinate_check, width_scaling
from geomfeat.regimes.width.result import richness_of
from geomfeat.regimes.width.scaling import Build

RICHNESS = {"full": (0.0, 0.125, 0.25, 0.375, 0.5), "small": (0.0, 0.25, 0.5)}
WIDTHS = {"full": (64, 128, 256, 512, 1024), "small": (32, 64, 128, 256)}
CHANNELS = {"full": (16, 32, 64, 128), "small": (8, 16, 32)}
SEEDS = {"full": 6, "small": 3}
TOLERANCE = {"full": 0.05, "small": 0.1}  # tolerance of a slope, in powers of the width
FEATURES = 8  # principal components of the images: few, so that the smallest network is wide compared with them


@experiment(
    name="width-scaling",
    title="Width scaling: richness is a power of the width",
    question="How do the features of a network change as its width n grows, from the lazy to the rich scaling?",
    theory="With outputs net / n^r and learning rate η n^(2r) in NTK parameterization, ‖Δh‖ ~ n^r, from r = 0 (lazy, "
    "NTK) to r = 1/2 (rich, μP); inner weights move by ‖ΔW‖/‖W‖ ~ n^(r − 1/2). In the standard parameterization with "
    "one learning rate the first layer's features fall behind the second's by a factor 1/n.",
    source="Karkada 2024, section 3; Yang and Hu 2021",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    x, images, y = (part.to(device) for part in _task(seed))
    seeds = range(100 * seed, 100 * seed + SEEDS[size])

    def scaled(build: Build, data: Tensor, widths: Sequence[int], r: float | None = None) -> WidthScaling:
        return width_scaling(_on(device, build), data, y, widths, r=r, seeds=list(seeds))

    bar = tqdm(total=2 * len(RICHNESS[size]) + 3, desc="width scaling", disable=not progress, leave=False)
    dense: dict[float, WidthScaling] = {}
    convolutional: dict[float, WidthScaling] = {}
    for r in RICHNESS[size]:
        dense[r] = scaled(_dense("ntk"), x, WIDTHS[size], r=r)
        bar.update()
        convolutional[r] = scaled(_convolutional, images, CHANNELS[size], r=r)
        bar.update()
    standard = scaled(_dense("standard"), x, WIDTHS[size])
    bar.update()
    coordinates = {}
    for r in (0.0, 0.5):
        coordinates[r] = coordinate_check(
            _on(device, _dense("ntk")), x, y, WIDTHS[size], r=r, seeds=list(seeds), steps=4
        )
        bar.update()
    bar.close()
    plots = [_features(dense), _slopes(dense, convolutional), _standard(standard)]
    plots += [_coordinates(r, found) for r, found in coordinates.items()]
    checks = _checks(dense, convolutional, standard, TOLERANCE[size])
    families = {f"dense, r = {r:g}": found for r, found in dense.items()}
    families |= {f"convolutional, r = {r:g}": found for r, found in convolutional.items()}
    families["dense, standard parameterization"] = standard
    settings = {"widths": WIDTHS[size], "channels": CHANNELS[size], "seeds": list(seeds), "steps": 20, "seed": seed}
    return Findings(_answer(dense, standard), plots, checks, _table(families), settings, _notes(families))


def _task(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(64, 8) principal components of digits of unit variance, their images, and +-1 for even and odd."""
    data = load_data("digits", n=64, seed=seed)
    assert data.labels is not None
    images = data.inputs - data.inputs.mean(0)
    flat = images.flatten(1).to(WORKING)
    directions = safe_eigh(flat.mT @ flat)[1].flip(1)[:, :FEATURES]
    parts = flat @ directions
    return (parts / parts.std(0)).float(), images, 1.0 - 2.0 * (data.labels % 2)


def _on(device: Device, build: Build) -> Build:
    """Networks drawn on the CPU and moved then."""
    return lambda width, seed: build(width, seed).to(device)


def _dense(parameterization: str) -> Build:
    def build(width: int, seed: int) -> nn.Module:
        return mlp(FEATURES, (width, width), 1, activation="tanh", bias=False, parameterization=parameterization,
                   seed=seed)  # fmt: skip

    return build


def _convolutional(width: int, seed: int) -> nn.Module:
    return cnn((1, 8, 8), (width, width), 1, bias=False, parameterization="ntk", seed=seed)


def _mean(found: WidthScaling, quantity: str, layer: str) -> tuple[list[float], list[float]]:
    """Geometric mean over seeds at every width, and its standard error."""
    logs = found.values(quantity, layer).log()
    mean = logs.mean(0).exp()
    return mean.tolist(), (mean * logs.std(0) / math.sqrt(len(logs))).tolist()


def _through(widths: Sequence[int], values: Sequence[float], power: float) -> list[float]:
    """Theory's line of a power, through the middle of the values in log."""
    n, v = (torch.tensor(list(a), dtype=WORKING).log() for a in (widths, values))
    return (power * (n - n.mean()) + v.mean()).exp().tolist()


def _features(dense: dict[float, WidthScaling]) -> Plot:
    curves = []
    for r, found in dense.items():
        mean, error = _mean(found, "feature_change", "fc2")
        curves.append(Curve(f"r = {r:g}", found.widths, mean, error))
        curves.append(Curve(f"n^{r:g}", found.widths, _through(found.widths, mean, r), kind="theory"))
    return Plot("Change of the second hidden layer", "width n", "‖Δh₂‖ per sample", curves, log_x=True, log_y=True,
                caption="Dashed: theory's power, through the middle of the measured points. Bars: one standard error "
                "over seeds.")  # fmt: skip


def _slopes(dense: dict[float, WidthScaling], convolutional: dict[float, WidthScaling]) -> Plot:
    asked = list(dense)
    curves = [Curve("theory, features: r", asked, asked, kind="theory"),
              Curve("theory, inner weights: r − 1/2", asked, [r - 0.5 for r in asked], kind="theory")]  # fmt: skip
    for label, found, quantity, layer in (
        ("dense, features of layer 1", dense, "feature_change", "fc1"),
        ("dense, features of layer 2", dense, "feature_change", "fc2"),
        ("convolutional, features of layer 2", convolutional, "feature_change", "conv2"),
        ("dense, weights of layer 2", dense, "spectral_update", "fc2"),
    ):
        laws = [one.exponent(quantity, layer) for one in found.values()]
        half = [0.5 * (law.high - law.low) for law in laws]
        curves.append(Curve(label, asked, [law.exponent for law in laws], half))
    return Plot("Fitted powers of the width", "r asked for", "fitted exponent", curves,
                caption="Bars: 95 % intervals over seeds. Weights: ‖ΔW‖/‖W‖ by largest singular values.")  # fmt: skip


def _standard(found: WidthScaling) -> Plot:
    curves = []
    for layer, power in (("fc1", -1.0), ("fc2", 0.0)):
        mean, error = _mean(found, "feature_change", layer)
        curves.append(Curve(f"layer {layer[-1]}", found.widths, mean, error))
        curves.append(Curve(f"n^{power:g}", found.widths, _through(found.widths, mean, power), kind="theory"))
    return Plot("Standard parameterization, one learning rate", "width n", "‖Δh‖ per sample", curves, log_x=True,
                log_y=True, caption=f"{str(richness_of(found)).capitalize()}.")  # fmt: skip


def _coordinates(r: float, found: CoordinateCheck) -> Plot:
    steps = len(found.changes["fc2"])
    curves = [
        Curve(f"after step {step}", found.widths, found.mean("fc2", step).tolist()) for step in range(1, steps + 1)
    ]
    line = _through(found.widths, found.mean("fc2").tolist(), r - 0.5)
    curves.append(Curve(f"n^{r - 0.5:g}", found.widths, line, kind="theory"))
    return Plot(f"Coordinate check at r = {r:g}", "width n", "root mean square change of a unit of layer 2", curves,
                log_x=True, log_y=True)  # fmt: skip


def _checks(
    dense: dict[float, WidthScaling], convolutional: dict[float, WidthScaling], standard: WidthScaling, within: float
) -> list[Check]:
    checks = []
    for r, found in dense.items():
        for layer in ("fc1", "fc2"):
            slope = found.exponent("feature_change", layer).exponent
            checks.append(Check(f"dense, r = {r:g}: power of ‖Δh‖, layer {layer[-1]}", slope, r, within))
        slope = found.exponent("spectral_update", "fc2").exponent
        checks.append(Check(f"dense, r = {r:g}: power of ‖ΔW‖/‖W‖, layer 2", slope, r - 0.5, within))
        checks.append(Check(f"dense, r = {r:g}: r from all exponents", richness_of(found).r, r, within))
    for r, found in convolutional.items():
        slope = found.exponent("feature_change", "conv2").exponent
        checks.append(Check(f"convolutional, r = {r:g}: power of ‖Δh‖, layer 2", slope, r, within))
    behind = [standard.exponent("feature_change", layer).exponent for layer in ("fc1", "fc2")]
    checks.append(Check("standard: power of layer 1 less that of layer 2", behind[0] - behind[1], -1.0, 3 * within))
    return checks


def _table(families: dict[str, WidthScaling]) -> pd.DataFrame:
    rows = [(name, reading) for name, found in families.items() for reading in found.readings]
    return pd.DataFrame([{"family": name, **dataclasses.asdict(reading)} for name, reading in rows])


def _notes(families: dict[str, WidthScaling]) -> list[str]:
    return [f"{name}: {note}" for name, found in families.items() for note in found.notes]


def _answer(dense: dict[float, WidthScaling], standard: WidthScaling) -> str:
    found = "; ".join(f"r = {r:g} gives n^{one.exponent('feature_change', 'fc2')}" for r, one in dense.items())
    return (
        f"Features change as the width to the chosen power r: {found}. In the standard parameterization "
        f"with one learning rate {richness_of(standard)}."
    )
