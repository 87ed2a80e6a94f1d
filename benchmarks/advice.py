"""Advice beside the trainings that follow it: is the R that was asked for reached, and is any advised rate unstable?

    python benchmarks/advice.py [--only MLP|CNN|transformer|RNN] [--samples 40] [--most 6000] [--write]

Networks at torch's own initial weights and an ordinary optimizer (gradient descent with and without momentum .9, AdamW
with decay .01) are forecasted on digits, to a relative loss of .1 by mean square or cross-entropy; `advise` is asked
for R = -1, 0 or .7; the changed network is trained full batch by the advised groups and located on the same samples,
in the metric that the forecast was made in (for AdamW also in that of its state). A second table has other changes:
the initial scale, and rates by layer for a network four times as wide. --write keeps the tables in
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from keeping import keep, machine
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.forecasting.output_loss import output_loss
from geomfeat.models.cnn import cnn
from geomfeat.models.mlp import mlp
from geomfeat.models.recurrent import gru_loop
from geomfeat.models.transformer import transformer
from geomfeat.regimes.training.objective import loss_of

TARGETS = (-1.0, 0.0, 0.7)
LOSSES = ("mse", "cross-entropy")
OPTIMIZERS = ("SGD", "momentum", "AdamW")
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "MLP": lambda times: mlp(64, (48 * times, 48 * times), 10, seed=0),
    "CNN": lambda times: cnn((1, 8, 8), (6 * times, 12 * times), 10, seed=0),
    "transformer": lambda times: transformer(width=16 * times, depth=1, seed=0),
    "RNN": lambda times: gru_loop(hidden=24 * times, seed=0),
}
# Two targets for the cheap networks, in turn; one for the others.
EACH = {"MLP": 2, "CNN": 2, "transformer": 1, "RNN": 1}
RATES = {"mse": {"SGD": 0.02, "momentum": 0.005, "AdamW": 0.001},
         "cross-entropy": {"SGD": 0.2, "momentum": 0.05, "AdamW": 0.001}}  # fmt: skip
FASTER = {"transformer": 5.0, "RNN": 20.0}  # gradient descent takes them so much farther
TARGET, NEAR = 0.1, 0.15


def optimizer_of(kind: str, groups: Any, rate: float = 0.0) -> torch.optim.Optimizer:
    """An optimizer of that kind, on parameters or on groups that say all."""
    given = {"lr": rate} if rate else {}
    if kind == "AdamW":
        return torch.optim.AdamW(groups, **given)
    return torch.optim.SGD(groups, **given, momentum=0.9 if kind == "momentum" else 0.0)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, loss: str, most: int) -> Any:
    """(steps, how it ended, largest relative loss on the way): full batch, to the target."""
    goal = output_loss(loss, y, 10)
    targets = goal.targets.float() if loss == "mse" else goal.targets
    largest = 0.0
    for step in range(most):
        optimizer.zero_grad()
        value = loss_of(model(x), targets, loss)
        now = float(value.detach()) / goal.unit
        largest = max(largest, now)
        if not math.isfinite(now) or now > 1e3:
            return step, "diverged", largest
        if now <= TARGET:
            return step, "trained", largest
        value.backward()
        optimizer.step()
    return most, "short", largest


def one(name: str, loss: str, kind: str, target: float, change: str, samples: int, most: int) -> dict[str, Any]:
    """A row: what was asked and advised, and where the training went."""
    data = gf.load_data("digits", split="train", n=samples)
    assert data.labels is not None
    x, y = data.inputs if name != "MLP" else data.inputs.flatten(1), data.labels
    network = NETWORKS[name](1)
    rate = RATES[loss][kind] * (1.0 if kind == "AdamW" else FASTER.get(name, 1.0))
    optimizer = optimizer_of(kind, network.parameters(), rate)
    began = time.process_time()
    expected = gf.forecast(network, x, y, loss=loss, target_loss=TARGET, optimizer=optimizer)
    wider = NETWORKS[name](4) if change == "rates by width" else None
    advice = expected.advise(target, wider=wider, init_scale=change == "initial scale")
    seconds = time.process_time() - began
    row = {"network": name, "loss": loss, "optimizer": kind, "from": advice.start, "asked": target}
    if change not in {found.kind for found in advice.changes}:
        return row | {"ended": "not advised"}
    advised = advice.change(change)
    row |= {"multiplier": advised.multiplier, "scale": advised.row()["init_scale"], "rate": advised.rate,
            "expected": advised.richness}  # fmt: skip
    if wider is not None:
        optimizer = optimizer_of(kind, wider.parameters(), rate)
    model, groups = advised.apply(network if wider is None else wider, optimizer)
    initial, used = copy.deepcopy(model), optimizer_of(kind, groups)
    steps, ended, largest = train(model, used, x, y, loss, most)
    row |= {"steps": steps, "ended": ended, "largest loss": largest, "seconds": seconds}
    if ended != "trained":
        return row
    options = gf.LocateOptions(loss=loss, n_bootstrap=2)
    located = {"initial": initial, "options": options, "progress": False}
    where = gf.locate(model, x, y, optimizer=optimizer_of(kind, groups), **located)
    row |= {"R": where.richness, "kappa": where.kernel_demand, "M": where.movement, "reached": where.regime}
    if kind == "AdamW":
        row["R by state"] = gf.locate(model, x, y, optimizer=used, **located).richness
    return row


def cases(only: str | None) -> list[tuple[str, str, str, float]]:
    """(network, loss, optimizer, R asked for), so that every target meets every network, loss and optimizer."""
    found = []
    for (a, name), (b, loss), (c, kind) in itertools.product(*map(enumerate, (NETWORKS, LOSSES, OPTIMIZERS))):
        found += [(name, loss, kind, TARGETS[(a + b + c + k) % len(TARGETS)]) for k in range(EACH[name])]
    return [case for case in found if only in (None, case[0])]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """How many reached what was asked for, by group."""
    groups = {"all": table["asked"].notna(), **{k: table[c] == k for c in ("network", "loss", "optimizer", "asked")
                                                for k in table[c].unique()}}  # fmt: skip
    rows = []
    for group, mask in groups.items():
        part = table[mask]
        miss: pd.Series = (part["R"] - part["asked"]).abs()
        near, diverged = int((miss <= NEAR).sum()), int((part["ended"] == "diverged").sum())
        name = f"R = {group}" if isinstance(group, float) else group
        rows.append((name, len(part), near, miss.median(), miss.quantile(0.9), miss.max(), diverged))
    columns = ["of", "cases", f"within {NEAR}", "|R - asked|, median", "90 %", "largest", "diverged"]
    return pd.DataFrame(rows, columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """A table with three digits; what is missing is left empty."""
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        cells = ["" if isinstance(v, float) and math.isnan(v) else f"{v:.3g}" if isinstance(v, float) else str(v)
                 for v in row]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(table: pd.DataFrame, others: pd.DataFrame) -> list[str]:
    """What is kept: of the output multipliers a summary and every case, and of the other changes every case."""
    adam = table[table["optimizer"] == "AdamW"]
    by_state: pd.Series = (adam["asked"] - adam["R by state"]).abs()
    seen = ["network", "loss", "optimizer", "from", "asked", "multiplier", "rate", "steps", "ended", "largest loss",
            "expected", "R", "kappa", "M", "reached"]  # fmt: skip
    return [
        markdown(summary(table)), "",
        f"Located in the metric of AdamW's state at the end, R differs from what was asked by {by_state.median():.2f} "
        f"(median; largest {by_state.max():.2f}).", "",
        f"Forecast and advice together took {table['seconds'].median():.1f} s (median), {table['seconds'].max():.1f} s "
        "at most.", "",
        markdown(table[seen]), "", "Other changes, mean square:", "",
        markdown(others[["change", *seen[:1], *seen[2:6], "scale", *seen[6:]]]), "",
        machine(("torch", "numpy"), 1),
    ]  # fmt: skip


def main() -> None:
    """Print the tables; keep them with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--most", type=int, default=6000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows, others = [], []
    for case in cases(asked.only):
        rows.append(one(*case, "output multiplier", asked.samples, asked.most))
        sys.stderr.write(f"{rows[-1]}\n")
    table = pd.DataFrame(rows)
    for change, name, kind in itertools.product(("initial scale", "rates by width"), ("MLP", "CNN"), ("SGD", "AdamW")):
        if asked.only in (None, name):
            others.append({"change": change, **one(name, "mse", kind, -0.7, change, asked.samples, asked.most)})
            sys.stderr.write(f"{others[-1]}\n")
    lines = tables(table, pd.DataFrame(others))
    sys.stdout.write("\n".join(lines) + "\n")
    if asked.write:
        keep("advice", lines)


if __name__ == "__main__":
    main()
