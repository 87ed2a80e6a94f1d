"""Tasks in sequence: what a linear network forgets, reverses and carries over, by the balance of its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import (
    LinearTask,
    aligned_mode,
    balanced_factors,
    balanced_network,
    learn_in_sequence,
)
from geomfeat.regimes.linear_networks.mixed_descent import weight_step

INPUTS, HIDDEN, OUTPUTS = 5, 5, 7  # more outputs than inputs: no sign of a determinant that training would keep
MODES = (1.0, 3.0)  # smallest and largest singular value of every task
SMALL_START = 1e-2
FINE, COARSE = 0.04, 0.3  # learning rate times the curvature: the latter where only ends are compared
CURVES = (-10.0, 0.0, 3.0)
ENDS = {"full": (-10.0, -3.0, -1.0, -0.3, 0.3, 1.0, 3.0), "small": (-3.0, 1.0)}
OVERLAPS = {"full": 9, "small": 5}
REVERSED = {"full": (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0), "small": (-3.0, -2.0, -1.0, 1.0)}  # log10
TRANSFERRED = {"full": (-20.0, -10.0, -5.0, -2.0, 0.0, 2.0, 5.0, 10.0, 20.0), "small": (-5.0, 0.0, 5.0)}
LAZY = (-20.0, -40.0, -80.0)
LEFT = 1e-3  # share of the first loss at which a reversal counts as done


@experiment(
    name="task-sequences",
    title="One task after another: forgetting, reversal and transfer, by the balance of two layers",
    question="What does a linear network forget, how long does it take to reverse, and what does it carry over to new "
    "answers, as the balance λ of its layers changes?",
    theory="λ stays through all tasks, so every task starts the exact solution anew. What is forgotten at the end is "
    "|Y₂ − Y₁|²/2, whatever λ; its course tends to (1 − e^(−|λ|t))² of it on the lazy side, with a difference of order "
    "λ⁻². A reversed mode follows ds/dt = √(λ² + 4s²)(−σ − s): it slows down near s = 0, for a time ln(1/|λ|)/σ, and "
    "stays there at λ = 0. The hidden similarity of items is (√(λ² + 4Y'Y) − λ)/2: the task's at large λ, none at "
    "large −λ; a new answer generalises by it.",
    source="Braun et al. 2022; Domine et al. 2024, theorem 4.1",
)
def run(size: str, seed: int, progress: bool) -> Findings:
    first, second = _two_tasks(seed)
    curves, gaps = _course(first, second, seed)
    parts = {"forgetting": _forgetting(first, second, size), "reversal": _reversal(first, size),
             "transfer": _transfer(size, seed)}  # fmt: skip
    lazy = [_away_from_lazy(first, second, balance) for balance in LAZY]
    stuck = _stuck(first)
    checks = _checks(parts, gaps, lazy, stuck)
    plots = [_course_plot(curves), _forgetting_plot(parts["forgetting"], stuck), _reversal_plot(parts["reversal"]),
             _transfer_plot(parts["transfer"])]  # fmt: skip
    table = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
    settings = {"network": f"{INPUTS}-{HIDDEN}-{OUTPUTS}", "modes": MODES, "start": SMALL_START, "seed": seed,
                "rate times curvature": f"{FINE}, for forgetting {COARSE}"}  # fmt: skip
    notes = [
        "At λ = 0 an exactly reversed task leads into a saddle: the loss stays at a quarter of its first value until "
        "rounding, or what the first task left unlearned, has grown.",
        "Transfer: the hidden layer is frozen after the first task, and a new output learns its answer to one item.",
    ]
    return Findings(_answer(parts, stuck), plots, checks, table, settings, notes)


def _two_tasks(seed: int) -> tuple[Tensor, Tensor]:
    """Two random maps with one set of singular values whose entries are uncorrelated: <Y1, Y2> = 0."""
    draw = stream(seed, "lab", "tasks in sequence")

    def directions(n: int) -> Tensor:
        return torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=WORKING)).Q

    modes = torch.linspace(*MODES, HIDDEN, dtype=WORKING)
    first, second = ((directions(OUTPUTS)[:, :HIDDEN] * modes) @ directions(INPUTS) for _ in range(2))
    second = second - (second * first).sum() / first.square().sum() * first
    return first, second * (first.norm() / second.norm())


def _rates(balances: Sequence[float], share: float, largest: float = MODES[1]) -> Tensor:
    """(n, 1, 1) a share of 1 / (the curvature that a mode of the largest size meets)."""
    lam = torch.tensor(list(balances), dtype=WORKING)
    return share / (lam.square() + 4 * largest**2).sqrt()[:, None, None]


def _together(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Weights of several networks of one shape, stacked: (n, hidden, inputs) and (n, outputs, hidden)."""
    first, second = zip(*pairs, strict=True)
    return torch.stack(first), torch.stack(second)


