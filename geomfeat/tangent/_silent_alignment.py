"""Whether a kernel aligns with the targets before the loss falls."""

import math
from dataclasses import dataclass
from typing import Any

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.tangent._kernel_velocity import increasing_times

ALIGNED = 0.9
FALLEN = 0.5


@dataclass(frozen=True)
class SilentAlignment(BaseResult):
    """When a kernel aligned and when the loss fell, in the units of `at`.

    Attributes:
        alignment_time: When alignment first reached 90 % of its final value.
        loss_time: When the loss first reached half of its initial value.
        lag: alignment_time - loss_time: NEGATIVE where alignment came first, silently.
        log_ratio: ln(alignment_time / loss_time), the same sign without units.
        note: Why a number is NaN, or "".
    """

    alignment_time: float
    loss_time: float
    lag: float
    log_ratio: float
    note: str = ""


def silent_alignment_lag(at: Any, alignment: Any, loss: Any) -> SilentAlignment:
    """Time of 90 % of the final alignment against the time of half the initial loss (effect: Atanasov et al. 2022).

    Args:
        at: (checkpoints,) increasing times >= 0.
        alignment: (checkpoints,) alignment of the kernel with the targets (see `target_alignment`), or with its own
            final form.
        loss: (checkpoints,) training loss.

    Times are of the first crossing, interpolated linearly between checkpoints, so they are no finer than these. NaN
    with a note where a level is not reached, or was from the start (nothing to time).

    >>> silent_alignment_lag([0, 10, 20, 30], [0.0, 0.9, 0.9, 0.9], [1.0, 1.0, 0.8, 0.3])
    SilentAlignment(alignment_time=9.0, loss_time=26.0, lag=-17.0, log_ratio=-1.0608719606852628, note='')
    """
    times = increasing_times(at)
    aligned, losses = _series(alignment, "alignment", len(times)), _series(loss, "loss", len(times))
    notes = []
    alignment_time = math.nan
    if not aligned[-1] > 0:
        notes.append("the final alignment is not positive: train longer, or check the targets")
    elif aligned[0] >= ALIGNED * aligned[-1]:
        notes.append("the alignment is at 90 % of its final value from the start: begin at an earlier checkpoint")
    else:
        alignment_time = _first_crossing(times, aligned, ALIGNED * aligned[-1])
    loss_time = math.nan
    if not losses[0] > 0 or min(losses) > FALLEN * losses[0]:
        notes.append("the loss never halves: train longer, or subtract the least loss that can be reached")
    else:
        loss_time = _first_crossing(times, [-value for value in losses], -FALLEN * losses[0])
    return SilentAlignment(
        alignment_time,
        loss_time,
        alignment_time - loss_time,
        math.log(alignment_time / loss_time),
        "; ".join(notes),
    )


def _series(values: Any, name: str, n: int) -> list[float]:
    series = require_finite(as_tensor(values, name, WORKING), name)
    if series.shape != (n,):
        raise BadInput(
            f"{name} has shape {tuple(series.shape)}, but at names {n} checkpoints: give one number for each"
        )
    return series.tolist()


def _first_crossing(times: list[float], values: list[float], level: float) -> float:
    """When `values`, below `level` at first, first reach it."""
    k = next(i for i, value in enumerate(values) if value >= level)
    share = (level - values[k - 1]) / (values[k] - values[k - 1])
    return times[k - 1] + share * (times[k] - times[k - 1])
