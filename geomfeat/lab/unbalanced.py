"""Two layers that start at different sizes: what scale and imbalance demand of features and kernel, and what comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.lab.theory.two_layer_flow import gradient_flow, network, place
from geomfeat.lab.theory.unbalanced_layers import (
    SHARE,
    one_mode_kernel_demand,
    orthogonal_place,
    orthogonal_start,
    wide_relu_demand,
)
from geomfeat.location.demand import linearised_task, responses_of
from geomfeat.location.kernel_demand import kernel_demand
from geomfeat.models.functional import functional
from geomfeat.numerics import WORKING, Device, stream
from geomfeat.tangent import vjp

SIZES = {"full": (9, range(-6, 7), 3), "small": (2, (-6, -4, 0, 4, 6), 1)}  # scales, log2 of the imbalances, seeds
SCALES = (-0.5, 0.5)  # log10 of sqrt(a w), first and last
MODES = (1.0, 3.0)  # singular values of the linear target, first and last
DIMENSION, SAMPLES, UNITS = 5, 20, 256
FAR = 4  # log2 of an imbalance from which slopes are fitted
ONE_MODE = (-0.3, 0.3, 3.0)  # changes of a mode of strength 1
NUMBERS = {"kernel_change": "kernel change", "gap": "linearisation gap", "R": "demand R", "kappa": "kernel demand κ"}

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


@experiment(
    name="unbalanced",
    title="Unbalanced layers: scale against imbalance",
    question="How do unequal read-in w and read-out a, at one scale √(aw), decide how features and kernel move?",
    theory="Linear networks: kernel demand κ and the kernel's change depend on a/w and w/a alike and are largest at "
    "balance; R grows by 2 log₁₀(a/w) from one to the other. One mode f = awx: κ = log₁₀(q|d|/(K₀z*)), K₀ = a² + w². "
    "ReLU networks: a large read-out (upstream: the first layer learns faster) still switches units, so the kernel's "
    "change tends to a constant; under a large read-in (downstream) it falls as (w/a)⁻², as in linear networks.",
    source="Kunin et al. 2024, Get rich quick; Domine et al. 2024; Chizat et al. 2019",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    n_scales, ratios, seeds = SIZES[size]
    cells = [(10**s, 2.0**r) for s in np.linspace(*SCALES, n_scales) for r in ratios]
    with tqdm(total=len(cells) * (1 + seeds), desc="unbalanced", disable=not progress, leave=False) as bar:
        straight = _linear(cells, seed, bar.update, device)
        bent = pd.concat([_relu(cells, seed + k, bar.update, device) for k in range(seeds)], ignore_index=True)
    single: Table = pd.DataFrame(_one_mode(2.0**r, d) for d in ONE_MODE for r in ratios)
    ranks = {(net, of): _rank_correlation(t[of], t["kernel_change"])
             for net, t in (("linear", straight), ("relu", bent)) for of in ("R", "kappa")}  # fmt: skip
    slopes = {(net, side): _slope(t, side) for net, t in (("linear", straight), ("relu", bent)) for side in (1, -1)}
    checks = [*_linear_checks(straight, ranks), *_relu_checks(bent, slopes),
              Check("one mode: largest distance of κ from the closed form",
                    float((single["kappa"] - single["kappa_theory"]).abs().max()), 0.0, 1e-5, "decades")]  # fmt: skip
    answer = (
        f"Linear networks: the kernel's change has rank correlation {ranks['linear', 'R']:.2f} with R and "
        f"{ranks['linear', 'kappa']:.2f} with κ over {len(cells)} starts; both peak at balance. ReLU networks: "
        f"{ranks['relu', 'R']:.2f} and {ranks['relu', 'kappa']:.2f}. At the largest scale the kernel's change falls "
        f"with slope {slopes['relu', -1]:.1f} in log |a/w| under a large read-in, and stays (slope "
        f"{abs(slopes['relu', 1]):.2f}) under a large read-out, where {_switched(bent, 1):.0%} of the units switch on "
        f"a probe, not {_switched(bent, -1):.1%}."
    )
    table = pd.concat([straight.assign(net="linear"), bent.assign(net="ReLU"), single.assign(net="one mode")])
    settings = {"dimension": DIMENSION, "samples of ReLU networks": SAMPLES, "units": UNITS, "seeds": seeds,
                "seed": seed}  # fmt: skip
    notes = [
        "κ of a ReLU network under a large read-out can jump by a decade from seed to seed: all units switch at about "
        "one size of the response, which changes the kernel by .15 to .3 of its size, close to the .2 at which κ is "
        "read, and only much further the weights grow. Maps show medians over seeds."
    ]
    plots = [*_maps("Linear networks", straight, _linear_lines()), *_maps("ReLU networks", bent, _relu_lines(seed)),
             *_cuts(straight, bent, single)]  # fmt: skip
    return Findings(answer, plots, checks, table, settings, notes)


def _sizes(cells: Sequence[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """w and a of every cell (scale, a / w)."""
    scale, ratio = torch.tensor(cells, dtype=WORKING).unbind(1)
    return scale / ratio.sqrt(), scale * ratio.sqrt()


def _linear(
    cells: Sequence[tuple[float, float]], seed: int, step: Callable[[], object], device: Device
) -> Table:  # fmt: skip
    """Square linear networks on X = I, from a map of zero; theory beside what is measured."""
    draw = stream(seed, "lab", "unbalanced", "linear")
    q, turn = (torch.linalg.qr(torch.randn(n, m, generator=draw, dtype=WORKING)).Q
               for n, m in ((4 * DIMENSION, 2 * DIMENSION), (DIMENSION, DIMENSION)))  # fmt: skip
    modes, x = torch.linspace(*MODES, DIMENSION, dtype=WORKING), torch.eye(DIMENSION, dtype=WORKING)
    sizes = _sizes(cells)
    before = orthogonal_start(*sizes, q)
    _, rows = _trained(cells, before, x, turn * modes, device, relu=False, share_left=1e-8, step=step)
    for row, w, a in zip(rows, *(part.tolist() for part in sizes), strict=True):
        known = orthogonal_place(w, a, modes)
        row |= {"R_theory": known.richness, "kappa_theory": known.kernel_demand,
                "kernel_change_theory": known.kernel_change, "gap_theory": known.gap}  # fmt: skip
    return pd.DataFrame(rows)


def _relu(cells: Sequence[tuple[float, float]], seed: int, step: Callable[[], object], device: Device) -> Table:
    """ReLU networks that learn three ReLU units, from an output of zero: units in pairs of opposite read-out."""
    x, y = _teacher(seed)
    draw = stream(seed, "lab", "unbalanced", "units")
    units = torch.randn(UNITS // 2, DIMENSION, generator=draw, dtype=WORKING)
    units = (units / units.norm(dim=1, keepdim=True)).repeat(2, 1) / math.sqrt(UNITS)
    signs = torch.ones(UNITS // 2, dtype=WORKING) / math.sqrt(UNITS)
    w, a = _sizes(cells)
    before = w[:, None, None] * units, a[:, None, None] * torch.cat([signs, -signs])[None]
    after, rows = _trained(cells, before, x, y[:, None], device, relu=True, share_left=0.02, step=step)
    for i, row in enumerate(rows):
        change = (x @ after[0][i].mT).clamp_min(0) @ after[1][i, 0]  # the output at the start is 0
        balance = [(a[i, 0].square() - w[i].square().sum(1)) for w, a in (before, after)]
        size = after[1][i, 0].square() + after[0][i].square().sum(1)
        row |= {"R_theory": wide_relu_demand(float(w[i]), float(a[i]), x, change), "seed": seed,
                "switched": float(((x @ before[0][i].mT > 0) != (x @ after[0][i].mT > 0)).double().mean()),
                "balance_drift": float(((balance[1] - balance[0]).abs() / size).max())}  # fmt: skip
    return pd.DataFrame(rows)


def _teacher(seed: int) -> tuple[Tensor, Tensor]:
    """(n, d) inputs on a sphere and (n,) centred targets of variance 1: two ReLU units less a third."""
    draw = stream(seed, "lab", "unbalanced", "teacher")
    x, units = (torch.randn(n, DIMENSION, generator=draw, dtype=WORKING) for n in (SAMPLES, 3))
    x = math.sqrt(DIMENSION) * x / x.norm(dim=1, keepdim=True)
    y = (x @ (units / units.norm(dim=1, keepdim=True)).mT).clamp_min(0) @ torch.tensor([1.0, 1.0, -1.0], dtype=WORKING)
    return x, (y - y.mean()) / y.std()


def _trained(
    cells: Sequence[tuple[float, float]], before: tuple[Tensor, Tensor], x: Tensor, y: Tensor, device: Device, *,
    relu: bool, share_left: float, step: Callable[[], object],
) -> tuple[tuple[Tensor, Tensor], list[dict[str, float]]]:  # fmt: skip
    """The weights after training on a device, on the CPU, and the place of each network."""
    x, y, *start = (part.to(device) for part in (x, y, *before))
    before = (start[0], start[1])
    after = gradient_flow(*before, x, y, relu=relu, share_left=share_left)
    rows = []
    for i, (scale, ratio) in enumerate(cells):
        found = place((before[0][i], before[1][i]), (after[0][i], after[1][i]), x, relu=relu)
        assert found.kernel is not None
        rows.append({"scale": scale, "ratio": ratio, "R": found.demand.richness, "M": found.movement["fc1"],
                     "kappa": found.kernel.demand.demand, "kappa_on_target": found.kernel.on_target.demand,
                     "kernel_change": found.kernel.change, "gap": found.kernel.gap})  # fmt: skip
        step()
    return (after[0].cpu(), after[1].cpu()), rows


def _one_mode(ratio: float, change: float) -> dict[str, float]:
    """Kernel demand of f = a w x with a w = 1, towards 1 + change; x = 1."""
    w, a = 1 / math.sqrt(ratio), math.sqrt(ratio)
    f = functional(network(torch.full((1, 1), w), torch.full((1, 1), a), relu=False))
    x = torch.ones(1, 1, dtype=WORKING)
    task = linearised_task(f, x, torch.full((1, 1), change, dtype=WORKING), ("fc1",))
    direction = vjp(f, x, responses_of(task, SHARE)[0].coefficients[:, None])
    return {"scale": 1.0, "ratio": ratio, "change": change,
            "kappa": kernel_demand(f, x, direction, precision=1e-8).demand,
            "kappa_theory": one_mode_kernel_demand(w, a, change)}  # fmt: skip


def _rank_correlation(demand: Table, change: Table) -> float:
    """Spearman's; numbers that agree to a thousandth of a decade are ties, as theory's of mirrored starts are."""
    return float(demand.round(3).corr(np.log10(change).round(3), method="spearman"))


def _slope(table: Table, side: int) -> float:
    """Of log10 of the kernel's change on log10 |a / w| at the largest scale, one layer far larger than the other."""
    power = side * np.log2(table["ratio"])
    far = table[(power >= FAR) & (table["scale"] == table["scale"].max())]
    return float(np.polyfit(np.abs(np.log10(far["ratio"])), np.log10(far["kernel_change"]), 1)[0])


