"""The located quantities from one set of initial weights: the true ones, or a fresh draw in their place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations import module_name
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.location.all_outputs import through_all_outputs
from geomfeat.location.demand import SHARES, Demand, LinearisedTask, linearised_task, solve
from geomfeat.location.kernel_place import KernelPlace, kernel_place, rough_place
from geomfeat.location.movement import movement, outputs_and_features
from geomfeat.location.padding import Padding, padding_of
from geomfeat.location.regimes import LAZY_BELOW
from geomfeat.models.reinitialize import (
    Factory,
    batchnorm_modules,
    fresh,
    keeping,
    never_estimated,
    resetting,
    with_batchnorm_statistics,
)
from geomfeat.models.trained_parameters import STEPS, coarsest, with_iterations_of
from geomfeat.network import Network
from geomfeat.numerics import stream
from geomfeat.precision import roundings
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.tangent.tangent_space import TangentSpace

# Default number of probes: as many as give this many output rows n * C (the size of the kernel), between these limits.
ROWS, MOST, FEWEST = 1280, 256, 32
# Fewer of them where the Jacobian of all outputs has more entries n C p than this: a location of a language model of a
# hundred million parameters through all words takes minutes on one core with either number.
ENTRIES, HEAVIEST = 3e13, 16


@dataclass(frozen=True, eq=False)
class Observed:
    """The trained network on the probes: what every start is compared with.

    Attributes:
        network: the trained network, with the probes as its inputs and the hidden layers that can be measured.
        labels: of the n probes, or None. outputs: (n, C). features: layer -> (n, d).
        rows: which of the given inputs the probes are. padding: positions that are no features, or None.
        unread: layers that were not asked for by name and whose output has no finite numbers, a row for each sample.
    """

    network: Network
    labels: Tensor | None
    outputs: Tensor
    features: dict[str, Tensor]
    rows: Tensor
    padding: Padding | None = None
    unread: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the hidden layers."""
        return self.network.layers.names


@dataclass(frozen=True, eq=False)
class Start:
    """One set of initial weights: its model, linear response to the change that training made, and movement.

    Attributes:
        space: the parameters that were free to move, `task` among them; the space of every parameter where none of the
            hidden layers moved (`all_frozen`), since the others move no feature.
        metric: what the coordinates rest on, see `Metric`. kernel: the place by the tangent kernel, or None.
        left_out: layers that are zero at the start, so that nothing is relative to their size.
    """

    model: nn.Module
    task: LinearisedTask
    demand: Demand
    movement: dict[str, float]
    outputs: Tensor
    features: dict[str, Tensor]
    batchnorm_estimated: bool
    space: TangentSpace
    metric: str
    kernel: KernelPlace | None
    left_out: tuple[str, ...] = ()
    all_frozen: bool = False

    @property
    def outputs_error(self) -> float:
        """Decades by which R may be off since its search over all outputs ended; 0 where it is exact.

        The next correction's length, relative to Dtheta, is about that (measured: the error is .3 to 1 of it).
        """
        return 0.0 if self.task.search is None else max(r.residual for r in self.demand.responses)


def observe(
    network: Network, labels: Any, *, n_probes: int | None = None, seed: int = 0, varied: bool = True
) -> Observed:
    """The network on a seeded choice of its inputs.

    Args:
        varied: whether its outputs must differ between inputs, as they do after training.

    Raises BadInput for no hidden layer, unfit labels, or outputs that do not differ.
    """
    n = network.n
    if n < 4:
        raise BadInput(f"inputs hold {n} samples: a location needs at least 4 probes, better 50")
    if labels is not None:
        labels = as_goal(labels, "labels")
        if labels.shape[0] != n:
            raise BadInput(f"labels has {labels.shape[0]} entries, but inputs hold {n} samples")
    f, chosen = network.f, network.layers
    n_probes = _usual_number(network) if n_probes is None else n_probes
    if not 4 <= n_probes <= n:
        raise BadInput(f"n_probes={n_probes} must lie between 4 and the number of inputs, {n}")
    rows = torch.randperm(n, generator=stream(seed, "locate", "probes"))[:n_probes].sort().values
    network = network.take(rows)
    outputs, features = outputs_and_features(f, network.inputs, chosen.names, needed=chosen.must)
    seen = {*features, *map(module_name, features)}
    unread = tuple(name for name in chosen.names if name not in seen)
    features = {name: h for name, h in features.items() if chosen.must(name) or not torch.equal(h, outputs)}
    names = tuple(name for name in chosen.names if name in features or name in map(module_name, features))
    if not names:
        raise BadInput(f"layers={list(chosen.names)} are the network's output only: name hidden layers")
    if labels is not None:
        _require_fitting(labels, outputs.shape[1])
        labels = as_classes(labels, outputs.shape[1])[rows]
    padding = padding_of(f, network.inputs, names)
    distinct = len(torch.unique(outputs, dim=0))
    if varied and distinct < 4:
        raise BadInput(
            f"the model gives only {distinct} different outputs on {n_probes} probes: give inputs that differ"
        )
    return Observed(
        network.on_layers(replace(chosen, names=names)),
        labels,
        outputs,
        _cleared(features, padding),
        rows,
        padding,
        unread,
    )


