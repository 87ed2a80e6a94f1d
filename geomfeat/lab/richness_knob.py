"""The richness knob: what dividing the outputs by gamma does to the features, in two architectures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.data._load_data import load_data
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.location.demand import solve
from geomfeat.location.initial_states import observe, start_from
from geomfeat.models import build
from geomfeat.network import Network
from geomfeat.numerics import WORKING, Device
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.training.objective import centred_one_hot

TARGET_LOSS = 0.05
LAZY_UP_TO = 0.03  # gamma below which movement and demand are compared
SIZES: dict[str, dict[str, Any]] = {
    "full": {"n": 100, "per_decade": 2, "mlp": {"hidden": (128, 128)}, "cnn": {"channels": (16, 32)}},
    "small": {"n": 30, "per_decade": 1, "mlp": {"hidden": (64, 64)}, "cnn": {"channels": (8, 16)}},
}


@experiment(
    name="richness-knob",
    title="The richness knob: one number from lazy to rich",
    question="How do demand and movement of the hidden features follow the output scale γ, at one training loss?",
    theory="Training f = (net(w) − net(w₀))/γ to the same loss requires a γ times larger change of the network: "
    "demand R = log₁₀ γ + constant, slope 1. While the network is lazy it moves exactly as far, M = R; beyond, it "
    "needs less movement than the linearised network would.",
    source="Chizat et al. 2019, section 2; Geiger et al. 2020; Karkada 2024",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    chosen = SIZES[size]
    data = load_data("digits", n=chosen["n"])
    assert data.labels is not None
    inputs, labels = data.inputs.to(device), data.labels.to(device)
    gammas = [10 ** (k / chosen["per_decade"]) for k in range(-3 * chosen["per_decade"], chosen["per_decade"] + 1)]
    rows = []
    with tqdm(total=2 * len(gammas), desc="richness-knob", disable=not progress, leave=False) as bar:
        for name in ("mlp", "cnn"):
            start = build(name, **chosen[name], seed=seed).to(device)
            for gamma in gammas:
                rows.append({"network": name, **_cell(start, inputs, labels, gamma, seed)})
                bar.update()
    table = pd.DataFrame(rows)
    checks = [check for name, part in _parts(table) for check in _checks(name, part)]
    plots = [_against_gamma(table), _excess(table)]
    settings = {"data": f"digits, {chosen['n']}", "target loss": TARGET_LOSS, "seed": seed,
                **{name: str(chosen[name]) for name in ("mlp", "cnn")}}  # fmt: skip
    notes = [f"{row['network']} at γ = {row['gamma']:g}: {row['note']}" for row in rows if not row["converged"]]
    return Findings(_answer(table), plots, checks, table, settings, notes)


def _cell(start: nn.Module, inputs: Tensor, labels: Tensor, gamma: float, seed: int) -> dict[str, Any]:
    """One training, and demand (of what was learned, of the target) and movement on its own training inputs."""
    trained = train_at_gamma(
        start, inputs, labels, gamma=gamma, target_loss=TARGET_LOSS, max_steps=40000, seed=seed,
        options=TrainOptions(momentum=0.0),
    )  # fmt: skip
    network = Network.prepare(trained.model, inputs, initial=start)
    seen = observe(network, labels, n_probes=network.n, seed=seed)
    found = start_from(start, seen, shares=[TARGET_LOSS], seed=seed, with_kernel=False)
    wanted = gamma * centred_one_hot(labels, seen.outputs.shape[1], WORKING)
    return {
        "gamma": gamma, "loss": trained.train_loss, "steps": trained.steps, "converged": trained.converged,
        "note": trained.note, "movement": float(np.mean(list(found.movement.values()))),
        "demand": found.demand.richness, "demand_of_target": solve(found.task.towards(wanted)).richness,
    }  # fmt: skip


def _parts(table: pd.DataFrame) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The columns of each network's rows, in order of gamma."""
    wanted = ("gamma", "movement", "demand", "demand_of_target")
    return [
        (str(name), {column: part[column].to_numpy(float) for column in wanted})
        for name, part in table.groupby("network", sort=False)
    ]


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log10(x), y, 1)[0])


def _checks(name: str, part: dict[str, np.ndarray]) -> list[Check]:
    lazy = {column: values[part["gamma"] <= LAZY_UP_TO] for column, values in part.items()}
    apart = float(np.abs(lazy["movement"] - lazy["demand_of_target"]).max())
    return [
        Check(f"{name}: slope of demand on log₁₀ γ", _slope(part["gamma"], part["demand"]), 1.0, 0.03),
        Check(f"{name}: slope of movement, γ ≤ {LAZY_UP_TO}", _slope(lazy["gamma"], lazy["movement"]), 1.0, 0.02),
        Check(f"{name}: largest gap between movement and the target's demand, γ ≤ {LAZY_UP_TO}", apart, 0.0, 0.02,
              "decades"),
    ]  # fmt: skip


def _answer(table: pd.DataFrame) -> str:
    said = []
    for name, part in _parts(table):
        gamma, gap = part["gamma"], float((part["movement"] - part["demand_of_target"])[-1])
        said.append(
            f"{name}: demand has slope {_slope(gamma, part['demand']):.3f} on log₁₀ γ over "
            f"{np.log10(gamma[-1] / gamma[0]):.0f} decades; at the lazy end movement equals what the linearised "
            f"network needs for the targets, and at γ = {gamma[-1]:g} it is {abs(gap):.2f} decades "
            f"{'less' if gap < 0 else 'more'}."
        )
    return " ".join(said)


def _against_gamma(table: pd.DataFrame) -> Plot:
    curves = []
    for name, part in _parts(table):
        x = part["gamma"].tolist()
        curves += [
            Curve(f"movement M, {name}", x, part["movement"].tolist()),
            Curve(f"demand R of what was learned, {name}", x, part["demand"].tolist()),
            Curve(f"slope 1: demand of the targets, {name}", x, part["demand_of_target"].tolist(), kind="theory"),
        ]
    return Plot(
        "Demand and movement at one training loss", "γ", "decades of the features' size", curves, log_x=True,
        caption="The dashed line is known before training: the movement of the linearised network towards γ times the "
        "targets. The demand of the learned function is below it by a constant, since it counts only the change that "
        "was reached.",
    )  # fmt: skip


def _excess(table: pd.DataFrame) -> Plot:
    x = sorted(table["gamma"].unique())
    curves = [
        Curve(name, part["gamma"].tolist(), (part["movement"] - part["demand_of_target"]).tolist())
        for name, part in _parts(table)
    ]
    curves.append(Curve("lazy limit", x, [0.0] * len(x), kind="theory"))
    return Plot(
        "Movement compared with the linearised network's", "γ", "M − R of the targets, decades", curves, log_x=True,
        caption="Rich learning reaches the same loss with less movement than its linearisation would need.",
    )  # fmt: skip
