"""Diagonal linear networks: the passage from the solution of least L1 norm to the one of least L2 norm, R and kappa."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.lab.theory.diagonal_networks import (
    Array,
    Weights,
    demands,
    flow,
    kernel,
    least_l1,
    predicted,
    product,
    regulariser,
)
from geomfeat.location.initial_states import observe, start_from
from geomfeat.location.kernel_demand import CHANGED
from geomfeat.network import Network
from geomfeat.numerics import WORKING, numpy_stream
from geomfeat.regimes.linearization.response import respond

DEPTHS = (2, 3, 4)
INPUTS, SAMPLES, NONZERO = 40, 20, 3
SIZES = {"full": (0.25, 3), "small": (1.0, 1)}  # decades of R between starts, draws of the data
FROM, TO = -1.5, 4.0  # R of the laziest and the richest start, about
SPREAD, UNEQUAL = 0.3, 1.5  # of log10 alpha over coordinates; u0 / alpha = alpha / v0
SHARE = 0.01  # of the change that is left when the linear response stops

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


class Diagonal(nn.Module):
    """(u^D - v^D) . x with bare parameters u and v; `hidden.k` sees (u^(k+1) x, v^(k+1) x)."""

    def __init__(self, weights: Weights, depth: int) -> None:
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.tensor(w, dtype=WORKING)) for w in weights)
        self.hidden = nn.ModuleList(nn.Identity() for _ in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, 1)."""
        h, factors = torch.cat([x, x], 1), torch.cat([self.u, self.v])
        for layer in self.hidden:
            h = layer(factors * h)
        return (torch.cat([self.u, -self.v]) * h).sum(1, keepdim=True)


@experiment(
    name="diagonal",
    title="Diagonal linear networks: from least L1 to least L2 norm",
    question="Which solution does a diagonal network of depth D find as its start α grows, and do R and κ tell?",
    theory="(u^D − v^D)·x from u₀ = v₀ = α: gradient flow finds the solution of least Σ α²q(β/α²) for D = 2, "
    "q(z) = 2 − √(4 + z²) + z arcsinh(z/2), and of other known regularisers for D > 2: the L1 norm for small α, the L2 "
    "norm for large. R and κ fall with slope −D on log₁₀ α; for D = 2, κ = ½ log₁₀(|X diag(δ²) X'|/(.2 |XX'|)), "
    "δ = β_lin/(4α²). R = 0 marks the passage.",
    source="Woodworth et al. 2020; Chizat et al. 2019",
)
def run(size: str, seed: int, progress: bool) -> Findings:
    spacing, draws = SIZES[size]
    rungs = np.arange(FROM, TO + spacing / 2, spacing).tolist()
    plan = [("equal", depth, draw) for depth in DEPTHS for draw in range(draws)]
    plan += [(shape, depth, 0) for shape in ("by coordinate", "unequal") for depth in (2, 3)]
    rows = []
    for shape, depth, draw in tqdm(plan, desc="diagonal", disable=not progress, leave=False):
        rows += _over_alpha(shape, depth, rungs, seed + draw)
    table: Table = pd.DataFrame(rows)
    halves = _halves(table)
    odd = table[(table["shape"] == "unequal") & (table["depth"] == 2)]
    lazy = odd.loc[odd["alpha"].idxmax()]
    middle = {d: float(halves.loc[halves["depth"] == d, "R"].mean()) for d in DEPTHS}
    answer = (
        f"From α = {table['alpha'].min():.2g} to {table['alpha'].max():.2g} the solution goes from least L1 to least "
        f"L2 norm, everywhere the one that theory's regulariser selects (largest distance {table['off'].max():.1e}). "
        "Half of the way is at R = " + ", ".join(f"{middle[d]:+.2f} (D = {d})" for d in DEPTHS)
        + f", mean over {draws} draws of the data; κ is there "
        + ", ".join(f"{halves.loc[halves['depth'] == d, 'kappa'].mean():+.2f}" for d in DEPTHS)
        + ". With unequal u₀ and v₀ the output at the start grows with α and must be unlearned: for D = 2 R levels off "
        f"at {lazy['R']:+.2f} and κ at {lazy['kappa']:+.2f}, however large the start."
    )  # fmt: skip
    settings = {"inputs": INPUTS, "samples": SAMPLES, "nonzero": NONZERO, "draws": draws, "seed": seed}
    return Findings(answer, _plots(table), _checks(table, halves, middle), table, settings)


def _data(seed: int) -> tuple[Array, Array]:
    """(n, d) Gaussian inputs and the outputs of a sparse map."""
    draw = numpy_stream(seed, "lab", "diagonal")
    x = draw.standard_normal((SAMPLES, INPUTS)) / math.sqrt(SAMPLES)
    return x, x[:, :NONZERO] @ np.where(np.arange(NONZERO) % 2, -1.0, 1.0)


