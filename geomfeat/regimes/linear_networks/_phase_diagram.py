"""The phase diagram of two-layer linear networks: initial variance and width, in powers of the dimension d.

Every cell is one network, trained by gradient descent in d x d (see `mixed_descent`), all cells
side by side. A cell's regime says how many modes of the target lie above its threshold sigma^2 w: none is lazy, all is
active, some is mixed; a width below d is under-parameterized. Modes of size d turn active below the line
log_d sigma^2 + log_d w = 1. Tu, Aranguri and Jacot 2024, section 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Heat
from geomfeat.display import PlottableResult, pair_columns
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite, stream
from geomfeat.regimes.linear_networks.mixed_descent import Products, random_products, smallest_weights, weight_step
from geomfeat.regimes.linear_networks.mixed_dynamics import n_active

REGIMES = ("active", "mixed", "lazy", "under-parameterized")
# Learning rate times a bound on the curvature that a cell can meet; up to 2 is stable.
RATE = 0.2


@dataclass(frozen=True, eq=False)
class PhaseDiagram(PlottableResult):
    """One row per variance, one column per width; the moment of each cell is that of its smallest error.

    Attributes:
        log_variance: (v,) log_d sigma^2.
        log_width: (w,) log_d of the width, as rounded to whole units.
        widths: (w,) hidden units.
        threshold: (v, w) sigma^2 w.
        regime: (v, w) index into `REGIMES`, from the target's singular values.
        n_active: (v, w) modes of the trained map above the threshold.
        error: (v, w) smallest |A(t) - signal|^2 / |signal|^2 of the run; NaN where the run diverged.
        stable_rank: (v, w) |A|_F^2 / |A|_2^2 at that moment.
        steps: (v, w) gradient-descent steps up to that moment; `max_steps` where the error was still falling.

    `to_frame()`: one row for each variance and width: log_variance, log_width, then the numbers of the cell.
    """

    log_variance: Tensor
    log_width: Tensor
    widths: Tensor
    threshold: Tensor
    regime: Tensor
    n_active: Tensor
    error: Tensor
    stable_rank: Tensor
    steps: Tensor

    def _columns(self) -> dict[str, Any]:
        cells = ("threshold", "regime", "n_active", "error", "stable_rank", "steps")
        matrices = {name: getattr(self, name) for name in cells}
        table = pair_columns(self.log_variance.tolist(), self.log_width.tolist(), **matrices)
        return {"log_variance": table.pop("row"), "log_width": table.pop("column"), **table}

    def _chart(self) -> Heat:
        x, y = self.log_width.tolist(), self.log_variance.tolist()
        return Heat("smallest error", "log width", "log variance", x, y, self.error.tolist(), "relative error")

    def __str__(self) -> str:
        return f"PhaseDiagram: {len(self.log_variance)} variances x {len(self.log_width)} widths"


def noisy_low_rank(dimension: int, rank: int, noise: float = 1.0, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A task for the phase diagram: a signal of `rank` modes of size d, and what is observed of it under noise.

    Args:
        dimension: d, of inputs and outputs.
        rank: number of modes of the signal, all of singular value d, at most d.
        noise: standard deviation of every entry of the noise, whose modes reach up to 2 sqrt(d) times it.

    Returns:
        (d, d) signal and (d, d) signal + noise.

    >>> signal, observed = noisy_low_rank(20, 2, noise=0.1)
    >>> [round(float(v)) for v in torch.linalg.svdvals(observed)[:3]]
    [20, 20, 1]
    """
    if not 1 <= rank <= dimension or not noise >= 0:
        raise BadInput(f"rank={rank} must be from 1 to dimension={dimension}, and noise={noise} at least 0")
    g = stream(seed, "noisy low rank", dimension, rank)
    u, v, e = (torch.randn(dimension, dimension, generator=g, dtype=WORKING) for _ in range(3))
    signal = dimension * torch.linalg.qr(u).Q[:, :rank] @ torch.linalg.qr(v).Q[:, :rank].mT
    return signal, signal + noise * e