def _usual_number(network: Network) -> int:
    """Of probes, where nobody asked for one."""
    f = network.f
    with torch.no_grad():
        c = f(f.theta, f.inputs(network.take(slice(0, 2)).inputs)).shape[1]
    usual = max(FEWEST, ROWS // c)
    return min(network.n, MOST, usual if usual * c * f.n_parameters <= ENTRIES else HEAVIEST)


def _require_fitting(labels: Tensor, n_outputs: int) -> None:
    """BadInput for rows of labels that are neither classes nor values of the outputs."""
    width = labels[0].numel()
    if labels.ndim > 1 and width not in (1, n_outputs):
        raise BadInput(
            f"labels has shape {tuple(labels.shape)}, but the model has {n_outputs} outputs: give one class per "
            "sample, (n,), or a target value for every output"
        )


def _cleared(features: dict[str, Tensor], padding: Padding | None) -> dict[str, Tensor]:
    return features if padding is None else {name: padding.cleared(name, h) for name, h in features.items()}


def initial_models(
    trained: nn.Module,
    initial: nn.Module | None,
    factory: Factory | None,
    count: int,
    seed: int,
    space: TangentSpace | None = None,
) -> Iterator[nn.Module]:
    """The given initial model, or `count` fresh ones. BadInput when the factory gives the same weights twice.

    Parameters outside of `space`, if it is given, did not move: fresh models have those of the trained one.
    """
    if initial is not None:
        yield initial
        return
    kept = frozenset[str]() if space is None else space.others
    make = keeping(resetting(trained, kept) if factory is None else factory, trained, kept)
    first: nn.Module | None = None
    for number in range(count):
        model = fresh(make, seed, number)
        if first is not None and all(
            torch.equal(a, b) for a, b in zip(first.parameters(), model.parameters(), strict=True)
        ):
            raise BadInput(
                "factory= returns the same weights on every call: it must draw fresh ones (without a fixed seed or "
                "pretrained weights), else give the initial weights as initial="
            )
        first = first or model
        yield model


def start_from(
    model: nn.Module,
    observed: Observed,
    *,
    shares: Sequence[float] = SHARES,
    method: str = "auto",
    projections: int | None = None,
    all_outputs: bool = False,
    seed: int = 0,
    known: bool = True,
    with_kernel: bool = True,
    near: KernelPlace | None = None,
) -> Start:
    """Demand and movement from one set of initial weights, in the parameters that were free to move.

    Args:
        projections: see `linearised_task`; with `all_outputs` for resamples only, where that can be.
        known: whether these are the weights that training began from.
        with_kernel: whether the tangent kernel's place is wanted, which takes some kernels; `near` that of another
            start, a kernel or two.

    Raises BadInput when the trained outputs are the initial ones.
    """
    end = observed.network
    estimated = bool(batchnorm_modules(model)) and never_estimated(model) and not never_estimated(end.model)
    if estimated:
        model = with_batchnorm_statistics(model, end.inputs)
    model = with_iterations_of(model, end.model)
    start = end.at(model)
    outputs, features = outputs_and_features(start.f, start.inputs, observed.layers)
    recorded = {name: h for name, h in features.items() if name in observed.features}
    change = _change(outputs, recorded, observed, start.dtype)
    features, left_out = with_size(_cleared(recorded, observed.padding), observed)
    layers = observed.layers if not left_out else tuple(features)
    moved = movement(features, observed.features)

    def demanded(network: Network) -> tuple[LinearisedTask, Demand]:
        task = linearised_task(
            network.f, network.inputs, change, layers,
            shares=shares, method=method, projections=projections, seed=seed,
        )  # fmt: skip
        known = {name: recorded[name] for name in layers} if task.rows is not None and {*features} == {*layers} else {}
        task = replace(task, padding=observed.padding, features=known)
        if all_outputs:
            task = through_all_outputs(task, network.f, change) or task
        return task, solve(task)

    start = start.in_own_metric(change)
    task, demand = demanded(start)
    source = start.metric.source
    place = None
    if with_kernel and near is None:
        place = kernel_place(start, end, task, change, known, seed)
    elif with_kernel and near is not None:
        place = rough_place(start, task, change.shape[1], near, seed)
    if len(_still(moved)) < len(moved):
        moved = _without_rounding(moved, demand, coarsest(model, end.model))
    frozen = _still(moved)
    all_frozen = len(frozen) == len(moved)
    if all_frozen:
        # The trained parameters act after every hidden layer. R is then the demand with all parameters free to move.
        start = start.within(start.space.widened())
        task, demand = demanded(start)
        # The responses to resampled probes are then of other parameters than the kernel.
        place = None if place is None else replace(place, of_resample={})
    frozen = frozenset() if all_frozen else frozen
    task, demand = replace(task, frozen=frozen), replace(demand, frozen=frozen)
    return Start(
        model, task, demand, moved, outputs, features, estimated, start.space, source, place, left_out, all_frozen
    )


def _change(outputs: Tensor, features: dict[str, Tensor], observed: Observed, dtype: torch.dtype) -> Tensor:
    """(n, C) change of the outputs; BadInput where there is none, or another architecture."""
    if outputs.shape != observed.outputs.shape or features.keys() != observed.features.keys():
        raise BadInput(
            f"initial and trained model differ in architecture: outputs {tuple(outputs.shape)} and "
            f"{tuple(observed.outputs.shape)}, layers {list(features)[:5]} and {list(observed.features)[:5]}"
        )
    change = observed.outputs - outputs
    # Outputs of equal weights can differ by rounding: a smaller change is no change of the function.
    if not float(change.norm()) > roundings(dtype)[0] * float(outputs.norm()):
        raise BadInput(
            "trained and initial model give the same outputs on the probes: nothing was learned, so there is nothing "
            "to locate (was the same file given twice?)"
        )
    return change


def _still(moved: dict[str, float]) -> frozenset[str]:
    return frozenset(name for name, m in moved.items() if m == -math.inf)


def _without_rounding(moved: dict[str, float], demand: Demand, coarser: torch.dtype) -> dict[str, float]:
    """M, -inf too for layers that differ by the rounding of weights only.

    These are layers that no moved parameter acts on; and those of which more was asked while they moved by less than
    full precision (float32 or float64) rounds. A layer that moved as little as its demand did move.
    """
    finfo = torch.finfo(coarser)
    least = math.log10(finfo.eps * (STEPS if finfo.bits >= 32 else 1))
    full = min(least, math.log10(STEPS * torch.finfo(torch.float32).eps))

    def rounded_off(name: str, m: float) -> bool:
        asked = demand.layers[name]
        return m < least if asked == -math.inf else m < full and asked >= LAZY_BELOW

    return {name: -math.inf if rounded_off(name, m) else m for name, m in moved.items()}


def with_size(features: dict[str, Tensor], observed: Observed) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The layers that are not zero on every probe at the start, and the names of those that are.

    A branch that starts at zero (the second factor of a low-rank adapter) has no size that a movement is relative to.
    Raises BadInput for such a layer that was asked for by name, or where no other is left.
    """
    empty = tuple(name for name, h in features.items() if not h.any())
    needed = [name for name in empty if observed.network.layers.must(name)]
    if needed or len(empty) == len(features):
        raise BadInput(
            f"layer {(needed or empty)[0]!r} is zero on every probe at the start, so no movement is relative to its "
            "size: leave it out of layers="
        )
    return {name: h for name, h in features.items() if name not in empty}, empty