def _switched(bent: Table, side: int) -> float:
    """Mean share of switched units at the largest scale and imbalance."""
    ratio = bent["ratio"].max() if side > 0 else bent["ratio"].min()
    return float(bent.loc[(bent["ratio"] == ratio) & (bent["scale"] == bent["scale"].max()), "switched"].mean())


def _linear_checks(straight: Table, ranks: dict[tuple[str, str], float]) -> list[Check]:
    off = {n: float((straight[n] - straight[f"{n}_theory"]).abs().max()) for n in ("R", "kappa", "gap")}
    change = float(np.abs(np.log10(straight["kernel_change"] / straight["kernel_change_theory"])).max())
    grid = {n: straight.pivot(index="scale", columns="ratio", values=n) for n in ("R", "kappa", "kernel_change")}
    mirrored = {n: values.to_numpy() - values.to_numpy()[:, ::-1] for n, values in grid.items()}
    power = np.log10(grid["R"].columns.to_numpy(float))
    slope = float(np.polyfit(np.tile(power, len(grid["R"])), mirrored["R"].ravel(), 1)[0])
    at_peak = {n: np.log2(grid[n].idxmax(axis=1).to_numpy(float)) for n in ("kappa", "kernel_change")}
    peaks = {n: float(np.abs(ratios).max()) for n, ratios in at_peak.items()}
    known = {of: _rank_correlation(straight[f"{of}_theory"], straight["kernel_change_theory"])
             for of in ("R", "kappa")}  # fmt: skip
    return [
        Check("linear: largest distance of R from the closed form", off["R"], 0.0, 1e-3, "decades"),
        Check("linear: largest distance of κ from the closed form", off["kappa"], 0.0, 1e-3, "decades"),
        Check("linear: largest distance of the kernel's change from the closed form", change, 0.0, 5e-3, "decades"),
        Check("linear: largest distance of the linearisation gap from the closed form", off["gap"], 0.0, 5e-3),
        Check("linear: κ at a/w less κ at w/a, largest", float(np.abs(mirrored["kappa"]).max()), 0.0, 1e-3, "decades"),
        Check("linear: R at a/w less R at w/a, slope on log₁₀(a/w)", slope, 2.0, 1e-2),
        Check("linear: |log₂(a/w)| of the largest κ, over scales", peaks["kappa"], 0.0, 0.0),
        Check("linear: |log₂(a/w)| of the largest change of the kernel", peaks["kernel_change"], 0.0, 0.0),
        *(Check(f"linear: rank correlation of {NUMBERS[of]} with the kernel's change", ranks["linear", of], known[of],
                0.01) for of in ("R", "kappa")),
    ]  # fmt: skip


