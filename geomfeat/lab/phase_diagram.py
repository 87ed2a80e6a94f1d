"""The phase diagram of two-layer linear networks over initial variance and width."""

from __future__ import annotations

import pandas as pd
import torch

from geomfeat.charts import Curve, Heat
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.numerics import Device
from geomfeat.regimes.linear_networks import PhaseDiagram, noisy_low_rank, phase_diagram
from geomfeat.regimes.linear_networks._phase_diagram import REGIMES

DIMENSION, RANK, NOISE = 12, 2, 0.4
VARIANCE, WIDTH = (-5.0, 1.0), (0.25, 4.0)  # powers of the dimension


@experiment(
    name="phase-diagram",
    title="Active, mixed, lazy: initial variance against width",
    question="Where do initial variance and width make a linear network lazy, active or both, and which learns best?",
    theory="A mode of strength s is active where s > σ²w. Modes of size d turn active below the line "
    "log_d σ² + log_d w = 1; narrower than d the network is under-parameterized.",
    source="Tu, Aranguri and Jacot 2024, section 3",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    cells, steps = (30, 300) if size == "full" else (9, 100)
    signal, observed = (part.to(device) for part in noisy_low_rank(DIMENSION, RANK, NOISE, seed=seed))
    variance, width = (torch.linspace(*ends, cells).tolist() for ends in (VARIANCE, WIDTH))
    found = phase_diagram(observed, variance, width, signal=signal, max_steps=steps, seed=seed)
    wide = found.regime != REGIMES.index("under-parameterized")
    below = (found.log_variance[:, None] + found.log_width[None] < 1) & wide
    above = (found.log_variance[:, None] + found.log_width[None] > 1) & wide
    lazy = found.regime == REGIMES.index("lazy")
    rest = wide & ~lazy
    share = lambda cells: float(cells.double().mean())  # noqa: E731
    ratio = float(found.error[lazy].median() / found.error[rest].median())
    checks = [
        Check("cells above the line without an active mode", share(found.n_active[above] == 0), 1.0, 0.02, "share"),
        Check("cells below the line with active modes", share(found.n_active[below] > 0), 1.0, 0.02, "share"),
    ]
    answer = (
        f"Of {cells * cells} networks {int(lazy.sum())} are lazy, {int((found.regime == 1).sum())} mixed and "
        f"{int((found.regime == 0).sum())} active. A signal of {RANK} modes under noise is recovered {ratio:.1f} times "
        "better (median smallest error) by active and mixed networks: their strong modes run ahead of the noise."
    )
    table = pd.DataFrame(
        {"log_d variance": v, "width": int(found.widths[j]), "regime": REGIMES[int(found.regime[i, j])],
         "active modes": int(found.n_active[i, j]), "smallest error": float(found.error[i, j])}
        for i, v in enumerate(variance) for j in range(cells)
    )  # fmt: skip
    settings = {"dimension": DIMENSION, "modes": RANK, "noise": NOISE, "steps": steps, "seed": seed}
    return Findings(answer, _maps(found), checks, table, settings)


def _maps(found: PhaseDiagram) -> list[Heat]:
    x, y = found.log_width.tolist(), found.log_variance.tolist()
    line = [Curve("log_d σ² + log_d w = 1", [1.0, 4.0], [0.0, -3.0], kind="theory")]
    axes = ("log_d width", "log_d initial variance")
    return [
        Heat("Regime", *axes, x, y, found.regime.tolist(), "regime", line, categories=REGIMES),
        Heat("Active modes of the trained map", *axes, x, y, found.n_active.tolist(), "modes", line),
        Heat("Smallest error on the signal", *axes, x, y, found.error.log10().tolist(), "log10 of the error", line),
    ]