def _descend(
    start: tuple[Tensor, Tensor], target: Tensor, rates: Tensor, steps: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """Weights of all networks after each number of gradient-descent steps."""
    (w1, w2), seen, done = start, [], 0
    for step in steps:
        for _ in range(step - done):
            w1, w2 = weight_step(w1, w2, target, rates)
        done = step
        seen.append((w1, w2))
    return seen


def _course(first: Tensor, second: Tensor, seed: int) -> tuple[list[Curve], list[float]]:
    """Curves of the loss on the first task, exact and by descent, and the gap at two rates (relative to the task)."""
    starts = [balanced_network(INPUTS, HIDDEN, OUTPUTS, b, SMALL_START, seed=seed) for b in CURVES]
    tasks, size = [LinearTask(first), LinearTask(second)], float(first.norm())
    curves, gaps = [], []
    for share, every in ((FINE, 20), (FINE / 2, 40)):
        rates, now, seen = _rates(CURVES, share), _together(starts), []
        steps = list(range(0, 101 * every, every))
        for task in tasks:
            records = _descend(now, task.correlation, rates, steps)
            seen += [w2 @ w1 for w1, w2 in records]
            now = records[-1]
        maps = torch.stack(seen, 1)
        gap = 0.0
        for i, balance in enumerate(CURVES):
            times = [float(rates[i]) * step for step in steps]
            exact = learn_in_sequence(*starts[i], tasks, times)
            gap = max(gap, float((exact.product - maps[i]).flatten(1).norm(dim=1).max()) / size)
            if share == FINE:
                x = (exact.times / exact.starts[1]).tolist()
                losses = tasks[0].loss(maps[i]) / tasks[0].loss(torch.zeros_like(first))
                curves.append(Curve(f"λ = {balance:g}", x[::2], losses.tolist()[::2], kind="scatter"))
                own = exact.losses[0] / tasks[0].loss(torch.zeros_like(first))
                curves.append(Curve(f"λ = {balance:g}, exact", x, own.tolist(), kind="theory"))
        gaps.append(gap)
    return curves, gaps


def _forgetting(first: Tensor, second: Tensor, size: str) -> pd.DataFrame:
    """Loss on the first task after descent on a second one, over their overlap; in units of the loss at A = 0."""
    balances, unit = ENDS[size], float(first.square().sum())
    start = _together([balanced_factors(first, HIDDEN, b) for b in balances])
    rows = []
    for angle in torch.linspace(0, math.pi, OVERLAPS[size], dtype=WORKING).tolist():
        target = math.cos(angle) * first + math.sin(angle) * second
        # Outputs that a start at positive lambda does not reach are learned at a rate of about sigma^2 / lambda.
        steps = round(100 * max(1.0, *balances) * MODES[1] / COARSE)
        w1, w2 = _descend(start, target, _rates(balances, COARSE), [steps])[0]
        end = w2 @ w1
        left = (end - target).square().sum((1, 2)) / unit
        lost = (end - first).square().sum((1, 2)) / unit
        rows += [
            {"lambda": b, "overlap": math.cos(angle), "measured": float(lost[i]), "theory": 2 - 2 * math.cos(angle),
             "loss left": float(left[i])}
            for i, b in enumerate(balances)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _reversal(first: Tensor, size: str) -> pd.DataFrame:
    """Time until the loss on the reversed task is down to LEFT, by descent and from the closed form of a mode."""
    balances = [10**power for power in REVERSED[size]]
    start = _together([balanced_factors(first, HIDDEN, b) for b in balances])
    rates, unit = _rates(balances, FINE), 4 * first.square().sum()
    steps = range(0, 2401 if size == "full" else 1801, 10)
    records = _descend(start, -first, rates, steps)
    shares = torch.stack([(w2 @ w1 + first).square().sum((1, 2)) / unit for w1, w2 in records], 1)
    rows = []
    for i, balance in enumerate(balances):
        times = [float(rates[i]) * step for step in steps]
        known = torch.zeros(len(times), dtype=WORKING)
        for mode in torch.linspace(*MODES, HIDDEN, dtype=WORKING).tolist():
            known += (aligned_mode(mode, -mode, balance, times) + mode).square() / unit
        rows.append({"lambda": balance, "measured": _fallen(times, shares[i]), "theory": _fallen(times, known)})
    return pd.DataFrame(rows)


def _fallen(times: Sequence[float], shares: Tensor) -> float:
    """When the share first falls to LEFT, by interpolation of its logarithm; NaN if never."""
    below = (shares <= LEFT).nonzero().flatten()
    if not len(below):
        return math.nan
    k = int(below[0])
    high, low = shares[k - 1 : k + 1].log().tolist()
    return times[k - 1] + (times[k] - times[k - 1]) * (high - math.log(LEFT)) / (high - low)


def _stuck(first: Tensor) -> float:
    """Share of the first loss that is left of a reversed task at lambda = 0, while rounding is still small.

    Rounding grows as exp(largest mode * time): to 1e-6 in the time taken.
    """
    rates = _rates([0.0], FINE)
    steps = round(24 / (MODES[1] * float(rates)))
    w1, w2 = _descend(_together([balanced_factors(first, HIDDEN, 0.0)]), -first, rates, [steps])[0]
    return float((w2 @ w1 + first).square().sum() / (4 * first.square().sum()))


def _away_from_lazy(first: Tensor, second: Tensor, balance: float) -> float:
    """Largest distance, over time, of the exact map from its straight and exponential way from task to task."""
    times = torch.linspace(0, 5, 51, dtype=WORKING) / abs(balance)
    path = learn_in_sequence(*balanced_factors(first, HIDDEN, balance), [LinearTask(second)], times).product
    line = second + (first - second) * torch.exp(-abs(balance) * times)[:, None, None]
    return float((path - line).flatten(1).norm(dim=1).max() / (first - second).norm())


def _items() -> Tensor:
    """(15, 8) features of eight items of a binary tree: one for every node, present in the items below it."""
    nodes = [range(k * 8 // n, (k + 1) * 8 // n) for n in (1, 2, 4, 8) for k in range(n)]
    return torch.tensor([[float(i in node) for i in range(8)] for node in nodes], dtype=WORKING)


def _transfer(size: str, seed: int) -> pd.DataFrame:
    """Answer to other items, relative to the one that a new output was taught, with a frozen hidden layer."""
    features, balances = _items(), TRANSFERRED[size]
    values, basis = torch.linalg.eigh(features.mT @ features)
    starts = [balanced_network(8, 8, 15, b, SMALL_START, seed=seed) for b in balances]
    # Descent at a larger rate changes the balance by the way, and with it the similarity.
    rates = _rates(balances, FINE, float(values[-1]) ** 0.5)
    # At large lambda the slowest mode, of singular value 1, is learned at a rate of 1 / lambda.
    steps = round(10 * max(balances) / float(rates.min()))
    w1, _ = _descend(_together(starts), features, rates, [steps])[0]
    learned = w1.mT @ w1
    rows = []
    for i, balance in enumerate(balances):
        root = (balance**2 + 4 * values).sqrt()
        # Without the difference of two large numbers at positive lambda.
        spectrum = 2 * values / (root + balance) if balance > 0 else (root - balance) / 2
        exact = (basis * spectrum) @ basis.mT
        for name, item in (("sibling", 1), ("cousin", 2), ("other branch", 4)):
            answers = {k: float(m[item, 0] / m[0, 0]) for k, m in (("measured", learned[i]), ("theory", exact))}
            rows.append({"lambda": balance, "item": name, **answers})
    return pd.DataFrame(rows)


def _checks(parts: dict[str, pd.DataFrame], gaps: list[float], lazy: list[float], stuck: float) -> list[Check]:
    balance, measured, theory = (_column(parts["reversal"], name) for name in ("lambda", "measured", "theory"))
    slow = balance <= 0.1 * (1 + 1e-9)
    slope = _slope((-np.log(balance[slow])).tolist(), measured[slow].tolist())
    times = measured / theory
    powers = _slope([math.log(-b) for b in LAZY], [math.log(v) for v in lazy])
    return [
        Check("gap of descent to the exact maps, at a rate over that at half of it", gaps[0] / gaps[1], 2.0, 0.1),
        Check(f"gap at a rate of {FINE / 2:g} / curvature, over the rate", gaps[1] / (FINE / 2), 0.0, 1.0),
        Check("forgetting at the end, largest difference from |Y₂ − Y₁|²/2", _away(parts["forgetting"]), 0.0, 1e-3),
        Check("slope of log distance from the lazy course on log |λ|", powers, -2.0, 0.05),
        Check("time to reverse, largest ratio to the closed form", float(times.max()), 1.0, FINE),
        Check("time to reverse, smallest ratio to the closed form", float(times.min()), 1.0, FINE),
        Check("time to reverse on ln(1/λ), slope times the smallest σ", slope * MODES[0], 1.0, 0.05),
        Check("loss left of a reversed task at λ = 0, share", stuck, 0.25, 1e-3),
        Check("similarity to other items, largest difference from the exact one", _away(parts["transfer"]), 0.0, 2e-3),
    ]


def _column(found: pd.DataFrame, name: str) -> np.ndarray:
    return found[name].to_numpy(float)


def _away(found: pd.DataFrame) -> float:
    """Largest difference of what was measured from theory."""
    return float(np.abs(_column(found, "measured") - _column(found, "theory")).max())


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    a, b = (torch.tensor(list(v), dtype=WORKING) for v in (x, y))
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / (a @ a))


def _course_plot(curves: list[Curve]) -> Plot:
    return Plot("Loss on the first task, through two tasks", "time / length of one task",
                "loss / loss at A = 0", curves,
                caption="The second task starts at 1. Lines: exact solution, restarted; marks: gradient descent. All "
                "forget the same in the end, sooner or later.")  # fmt: skip


def _forgetting_plot(found: pd.DataFrame, stuck: float) -> Plot:
    curves = [
        Curve(f"λ = {b:g}", part["overlap"].tolist(), part["measured"].tolist(), kind="scatter")
        for b, part in found.groupby("lambda")
    ]
    x = sorted(found["overlap"].unique())
    curves.append(Curve("|Y₂ − Y₁|² / |Y₁|²", x, [2 - 2 * v for v in x], kind="theory"))
    curves.append(Curve("λ = 0, reversed", [-1.0], [(2 * stuck**0.5 - 2) ** 2], kind="scatter"))
    return Plot("Loss on the first task after a second one", "overlap of the tasks, cos", "loss / loss at A = 0",
                curves, caption="−1 is reversal. There a network of λ = 0 stays half-way, at A = 0.")  # fmt: skip


def _reversal_plot(found: pd.DataFrame) -> Plot:
    x = found["lambda"].tolist()
    curves = [Curve("time", x, found["measured"].tolist(), kind="scatter"),
              Curve("time, closed form", x, found["theory"].tolist(), kind="theory")]  # fmt: skip
    return Plot("Time to reverse", "λ", f"time to {LEFT:g} of the first loss", curves, log_x=True)


def _transfer_plot(found: pd.DataFrame) -> Plot:
    curves = []
    for name, part in found.groupby("item", sort=False):
        x = part["lambda"].tolist()
        curves += [Curve(str(name), x, part["measured"].tolist(), kind="scatter"),
                   Curve(f"{name}, exact", x, part["theory"].tolist(), kind="theory")]  # fmt: skip
    return Plot("What a new output answers to other items", "λ", "answer / answer to the item taught", curves,
                caption="Marks: descent. Items of a binary tree. λ ≫ 0: first-layer weights learned the tree, and the "
                "answer spreads along it. λ ≪ 0: they are as at the start, and items share nothing.")  # fmt: skip


def _answer(parts: dict[str, pd.DataFrame], stuck: float) -> str:
    balance, times = (_column(parts["reversal"], name) for name in ("lambda", "measured"))
    new = parts["transfer"]
    sibling = dict(zip(_column(new, "lambda")[::3], _column(new, "measured")[::3], strict=True))  # first of three items
    low, high = min(sibling), max(sibling)
    return (
        f"Forgetting at the end is that of the tasks' distance at every λ (within {_away(parts['forgetting']):.1g}). "
        f"Reversal takes {times[0]:.1f} at λ = {balance[0]:g} and {times[-1]:.2f} at λ = {balance[-1]:g}; at λ = 0 it "
        f"stops with {stuck:.0%} of the loss left. A new answer spreads to the sibling of the item taught by "
        f"{sibling[low]:.2f} at λ = {low:g}, {sibling[0.0]:.2f} at 0 and {sibling[high]:.2f} at {high:g}: only "
        "networks whose first layer learned the task carry it over."
    )