def _relu_checks(bent: Table, slopes: dict[tuple[str, int], float]) -> list[Check]:
    off = float((bent["R"] - bent["R_theory"]).mean())
    return [
        Check("ReLU: conserved a² − |w|² of a unit, largest drift", float(bent["balance_drift"].max()), 0.0, 0.01),
        # Half of the units are independent: a mean over them is within 1 / sqrt(128), .04 decades.
        Check("ReLU: R less that of infinite width, mean", off, 0.0, 0.1, "decades"),
        Check("linear: slope of the kernel's change on log₁₀(a/w), large read-out", slopes["linear", 1], -2.0, 0.1),
        Check("ReLU: slope of the kernel's change on log₁₀(w/a), large read-in", slopes["relu", -1], -2.0, 0.2),
        Check("ReLU: slope of the kernel's change on log₁₀(a/w), large read-out", slopes["relu", 1], 0.0, 0.2),
    ]


def _contour(scale_at: Callable[[float], float], label: str) -> Curve:
    """Theory's line in the maps: log10 of the scale at every log2 of the imbalance, where the maps show it."""
    x = np.linspace(-6, 6, 49).tolist()
    y = [math.log10(scale_at(2.0**r)) for r in x]
    return Curve(label, x, [v if SCALES[0] <= v <= SCALES[1] else math.nan for v in y], kind="theory")