def phase_diagram(
    target: Float[Tensor, "d d"],
    log_variance: Sequence[float],
    log_width: Sequence[float],
    *,
    signal: Float[Tensor, "d d"] | None = None,
    max_steps: int = 400,
    seed: int = 0,
) -> PhaseDiagram:
    """Train a network in every cell of (initial variance, width) and say how lazy or active it is.

    Args:
        target: (d, d) what the networks are trained on; d at least 2.
        log_variance: log_d sigma^2 of the initial weights, one or more.
        log_width: log_d of the width, one or more; widths are rounded to whole units.
        signal: (d, d) what errors are against, e.g. the target without its noise; the target itself when not given.
        max_steps: gradient-descent steps of every cell, each at a tenth of its stable learning rate or below.

    Raises BadInput for a target that is not square, a signal of zero or of another size, and NaN.

    A 30 x 30 grid at d = 30 takes about a minute on one core, whatever the widths.

    >>> signal, observed = noisy_low_rank(10, 2, noise=0.1)
    >>> found = phase_diagram(observed, [-4.0, 0.0], [2.0], signal=signal, max_steps=200)
    >>> [REGIMES[i] for i in found.regime[:, 0]]
    ['active', 'lazy']
    """
    y = require_finite(as_tensor(target, "target", WORKING), "target")
    truth = y if signal is None else require_finite(as_tensor(signal, "signal", WORKING), "signal").to(y.device)
    if y.ndim != 2 or y.shape[0] != y.shape[1] or truth.shape != y.shape or not bool(truth.any()):
        raise BadInput(
            f"target is {tuple(y.shape)} and signal {tuple(truth.shape)}: give two square matrices of one size, "
            "of which the signal is not zero"
        )
    if not all(math.isfinite(power) for power in (*log_variance, *log_width)):
        raise BadInput(f"log_variance={list(log_variance)} and log_width={list(log_width)} must be finite")
    d = len(y)
    if d < 2 or not len(log_variance) or not len(log_width) or max_steps < 1:
        raise BadInput(
            f"target has {d} rows, log_variance {len(log_variance)} values, log_width {len(log_width)}, "
            f"max_steps={max_steps}: give at least 2 rows, 1 value, 1 value and 1 step"
        )
    widths = [max(1, round(d**power)) for power in log_width]
    cells = [(power, width) for power in log_variance for width in widths]
    grid = (len(log_variance), len(widths))
    # sigma^2 w, with sigma^2 = d^power: modes above it are rich, those below lazy (Tu, Aranguri and Jacot 2024).
    threshold = torch.tensor([d**power * width for power, width in cells], dtype=WORKING)
    error, steps, best = _train(_starts(cells, d, y.device, seed), y, truth, max_steps)
    top = torch.linalg.matrix_norm(best, 2).clamp_min(torch.finfo(WORKING).tiny)
    above = (torch.linalg.svdvals(y).cpu() > threshold[:, None]).sum(-1)
    regime = torch.where(above == d, 0, torch.where(above > 0, 1, 2))
    regime[torch.tensor([width < d for _, width in cells])] = 3
    return PhaseDiagram(
        log_variance=torch.tensor(log_variance, dtype=WORKING),
        log_width=torch.tensor(widths, dtype=WORKING).log() / torch.tensor(d, dtype=WORKING).log(),
        widths=torch.tensor(widths),
        threshold=threshold.reshape(grid),
        regime=regime.reshape(grid),
        n_active=n_active(best, threshold).cpu().reshape(grid),
        error=error.cpu().reshape(grid),
        stable_rank=(best.square().sum((-2, -1)) / top.square()).cpu().reshape(grid),
        steps=steps.cpu().reshape(grid),
    )


def _starts(cells: list[tuple[float, int]], d: int, device: torch.device, seed: int) -> Products:
    """The initial products of all cells. Cells of one width share their weights up to the scale."""
    unit = {width: random_products(d, d, width, 1.0, seed=seed) for _, width in cells}
    scale = torch.tensor([d**power for power, _ in cells], dtype=WORKING)[:, None, None]
    parts = ("map", "first", "second")
    return Products(*((scale * torch.stack([getattr(unit[w], k) for _, w in cells])).to(device) for k in parts))


def _train(start: Products, y: Tensor, truth: Tensor, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest error of every cell, the step at which it was met, and the map there."""
    # The curvature is at most |M1|_2 + |M2|_2; the factors grow by no more than the target's largest mode each.
    largest = sum(torch.linalg.matrix_norm(m, 2) for m in (start.first, start.second))
    rate = (RATE / (largest + 2 * torch.linalg.matrix_norm(y, 2)))[:, None, None]
    size = truth.square().sum()
    (w1, w2), kept = smallest_weights(start), start.map
    error = (kept - truth).square().sum((-2, -1)) / size
    steps = torch.zeros_like(error, dtype=torch.long)
    for step in range(1, max_steps + 1):
        w1, w2 = weight_step(w1, w2, y, rate)
        now = w2 @ w1
        found = (now - truth).square().sum((-2, -1)) / size
        better = ~(found >= error)  # true for NaN too, so a diverged run stays NaN
        kept = torch.where(better[:, None, None], now, kept)
        error, steps = torch.where(better, found, error), torch.where(better, step, steps)
    return error, steps, torch.nan_to_num(kept, posinf=0.0, neginf=0.0)