def _shaped(shape: str, alpha: float, seed: int) -> Weights:
    """u0 and v0."""
    whole = np.full(INPUTS, alpha)
    if shape == "unequal":
        return UNEQUAL * whole, whole / UNEQUAL
    if shape == "by coordinate":
        whole = whole * 10 ** (SPREAD * numpy_stream(seed, "lab", "diagonal", "spread").standard_normal(INPUTS))
    return whole, whole.copy()


def _over_alpha(shape: str, depth: int, rungs: list[float], seed: int) -> list[dict[str, Any]]:
    """A row for every start of one shape and depth, on one draw of the data."""
    x, y = _data(seed)
    ends = [float(np.abs(b).sum()) for b in (least_l1(x, y), np.linalg.pinv(x) @ y)]
    typical = float(np.sqrt(np.mean((np.linalg.pinv(x) @ y) ** 2)))
    rows = []
    for rung in rungs:
        alpha = (typical / (2 * depth * 10**rung)) ** (1 / depth)
        start = _shaped(shape, alpha, seed)
        row = {"shape": shape, "depth": depth, "draw": seed, "alpha": alpha}
        rows.append(row | _solved(x, y, start, depth, ends))
    return rows


def _solved(x: Array, y: Array, start: Weights, depth: int, ends: list[float]) -> dict[str, float]:
    """One training: its solution and place, and what theory says of both."""
    end, known = flow(x, y, start, depth), predicted(x, y, start, depth)
    beta, wanted = product(end, depth), product(known, depth)
    probes = torch.tensor(x)
    trained = Network.prepare(Diagonal(end, depth), probes, initial=Diagonal(start, depth),
                              layers=[f"hidden.{k}" for k in range(depth - 1)])  # fmt: skip
    found = start_from(Diagonal(start, depth), observe(trained, None, n_probes=len(x)), shares=[SHARE])
    assert found.kernel is not None
    before, after = kernel(x, start, depth), kernel(x, known, depth)
    learned = x @ (wanted - product(start, depth))
    coefficients = respond(torch.tensor(before), torch.tensor(learned), [SHARE])[0].coefficients.numpy()
    richness, kappa = demands(x, start, coefficients, depth)
    moved = [end - first for end, first in zip(known, start, strict=True)]
    linear = depth * (start[0] ** (depth - 1) * moved[0] - start[1] ** (depth - 1) * moved[1])
    return {
        "off": float(np.linalg.norm(beta - wanted) / np.linalg.norm(wanted)),
        "passage": (float(np.abs(beta).sum()) - ends[0]) / (ends[1] - ends[0]),
        "passage_theory": (float(np.abs(wanted).sum()) - ends[0]) / (ends[1] - ends[0]),
        "excess_q": regulariser(beta, start[0]) / regulariser(wanted, start[0]) - 1 if depth == 2 else math.nan,
        "R": found.demand.richness, "R_theory": richness, "kappa": found.kernel.demand.demand, "kappa_theory": kappa,
        "kappa_closed": _closed(x, start[0], coefficients) if depth == 2 else math.nan,
        "kernel_change": found.kernel.change,
        "kernel_change_theory": float(np.linalg.norm(after - before) / np.linalg.norm(before)),
        "gap": found.kernel.gap,
        "gap_theory": float(np.linalg.norm(learned - x @ linear) / np.linalg.norm(learned)),
    }  # fmt: skip


def _closed(x: Array, alpha: Array, coefficients: Array) -> float:
    """kappa for D = 2 and u0 = v0: the kernel changes by X diag(8 alpha^2 delta^2) X' at the linear response."""
    delta = 2 * (x.T @ coefficients)
    changed = (x * np.square(alpha * delta)) @ x.T
    return 0.5 * float(np.log10(np.linalg.norm(changed) / (CHANGED * np.linalg.norm((x * alpha**2) @ x.T))))


def _halves(table: Table) -> Table:
    """R and kappa at half of the passage between the norms, measured and by theory, of every depth and draw."""
    rows = []
    for (depth, draw), part in table[table["shape"] == "equal"].groupby(["depth", "draw"]):
        at = {name: float(np.interp(0.5, part["passage"].to_numpy()[::-1], part[name].to_numpy()[::-1]))
              for name in ("R", "kappa")}  # fmt: skip
        order = part["passage_theory"].to_numpy()[::-1]
        at["R_theory"] = float(np.interp(0.5, order, part["R_theory"].to_numpy()[::-1]))
        rows.append({"depth": depth, "draw": draw, **at})
    return pd.DataFrame(rows)