def _linear_lines() -> list[Curve]:
    modes = torch.linspace(*MODES, DIMENSION, dtype=WORKING)

    def at_one(ratio: float) -> Any:
        return orthogonal_place(1 / math.sqrt(ratio), math.sqrt(ratio), modes)

    # A scale c times as large divides the response by c^2: R and kappa both fall by 2 log10 c.
    return [_contour(lambda r: 10 ** (at_one(r).richness / 2), "R = 0 (level on the right)"),
            _contour(lambda r: 10 ** (at_one(r).kernel_demand / 2), "κ = 0 (a peak)")]  # fmt: skip


def _relu_lines(seed: int) -> list[Curve]:
    x, y = _teacher(seed)

    def scale_at(ratio: float) -> float:
        return 10 ** (wide_relu_demand(1 / math.sqrt(ratio), math.sqrt(ratio), x, y) / 2)

    return [_contour(scale_at, "R = 0 (level on the right)")]


def _maps(title: str, table: Table, lines: list[Curve]) -> list[Heat]:
    found = []
    for name, label in NUMBERS.items():
        grid = table.groupby(["scale", "ratio"])[name].median().unstack()
        values = np.log10(grid.to_numpy()) if name == "kernel_change" else grid.to_numpy()
        found.append(Heat(
            f"{title}: {label}", "log₂(a/w): read-out over read-in", "log₁₀ √(aw)",
            np.log2(grid.columns.to_numpy(float)).tolist(), np.log10(grid.index.to_numpy(float)).tolist(),
            values.tolist(), "log10" if name == "kernel_change" else "share" if name == "gap" else "decades", lines,
            caption="Dashed: theory, " + " and ".join(line.label for line in lines) + ".",
        ))  # fmt: skip
    return found


