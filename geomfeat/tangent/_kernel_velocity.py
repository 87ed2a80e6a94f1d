"""How fast a kernel turns over the checkpoints of a training run."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import kernel_angle, kernel_distance
from geomfeat.geometry.similarity._cka import as_gram
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.types import Estimate, Kernel

PER = ("step", "log")


@dataclass(frozen=True, eq=False)
class KernelVelocity(PlottableResult):
    """Velocities of a kernel, one for each interval between successive checkpoints.

    Attributes:
        at: Middle of each interval: the mean of its ends; the geometric mean per log time.
        velocity: `kernel_distance` of the ends by the length of the interval.
        angular_velocity: `kernel_angle` of the ends by the same length, in radians per unit of time.
        per: "step" or "log".

    `to_frame()`: one row for each interval: at, velocity, velocity_se, angular_velocity, angular_velocity_se, per.
    """

    at: tuple[float, ...]
    velocity: tuple[Estimate, ...]
    angular_velocity: tuple[Estimate, ...]
    per: str

    def _columns(self) -> dict[str, Any]:
        found: dict[str, Any] = {"at": list(self.at)}
        for name in ("velocity", "angular_velocity"):
            found[name] = [e.value for e in getattr(self, name)]
            found[f"{name}_se"] = [math.nan if e.stderr is None else e.stderr for e in getattr(self, name)]
        return {**found, "per": self.per}

    def _chart(self) -> Plot:
        table = self._columns()
        speed, error = table["angular_velocity"], table["angular_velocity_se"]
        unit = "step" if self.per == "step" else "log step"
        return line_chart("velocity of the kernel", "step", f"radians per {unit}", self.at, speed, error)


def kernel_velocity(kernels: Sequence[Kernel | Tensor], at: Any, *, per: str = "step") -> KernelVelocity:
    """Distance of successive kernels per step, or per unit of natural log time (Fort et al. 2020, eq. 3).

    Args:
        kernels: Of the same samples, at two or more checkpoints.
        at: (checkpoints,) increasing times >= 0: steps or epochs.
        per: "step" divides by the difference of times, "log" by that of their logarithms.

    The distance is quadratic in a small movement, so `velocity` shrinks with the interval: compare it only between
    intervals of one length. `angular_velocity` has a limit for short intervals. An interval that starts at time 0 has
    no log time, and one with a zero kernel no direction: those estimates are failed and say so.

    >>> import torch
    >>> kernels = [torch.diag(torch.tensor([math.cos(a), math.sin(a)])) for a in (0.0, 0.2, 0.6)]
    >>> [round(speed.value, 6) for speed in kernel_velocity(kernels, [0, 10, 20]).angular_velocity]
    [0.02, 0.04]
    """
    if per not in PER:
        raise BadInput(f"per must be one of {PER}, got {per!r}")
    times = increasing_times(at)
    if len(kernels) != len(times):
        raise BadInput(f"{len(kernels)} kernels, but {len(times)} times in at: give one for each")
    middles, distances, angles = [], [], []
    for (start, end), (old, new) in zip(itertools.pairwise(times), itertools.pairwise(kernels), strict=True):
        middles.append((start + end) / 2 if per == "step" else math.sqrt(start * end))
        pair = _speeds(new, old, start, end, per)
        distances.append(pair[0])
        angles.append(pair[1])
    return KernelVelocity(tuple(middles), tuple(distances), tuple(angles), per)


def increasing_times(at: Any) -> list[float]:
    """The times of checkpoints; BadInput unless there are two or more, increasing, and none is negative."""
    times = require_finite(as_tensor(at, "at", WORKING), "at")
    if times.ndim != 1 or len(times) < 2:
        raise BadInput(f"at must be the times of two or more checkpoints, got shape {tuple(times.shape)}")
    if times[0] < 0 or bool((times.diff() <= 0).any()):
        raise BadInput(f"at must be increasing times >= 0, got {times.tolist()[:20]}: sort the checkpoints")
    return times.tolist()


def _speeds(
    new: Kernel | Tensor, old: Kernel | Tensor, start: float, end: float, per: str
) -> tuple[Estimate, Estimate]:
    """Velocity and angular velocity over one interval."""
    if per == "log" and start == 0:
        failed = Estimate.failed("time 0 has no logarithm: start from a later checkpoint, or use per='step'")
        return failed, failed
    if not (as_gram(new).norm() > 0 and as_gram(old).norm() > 0):
        failed = Estimate.failed("a kernel is zero everywhere, so it has no direction: leave this checkpoint out")
        return failed, failed
    length = end - start if per == "step" else math.log(end / start)
    return _by(kernel_distance(new, old), length), _by(kernel_angle(new, old), length)


def _by(estimate: Estimate, length: float) -> Estimate:
    stderr = None if estimate.stderr is None else estimate.stderr / length
    return replace(estimate, value=estimate.value / length, stderr=stderr)