def _slope(part: Table, name: str) -> float:
    return float(np.polyfit(np.log10(part["alpha"]), part[name], 1)[0])


def _checks(table: Table, halves: Table, middle: dict[int, float]) -> list[Check]:
    off = {n: float((table[n] - table[f"{n}_theory"]).abs().max()) for n in ("R", "kappa", "gap")}
    change = float(np.log10(table["kernel_change"] / table["kernel_change_theory"]).abs().max())
    two = table[(table["depth"] == 2) & (table["shape"] != "unequal")]
    equal = table[table["shape"] == "equal"]
    checks = [
        Check(f"{shape}: largest distance of the solution from theory's", float(part["off"].max()), 0.0, 1e-3)
        for shape, part in table.groupby("shape", sort=False)
    ]
    checks += [
        Check("D = 2: Q of the solution over the least, less 1", float(two["excess_q"].abs().max()), 0.0, 1e-4),
        Check("D = 2: largest distance of κ from ½ log₁₀(|X diag(δ²) X'| / (.2 |XX'|))",
              float((two["kappa"] - two["kappa_closed"]).abs().max()), 0.0, 1e-3, "decades"),
        *(Check(f"largest distance of {n} from theory", off[n], 0.0, 2e-3, "decades") for n in ("R", "kappa")),
        Check("largest distance of the linearisation gap from theory", off["gap"], 0.0, 2e-3),
        Check("largest distance of the kernel's change from theory", change, 0.0, 2e-3, "decades"),
    ]  # fmt: skip
    for depth, part in equal.groupby("depth"):
        checks += [Check(f"D = {depth}: slope of {label} on log₁₀ α", _slope(part, name), -depth, 0.01)
                   for name, label in (("R", "R"), ("kappa", "κ"))]  # fmt: skip
        # Half of the passage lies between the regimes, whose limits are R = -.5 and .5.
        checks.append(Check(f"D = {depth}: R at half of the passage", middle[int(depth)], 0.0, 0.5, "decades"))
    apart = float((halves["R"] - halves["R_theory"]).abs().max())
    return [*checks, Check("R at half of the passage, largest distance from theory", apart, 0.0, 0.02, "decades")]


def _plots(table: Table) -> list[Plot]:
    first = table[table["draw"] == table["draw"].min()]
    equal = first[first["shape"] == "equal"]

    def over(x: str, name: str, rows: Table, by: str, label: str) -> list[Curve]:
        curves = []
        for key, part in rows.groupby(by, sort=False):
            curves.append(Curve(f"{label}{key}", part[x].tolist(), part[name].tolist()))
            if f"{name}_theory" in part:
                curves.append(Curve(f"{label}{key}, theory", part[x].tolist(), part[f"{name}_theory"].tolist(),
                                    kind="theory"))  # fmt: skip
        return curves

    shapes = first[first["shape"] != "equal"].assign(
        kind=lambda t: t["shape"] + ", D = " + t["depth"].astype(str)
    )  # fmt: skip
    zero = Curve("R = 0", [0.0, 0.0], [0.0, 1.0], kind="theory")
    share = "L1 norm: 0 least, 1 that of least L2"
    limits = "Dashed: theory's solution, found without training. 0: least L1 norm; 1: the solution of least L2 norm."
    return [
        Plot("The passage over α", "α", share, over("alpha", "passage", equal, "depth", "D = "), log_x=True,
             caption=limits),
        Plot("The passage over R", "demand R, decades", share, [*over("R", "passage", equal, "depth", "D = "), zero],
             caption="R = 0 marks the passage at every depth, although it begins at different α."),
        Plot("Demand R", "α", "R, decades", over("alpha", "R", equal, "depth", "D = "), log_x=True,
             caption="Theory's slope is −D."),
        Plot("Kernel demand", "α", "κ, decades", over("alpha", "kappa", equal, "depth", "D = "), log_x=True,
             caption="Theory's slope is −D."),
        Plot("The kernel's change", "κ, decades", "kernel change",
             over("kappa", "kernel_change", equal, "depth", "D = "), log_y=True,
             caption="Theory: the kernel of the solution that the regulariser selects."),
        Plot("The linearisation gap", "κ, decades", "share of the learned change",
             over("kappa", "gap", equal, "depth", "D = ")),
        Plot("Other starts: demand R", "α", "R, decades", over("alpha", "R", shapes, "kind", ""), log_x=True,
             caption=f"By coordinate: log₁₀ α spread by {SPREAD:g}. Unequal: u₀ = {UNEQUAL:g} α, v₀ = α/{UNEQUAL:g}."),
        Plot("Other starts: kernel demand", "α", "κ, decades", over("alpha", "kappa", shapes, "kind", ""), log_x=True),
    ]  # fmt: skip
