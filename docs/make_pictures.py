"""The pictures of the concept pages, computed by the package itself: python docs/make_pictures.py [FOLDER]

Each function draws one picture and returns the numbers that its page states; `tests/test_docs.py` checks them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

import geomfeat as gf
from geomfeat.models.mlp import mlp

GAMMAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#777777"


@cache
def located() -> tuple[gf.Location, ...]:
    """One network trained at six output scales to the same loss, and located."""
    data = gf.load_data("digits", n=60)
    start = mlp(64, (32, 32), 10, seed=0)
    options = gf.LocateOptions(n_bootstrap=20)
    found = []
    for gamma in GAMMAS:
        run = gf.train_at_gamma(start, data.inputs, data.labels, gamma=gamma, target_loss=0.1)
        found.append(
            gf.locate(
                run.model, data.inputs, data.labels, initial=start, optimizer=run.rates, options=options, progress=False
            )
        )
    return tuple(found)


def lazy_and_rich(ax: Axes) -> dict[str, list[float]]:
    """Richness and movement against the output scale."""
    places = located()
    r, m = [p.richness for p in places], [p.movement for p in places]
    low, high = (np.abs(np.array([getattr(p, end) for p in places]) - r) for end in ("low", "high"))
    ax.axhspan(-3, -0.5, color=BLUE, alpha=0.08, lw=0)
    ax.axhspan(0, 2, color=ORANGE, alpha=0.08, lw=0)
    ax.errorbar(GAMMAS, r, [low, high], fmt="o-", color=BLUE, label="demand R, 90 % interval")
    ax.plot(GAMMAS, m, "s--", color=ORANGE, label="movement M")
    ax.text(1.1, -0.62, "features at rest", color=BLUE, va="top")
    ax.text(0.031, 0.1, "features moved", color=ORANGE)
    ax.set(
        xscale="log", xlabel="output scale gamma at which the network was trained", ylabel="decades", ylim=(-1.6, 1.6)
    )
    ax.legend(loc="lower right", frameon=False)
    return {"R": r, "M": m}


def demand(ax: Axes) -> dict[str, list[float]]:
    """Movement against demand: equal in the lazy range, less than demanded in the rich one."""
    places = located()
    r, m = [p.richness for p in places], [p.movement for p in places]
    ax.plot([-1.4, 1.5], [-1.4, 1.5], color=GREY, lw=1, label="moved as far as demanded: E = 0")
    ax.scatter(r, m, color=BLUE, zorder=3)
    for gamma, x, y in zip(GAMMAS, r, m, strict=True):
        ax.annotate(f"{gamma:g}", (x, y), xytext=(6, -10), textcoords="offset points", color=BLUE)
    ax.set(xlabel="demand R, decades", ylabel="movement M, decades")
    ax.legend(loc="upper left", frameon=False)
    return {"E": [p.excess for p in places]}


def kernel_and_features(ax: Axes) -> dict[str, list[float]]:
    """What happened to the kernel against what was demanded of it."""
    places = located()
    kappa = [p.kernel_demand for p in places]
    change, gap = [p.kernel_change for p in places], [p.linearisation_gap for p in places]
    ax.axvline(0, color=GREY, lw=1)
    ax.plot(kappa, change, "o-", color=BLUE, label="kernel change |K - K0| / |K0|")
    ax.plot(kappa, gap, "s--", color=ORANGE, label="linearisation gap")
    ax.set(yscale="log", xlabel="kernel demand kappa, decades", ylabel="after training")
    ax.legend(loc="lower right", frameon=False)
    return {"kappa": kappa, "change": change, "gap": gap}


def capacity_geometry(ax: Axes) -> dict[str, list[float]]:
    """Capacity of class clouds of growing radius, in two dimensions of spread and in ten."""
    radii, found = (0.1, 0.3, 0.6, 1.0, 2.0), {}
    for dimension, color, mark in ((2, BLUE, "o-"), (10, ORANGE, "s--")):
        values = [gf.capacity(_clouds(radius, dimension), n_draws=100, seed=0) for radius in radii]
        found[f"D = {dimension}"] = [value.capacity for value in values]
        errors = [2 * value.capacity_se for value in values]
        ax.errorbar(radii, found[f"D = {dimension}"], errors, fmt=mark, color=color, label=f"{dimension} directions")
    ax.axhline(2, color=GREY, lw=1)
    ax.text(1.95, 1.94, "single points: 2", color=GREY, ha="right", va="top")
    ax.set(xlabel="radius of a class, in units of the distance of its centre", ylabel="capacity, classes per dimension")
    ax.set_ylim(0, 2.2)
    ax.legend(frameon=False)
    return found


def _clouds(radius: float, dimension: int) -> torch.Tensor:
    """(classes, points, units): unit centres in random directions, each with points on a sphere around it."""
    noise = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=noise, dtype=torch.float64)  # noqa: E731
    classes, points, units = 20, 30, 200
    centres = torch.nn.functional.normalize(draw(classes, units), dim=1)
    axes = draw(classes, dimension, units) / units**0.5
    on_sphere = torch.nn.functional.normalize(draw(classes, points, dimension), dim=2)
    return centres[:, None] + radius * on_sphere @ axes


def similarity(ax: Axes) -> dict[str, list[float]]:
    """CKA of unrelated features, which share nothing: biased and unbiased, against the number of samples."""
    samples, units = (30, 60, 120, 250, 500), 200
    noise = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {"biased": [], "unbiased": []}
    for n in samples:
        x, y = torch.randn(2, n, units, generator=noise, dtype=torch.float64)
        for name, values in found.items():
            values.append(float(gf.get(f"cka_linear_{name}")(gf.Representation(x), gf.Representation(y))))
    ax.axhline(0, color=GREY, lw=1)
    ax.plot(samples, found["biased"], "s--", color=ORANGE, label="biased estimate")
    ax.plot(samples, found["unbiased"], "o-", color=BLUE, label="unbiased estimate")
    ax.set(xlabel="number of samples", ylabel="CKA of two layers that share nothing", ylim=(-0.1, 1))
    ax.legend(frameon=False)
    return found


def error_bars(ax: Axes) -> dict[str, list[float]]:
    """Sixty experiments on the same layer: which intervals of two standard errors hold the truth?"""
    scale = torch.tensor([1.0 / k for k in range(1, 21)], dtype=torch.float64)
    true = float(scale.square().sum() ** 2 / scale.pow(4).sum())
    noise = torch.Generator().manual_seed(0)
    measure = gf.get("participation_ratio_corrected")
    found = [
        measure(gf.Representation(torch.randn(80, 20, generator=noise, dtype=torch.float64) * scale)) for _ in range(60)
    ]
    holds = [abs(value - true) < 2 * value.stderr for value in found]
    for i, (value, right) in enumerate(zip(found, holds, strict=True)):
        ax.errorbar(i, value.value, 2 * value.stderr, fmt=".", color=BLUE if right else ORANGE, lw=1)
    ax.axhline(true, color=GREY, lw=1)
    ax.set(xlabel="experiment: 80 new samples each", ylabel="participation ratio, two standard errors")
    ax.set_title(f"{sum(holds)} of 60 hold the true {true:.2f}", fontsize=10)
    return {"holds": [float(right) for right in holds], "true": [true]}


PICTURES: tuple[Callable[[Axes], dict[str, list[float]]], ...] = (
    lazy_and_rich, demand, kernel_and_features, capacity_geometry, similarity, error_bars,
)  # fmt: skip


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        numbers = draw(ax)
        figure.savefig(folder / f"{draw.__name__}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        sys.stdout.write(
            f"{draw.__name__}: { {k: np.round(v, 3).tolist() for k, v in numbers.items() if len(v) < 20} }\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