def _limits(relu: Curve) -> Curve:
    """Theory's slopes 2 and 0 through the ends of the ReLU networks' curve, where one layer is far larger."""
    x, y = relu.x, relu.y
    up = [y[0] * 10 ** (2 * math.log10(2) * (v - x[0])) if v <= -FAR else y[-1] if v >= FAR else math.nan for v in x]
    return Curve("ReLU, slopes 2 and 0", x, up, kind="theory")


def _cuts(straight: Table, bent: Table, single: Table) -> list[Plot]:
    """Kernel demand, R, and the kernel's change over the imbalance."""

    def cut(table: Table, name: str, label: str, scale: float, theory: str | None = None) -> list[Curve]:
        rows = table[np.isclose(table["scale"], scale)].groupby("ratio")
        x, columns = [float(np.log2(r)) for r in rows.groups], rows[name].agg(["mean", "sem"])
        error = None if table is straight else columns["sem"].tolist()
        curves = [Curve(label, x, columns["mean"].tolist(), error)]
        if theory:
            curves.append(Curve(f"{label}, theory", x, rows[theory].mean().tolist(), kind="theory"))
        return curves

    modes = []
    for change, rows in single.groupby("change"):
        x = np.log2(rows["ratio"]).tolist()
        modes += [Curve(f"change {change:+g}", x, rows["kappa"].tolist()),
                  Curve(f"change {change:+g}, theory", x, rows["kappa_theory"].tolist(), kind="theory")]  # fmt: skip
    large, axis = float(straight["scale"].max()), "log₂(a/w)"
    change = [*cut(straight, "kernel_change", "linear", large, "kernel_change_theory"),
              *cut(bent, "kernel_change", "ReLU", large)]  # fmt: skip
    change.append(_limits(change[-1]))
    return [
        Plot("One mode of strength 1", axis, "kernel demand κ, decades", modes,
             caption="f = a w x. A mode that shrinks first loses kernel, so it crosses .2 earlier."),
        Plot("Demand R at scale 1", axis, "R, decades",
             [*cut(straight, "R", "linear", 1.0, "R_theory"), *cut(bent, "R", "ReLU", 1.0, "R_theory")],
             caption="Bars: one standard error over seeds. Theory of the ReLU layer: infinite width."),
        Plot("The kernel's change at the largest scale", axis, "kernel change", change, log_y=True,
             caption="Under a large read-out ReLU units still switch, so the kernel goes on changing."),
        Plot("Switched units at the largest scale", axis, "share of units and probes",
             [*cut(bent, "switched", "ReLU", large),
              Curve("limit of a large read-in", [-6.0, 6.0], [0.0, 0.0], kind="theory")]),
    ]  # fmt: skip
