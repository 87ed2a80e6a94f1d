"""A training run seen over time: losses, accuracies and how the tangent kernel turned, at every recorded step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import target_alignment
from geomfeat.geometry.similarity._hsic import GRAM_UNITS
from geomfeat.geometry.similarity.kernel_change import angle_of_units, distance_of_units, unit_kernel
from geomfeat.labels import Labels, goal_of
from geomfeat.models.functional import Readout
from geomfeat.models.nested_inputs import as_inputs, batches, n_samples, take
from geomfeat.models.one_network import in_one_form
from geomfeat.models.trained_parameters import functional_in, moved_parameters
from geomfeat.numerics import double_centred
from geomfeat.precision import precision_of
from geomfeat.regimes.training.class_targets import (
    Levels,
    as_row,
    as_values,
    numbered,
    share_right,
    threshold_of,
    two_levels,
    unnumbered,
)
from geomfeat.regimes.training.objective import Loss, loss_of, prepared_targets
from geomfeat.statistics.group_errors import values_alone
from geomfeat.tangent import ntk
from geomfeat.types import Snapshot

BATCH = 512  # samples of one forward pass
FEWEST_PROBES = 4  # a centred kernel of two inputs has no direction to turn to, and alignment needs four


@dataclass(frozen=True, eq=False)
class KernelPath:
    """How a kernel moved from one recorded step to the next; NaN where a kernel was not finite, zero or constant.

    Attributes:
        distance: `kernel_distance` from the first kernel.
        turn: angle in radians between the double-centred kernel and the first one, in [0, pi / 2].
        arc: the same angle from the kernel before; 0 for the first.
        alignment: `target_alignment` (unbiased) of the kernel with the targets; NaN too where that is undefined.
    """

    distance: tuple[float, ...]
    turn: tuple[float, ...]
    arc: tuple[float, ...]
    alignment: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("distance", "turn", "arc", "alignment"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))


@dataclass(frozen=True, eq=False)
class TrainingSeries(PlottableResult):
    """What happened at every recorded step; tuples of one length, None where there were no test data or classes.

    Attributes:
        steps: increasing, >= 0. train_loss, test_loss: not negative. train_accuracy, test_accuracy: in [0, 1].
        kernel: the movement of the tangent kernel on training inputs.

    Raises BadInput for lengths that differ or steps that do not increase. NaN is allowed: a run may have diverged.

    >>> path = KernelPath((0.0, 0.1), (0.0, 0.5), (0.0, 0.5), (0.1, 0.4))
    >>> TrainingSeries((0, 10), (1.0, 0.1), path).test_loss is None
    True

    `to_frame()`: one row for each step: steps, the losses and accuracies that are known, and distance, turn, arc,
    alignment of the kernel.
    """

    steps: tuple[float, ...]
    train_loss: tuple[float, ...]
    kernel: KernelPath
    test_loss: tuple[float, ...] | None = None
    train_accuracy: tuple[float, ...] | None = None
    test_accuracy: tuple[float, ...] | None = None

    _rows = ("steps", "train_loss", "test_loss", "train_accuracy", "test_accuracy")

    def __post_init__(self) -> None:
        n = len(self.steps)
        if n < 2 or any(not b > a for a, b in pairwise(self.steps)) or self.steps[0] < 0:
            raise BadInput(f"steps={self.steps[:20]} must be two or more increasing numbers >= 0: sort the snapshots")
        k = self.kernel
        for name, values in (
            ("train_loss", self.train_loss), ("test_loss", self.test_loss), ("train_accuracy", self.train_accuracy),
            ("test_accuracy", self.test_accuracy), ("kernel.distance", k.distance), ("kernel.turn", k.turn),
            ("kernel.arc", k.arc), ("kernel.alignment", k.alignment),
        ):  # fmt: skip
            if values is not None and len(values) != n:
                raise BadInput(f"{name} has {len(values)} numbers, but there are {n} steps: give one for each")
            if values is not None and "." not in name:
                object.__setattr__(self, name, tuple(map(float, values)))
        object.__setattr__(self, "steps", tuple(map(float, self.steps)))

    def _columns(self) -> dict[str, Any]:
        known = {name: values for name in self._rows if (values := getattr(self, name)) is not None}
        return {**known, **vars(self.kernel)}

    def _chart(self) -> Plot:
        losses = {"train loss": self.train_loss, "test loss": self.test_loss}
        curves = [Curve(name, self.steps, values) for name, values in losses.items() if values is not None]
        return Plot("training", "step", "relative loss", curves, log_y=True)

    def __str__(self) -> str:
        steps = f"{len(self.steps)} steps from {self.steps[0]:g} to {self.steps[-1]:g}"
        return f"TrainingSeries: {steps}; train loss {self.train_loss[0]:.3g} to {self.train_loss[-1]:.3g}"


def rounded_powers(base: float, parts: int, count: int) -> list[int]:
    """base^(k / parts) for k = 0, ..., count - 1 as whole numbers, each once: steps evenly spaced in their logarithm.

    >>> rounded_powers(10, 2, 5), rounded_powers(1000, 4, 4)
    ([1, 3, 10, 32, 100], [1, 6, 32, 178])
    """
    return sorted({round(base ** (k / parts)) for k in range(count)})


def log_spaced_steps(last: int, per_decade: int = 12) -> list[int]:
    """0, and whole numbers from 1 to `last`, about `per_decade` in every factor of ten.

    >>> log_spaced_steps(100, 2)
    [0, 1, 3, 10, 32, 100]
    """
    if last < 1 or per_decade < 1:
        raise BadInput(f"last={last} and per_decade={per_decade} must be at least 1")
    count = math.ceil(per_decade * math.log10(last)) if last > 1 else 0
    return sorted({0, last, *(min(last, step) for step in rounded_powers(10, per_decade, count + 1))})


def _units_of(kernel: Tensor) -> float:
    return GRAM_UNITS * torch.finfo(precision_of(kernel)).eps


def kernel_path(kernels: Iterable[Tensor], targets: Tensor) -> KernelPath:
    """The movement of a kernel (n, n) over recorded steps; `targets` as in `target_alignment`. One kernel at a time.

    >>> path = kernel_path([torch.eye(6), 2 * torch.eye(6)], torch.arange(6) % 2)
    >>> path.turn
    (0.0, 0.0)
    """
    rows: list[tuple[float, float, float, float]] = []
    first = first_centred = before = None
    for kernel in kernels:
        centered = double_centred(kernel)
        # An output that does not depend on the input leaves a kernel without geometry.
        if not bool(torch.isfinite(kernel).all()) or not centered.norm() > _units_of(kernel) * kernel.norm():
            rows.append((math.nan, math.nan, math.nan, math.nan))
            before = None
            continue
        unit, direction = unit_kernel(kernel), unit_kernel(centered)
        if first is None or first_centred is None:
            first, first_centred = unit, direction
        arc = 0.0 if not rows else math.nan if before is None else angle_of_units(direction, before)
        with values_alone():  # the errors of each are read by nobody
            alignment = _aligned(kernel, targets)
        rows.append((distance_of_units(unit, first), angle_of_units(direction, first_centred), arc, alignment))
        before = direction
    return KernelPath(*(tuple(column) for column in zip(*rows, strict=True)))


def _aligned(kernel: Tensor, targets: Tensor) -> float:
    """Alignment with the targets; NaN where either is constant over the pairs of samples, and so has no geometry."""
    try:
        return target_alignment(kernel, targets).value
    except BadInput:
        return math.nan


def training_series(
    snapshots: Iterable[Snapshot],
    inputs: Any,
    targets: Any,
    *,
    test: tuple[Any, Any] | None = None,
    loss: Loss = "mse",
    gamma: float | None = None,
    probes: int = 64,
    readout: Readout | None = None,
    device: str | None = None,
) -> TrainingSeries:
    """Losses, accuracies and the tangent kernel's movement over the snapshots of a run.

    Args:
        snapshots: of one network, `at` their steps ("init" is step 0), in order.
        inputs, targets: the training samples; (n,) integer classes or (n, C) values. test: the same of test samples.
            For one output, two values are classes, divided by the threshold half way between them; as many classes as
            outputs that are not 0..C-1 are numbered in sorted order.
        loss: as in `train_at_gamma`.
        gamma: where training was of f = (net(w) - net(w0)) / gamma, as `train_at_gamma` does; the first snapshot is w0.
        probes: the kernel, traced over outputs, is of so many training inputs, evenly spread, and of the parameters
            that moved over the run (of all where none did).
        device: of the computation; default that of each snapshot.

    From the first snapshot with outputs that are not finite on, the series is NaN. Raises BadInput for snapshots
    without a step, targets that do not fit, or fewer than four probes.
    """
    snapshots = tuple(snapshots)
    if not snapshots or any(not isinstance(s, Snapshot) for s in snapshots):
        raise BadInput("snapshots must be two or more geomfeat.Snapshot of one run, each `at` its step")
    if gamma is not None and not (gamma > 0 and math.isfinite(gamma)):
        raise BadInput(f"gamma={gamma} must be a positive number, or None where net(w) itself was trained")
    steps = tuple(_step(s) for s in snapshots)
    snapshots = _in_one_form(snapshots)
    samples = _samples(inputs, targets, test)
    data, goal = samples[0]
    if min(probes, len(goal)) < FEWEST_PROBES:
        raise BadInput(
            f"probes={probes} of {len(goal)} training inputs: the turn of a centred kernel needs {FEWEST_PROBES}"
        )
    rows = torch.arange(min(probes, len(goal))) * len(goal) // min(probes, len(goal))
    judged: list[list[tuple[float, float]]] = []
    levels: Levels | None = None
    starts: list[Tensor] = []
    for snapshot in snapshots:
        outputs = [_outputs(snapshot, x, readout, device) for x, _ in samples]
        starts = starts or outputs
        f = outputs if gamma is None else [(o - s) / gamma for o, s in zip(outputs, starts, strict=True)]
        if not judged:
            width = starts[0].shape[1] if bool(torch.isfinite(starts[0]).all()) else 0  # 0: of no known size
            goal = as_row(goal, width)
            classes, levels = unnumbered(goal, width), two_levels(goal, width)
            samples = [(x, numbered(as_row(y, width), classes)) for x, y in samples]
        judged.append([_judged(o, y, loss, levels) for o, (_, y) in zip(f, samples, strict=True)])
    good = [all(math.isfinite(value) for value, _ in row) for row in judged]
    alive = good.index(False) if False in good else len(good)
    if alive == 0:
        raise BadInput("the first snapshot's outputs are not finite: check its weights and the inputs")
    probe = take(data, rows)
    # Before the run diverged, what moved is finite.
    moved = frozenset[str]().union(*(moved_parameters(snapshots[0].model, s.model) for s in snapshots[1:alive]))
    kernels = (
        ntk(functional_in(s.model, moved or None, readout=readout, device=device), probe).gram
        if i < alive
        else torch.full((1, 1), math.nan)
        for i, s in enumerate(snapshots)
    )
    columns = [[tuple(row[side][k] for row in judged) for k in (0, 1)] for side in range(len(samples))]
    goal = samples[0][1]
    accurate = _has_classes(goal, levels)
    goal = as_values(goal, starts[0].shape[1])
    return TrainingSeries(
        steps, columns[0][0], kernel_path(kernels, goal[rows]), columns[1][0] if test is not None else None,
        columns[0][1] if accurate else None, columns[1][1] if accurate and test is not None else None,
    )  # fmt: skip


def _samples(inputs: Any, targets: Any, test: tuple[Any, Any] | None) -> list[tuple[Any, Tensor]]:
    """Inputs and as many targets, ready: of training, and of the test; classes have the same numbers in both."""
    found: list[tuple[Any, Tensor]] = []
    classes: tuple[str, ...] = ()
    for part, (x, y) in (("", (inputs, targets)), *([] if test is None else [("test ", test)])):
        data, given = as_inputs(x), goal_of(y, f"{part}targets", classes)
        classes, goal = (given.classes, given.codes) if isinstance(given, Labels) else ((), given)
        if n_samples(data) != len(goal):
            raise BadInput(f"{part}targets have {len(goal)} entries, but {part}inputs {n_samples(data)} samples")
        found.append((data, goal))
    return found


def _in_one_form(snapshots: tuple[Snapshot, ...]) -> tuple[Snapshot, ...]:
    models = in_one_form([s.model for s in snapshots])
    return tuple(replace(s, model=model) for s, model in zip(snapshots, models, strict=True))


def _step(snapshot: Snapshot) -> float:
    if snapshot.at == "init":
        return 0.0
    if isinstance(snapshot.at, str):
        raise BadInput(f"snapshot.at={snapshot.at!r} is not a time: give every snapshot its step")
    return float(snapshot.at)


def _outputs(snapshot: Snapshot, inputs: Any, readout: Readout | None, device: str | None) -> Tensor:
    """(n, C) outputs; a single NaN where the weights are not finite."""
    if not all(bool(torch.isfinite(p).all()) for p in snapshot.model.parameters()):
        return torch.full((1, 1), math.nan)
    f = functional_in(snapshot.model, readout=readout, device=device)
    with torch.no_grad():
        return torch.cat([f(f.theta, f.inputs(part)).cpu() for _, part in batches(inputs, BATCH)])


def _judged(outputs: Tensor, targets: Tensor, loss: Loss, levels: Levels | None) -> tuple[float, float]:
    """(loss, accuracy); the accuracy is NaN where the targets are no classes. levels: the two values of one output."""
    if not bool(torch.isfinite(outputs).all()):
        return math.nan, math.nan
    wanted = targets.cpu()
    values = as_values(wanted, outputs.shape[1], levels)
    ready = prepared_targets(values, loss, outputs.shape[1], outputs.dtype)
    threshold = None if levels is None else threshold_of(outputs, wanted, levels, loss)
    accuracy = share_right(outputs, wanted, levels, threshold) if _has_classes(wanted, levels) else math.nan
    return float(loss_of(outputs, ready, loss)), accuracy


def _has_classes(targets: Tensor, levels: Levels | None) -> bool:
    return (targets.ndim == 1 and not targets.is_floating_point()) or levels is not None
