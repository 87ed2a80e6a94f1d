"""Forecasts beside the trainings that they are of: R, kappa, whether the interval holds, whether the rate is stable.

    python benchmarks/forecast.py [--only NAME ...] [--scales] [--samples 80] [--most 6000] [--write]

Networks at output multipliers 1/gamma (`at_richness`, outputs centred) are trained full batch to a relative loss of .1,
on digits, and an MLP on wine (13 chemical measurements, 3 classes): mean square and cross-entropy; gradient descent at
the rate that the forecast proposes, with and without momentum .9, and Adam at .001 over the multiplier, not above .001.
The forecast is made before; R and kappa are then located on the same samples, in the metric that the forecast was made
in, and for Adam also in that of its state. --write keeps the tables in benchmarks/RESULTS.md: those of MLP and CNN
under one heading, those of the other networks (--only transformer RNN wine) under another. --scales: with all initial
weights times .3 to 3 in place of a multiplier, which changes the outputs of three layers by three decades; outputs at
the start are then as they are, not centred.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from typing import Any

import pandas as pd
import torch
from keeping import keep, machine
from sklearn.datasets import load_wine
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.models.cnn import cnn
from geomfeat.models.mlp import mlp
from geomfeat.models.recurrent import gru_loop
from geomfeat.models.transformer import transformer

MULTIPLIERS = (0.1, 0.3, 1.0, 3.0, 10.0)
SCALES = (0.3, 0.55, 1.0, 1.8, 3.0)
LOSSES = ("mse", "cross-entropy")
OPTIMIZERS = ("sgd", "momentum", "adam")
NETWORKS = {
    "MLP": lambda: mlp(64, (64, 64), 10, seed=0),
    "CNN": lambda: cnn((1, 8, 8), (8, 16), 10, seed=0),
    "transformer": lambda: transformer(width=16, depth=1, seed=0),
    "RNN": lambda: gru_loop(hidden=24, seed=0),
    "wine": lambda: mlp(13, (64, 64), 3, seed=0),
}  # fmt: skip
FIRST = ("MLP", "CNN")  # at every multiplier; the others, which take longer, at every second one
TARGET = 0.1
LAZY, VERY_RICH = -0.5, 1.5  # bounds of the ranges of R in the first table


def optimizer_of(kind: str, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """As `train_plainly` makes it."""
    if kind == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9 if kind == "momentum" else 0.0)


def samples_of(name: str, n: int) -> tuple[Tensor, Tensor]:
    """Inputs in the form that the network takes, and classes."""
    if name == "wine":
        values, classes = load_wine(return_X_y=True)
        x, y = torch.tensor(values), torch.tensor(classes).long()
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
        return ((x - x.mean(0)) / x.std(0))[chosen].float(), y[chosen]
    data = gf.load_data("digits", split="train", n=n)
    assert data.labels is not None
    return data.inputs.flatten(1) if name == "MLP" else data.inputs, data.labels


def start_of(name: str, multiplier: float, scale: float) -> nn.Module:
    """A network before training, at an output multiplier, or with its initial weights times a number."""
    if scale == 1.0:
        return gf.at_richness(NETWORKS[name](), gamma=1 / multiplier)
    network = NETWORKS[name]()
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(scale)
    return network


def one(
    name: str, loss: str, kind: str, multiplier: float, samples: int, most: int, scale: float = 1.0
) -> dict[str, Any]:
    """A row: what was forecasted, and what the training made."""
    x, y = samples_of(name, samples)
    network = start_of(name, multiplier, scale)
    ask = {"loss": loss, "target_loss": TARGET}
    if kind == "adam":
        rate = 1e-3 / max(multiplier, 1.0)
    else:
        rate = gf.forecast(network, x, y, optimizer=optimizer_of(kind, network, 1.0), **ask).proposed_rate
    optimizer = optimizer_of(kind, network, rate)
    start = time.process_time()
    expected = gf.forecast(network, x, y, optimizer=optimizer, **ask)
    seconds = time.process_time() - start
    options = gf.PlainOptions(
        optimizer="adam" if kind == "adam" else "sgd", lr=rate, momentum=0.9 if kind == "momentum" else 0.0,
        max_steps=most, target_loss=TARGET,
    )  # fmt: skip
    trained = gf.train_plainly(network, x, y, loss=loss, options=options)
    ended = "diverged" if trained.diverged else "trained" if trained.converged else "short"
    row = {
        "network": name, "loss": loss, "optimizer": kind, "multiplier": multiplier, "scale": scale, "rate": rate,
        "steps": trained.steps, "ended": ended,
        "expected": expected.richness, "low": expected.low, "high": expected.high, "regime": expected.regime,
        "expected kappa": expected.kernel_demand, "flags": len(expected.flags), "seconds": seconds,
        "expected steps": expected.steps,
    }  # fmt: skip
    if not trained.converged:
        return row
    options = gf.LocateOptions(loss=loss, n_bootstrap=2)
    where = gf.locate(
        trained.trained, x, y, initial=trained.initial, optimizer=optimizer_of(kind, trained.trained, rate),
        options=options, progress=False,
    )  # fmt: skip
    row |= {"R": where.richness, "kappa": where.kernel_demand, "M": where.movement, "reached": where.regime}
    if kind != "adam":
        return row
    by_state = gf.locate(
        trained.trained, x, y, initial=trained.initial, optimizer=trained.rates, options=options,
        progress=False,
    )  # fmt: skip
    return row | {"R by state": by_state.richness, "kappa by state": by_state.kernel_demand}


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Median and 90th percentile of the errors, by group, and how often R lies in the interval."""
    table = table.dropna(subset=["R"])
    size: pd.Series = (table["expected"] - table["R"]).abs()
    kappa: pd.Series = (table["expected kappa"] - table["kappa"]).abs()
    inside = (table["low"] <= table["R"]) & (table["R"] <= table["high"])
    groups = {
        "all": table["R"].notna(),
        **{loss: table["loss"] == loss for loss in LOSSES},
        **{kind: table["optimizer"] == kind for kind in OPTIMIZERS},
        "R < -.5": table["R"] < LAZY,
        "-.5 < R < 1.5": table["R"].between(LAZY, VERY_RICH),
        "R > 1.5": table["R"] > VERY_RICH,
    }
    rows = []
    for group, mask in groups.items():
        part = size[mask]
        if len(part):
            rows.append((group, len(part), part.median(), part.quantile(0.9), part.max(), kappa[mask].median(),
                         kappa[mask].quantile(0.9), inside[mask].mean()))  # fmt: skip
    columns = [
        "of",
        "trainings",
        "|R error|, median",
        "90 %",
        "largest",
        "|kappa error|, median",
        "90 % of that",
        "inside",
    ]
    return pd.DataFrame(rows, columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """A table with three digits."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables; keep them with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(FIRST))
    parser.add_argument("--scales", action="store_true")
    parser.add_argument("--samples", type=int, default=80)
    parser.add_argument("--most", type=int, default=6000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    varied = SCALES if asked.scales else MULTIPLIERS
    for *case, value in itertools.product(asked.only, LOSSES, OPTIMIZERS, varied):
        if (asked.scales and value == 1.0) or (case[0] not in FIRST and not asked.scales and value not in varied[::2]):
            continue
        own = {"multiplier": 1.0, "scale": value} if asked.scales else {"multiplier": value}
        rows.append(one(*case, samples=asked.samples, most=asked.most, **own))
        sys.stderr.write(f"{rows[-1]}\n")
    table = pd.DataFrame(rows)
    by_end = table.groupby(["optimizer", "ended"]).size().reset_index(name="trainings")
    seen = [
        "network",
        "loss",
        "optimizer",
        "scale" if asked.scales else "multiplier",
        "steps",
        "expected",
        "low",
        "high",
        "R",
        "expected kappa",
        "kappa",
    ]
    adam = table[table["optimizer"] == "adam"]
    by_state: pd.Series = (adam["expected"] - adam["R by state"]).abs()
    lines = [
        markdown(errors(table)), "", markdown(by_end), "",
        f"Located in the metric of Adam's state at the end, R differs from the forecast by {by_state.median():.2f} "
        f"(median; 90 %: {by_state.quantile(0.9):.2f}).", "",
        f"A forecast took {table['seconds'].median():.1f} s (median), {table['seconds'].max():.1f} s at most.", "",
        markdown(table[[*seen, "M", "regime", "reached"]]), "", machine(("torch", "numpy"), 1),
    ]  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n")
    if asked.write:
        part = " (initial scale)" if asked.scales else "" if set(asked.only) <= set(FIRST) else " (other networks)"
        keep("forecast", lines, part)


if __name__ == "__main__":
    main()
