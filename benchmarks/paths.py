"""Every registered measure and the main calls, as functions from where they run to their numbers.

benchmarks/gpu_check.py holds those of a device against the CPU's, benchmarks/differences.py those of other threads and
precisions. What is drawn is drawn on the CPU, in float64 or float32, and moved then.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.geometry.similarity import cka_matrix
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.stability import sharpness
from geomfeat.regimes.training import Trained
from geomfeat.registry import Measure
from geomfeat.snapshots import SnapshotPair, SnapshotSeries
from geomfeat.tangent import ntk, ntk_by_parameter_group
from geomfeat.types import Estimate, Representation, Snapshot

# Labels of these name stimuli that are repeated, not classes.
OF_STIMULI = ("participation_ratio_of_trials", "cross_validated_spectrum")
Numbers = dict[str, float]


@dataclass(frozen=True)
class Where:
    """On which device, in which precision of features and of weights, and how large.

    Attributes:
        samples, units: of a layer. inputs: of the networks. widths: of their inputs and two hidden layers.
    """

    device: str = "cpu"
    features: torch.dtype = WORKING
    weights: torch.dtype = torch.float32
    samples: int = 48
    units: int = 10
    inputs: int = 24
    widths: tuple[int, int, int] = (6, 12, 8)


def layer(where: Where, seed: int = 0) -> Representation:
    """Labelled features, drawn on the CPU in float64, with outputs."""
    noise, n, d = stream(seed, "device check"), where.samples, where.units
    labels = torch.arange(n) % 3
    draw = lambda *sizes: torch.randn(*sizes, generator=noise, dtype=WORKING)  # noqa: E731
    x = 0.3 * draw(3, d)[labels] + draw(n, d) @ draw(d, d) / d**0.5 + 0.3
    outputs = (x @ draw(d, 3) / (d / 10) ** 0.5).tanh()
    here = {"device": where.device, "dtype": where.features}
    return Representation(x.to(**here), labels.to(where.device), "fc1", outputs=outputs.to(**here))


@cache
def _trained(inputs: int, widths: tuple[int, int, int]) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A small network before and after some steps, inputs and labels: once for all places, in float32 on the CPU."""
    noise, (d, first, second) = stream(1, "device check"), widths
    x, y = torch.randn(inputs, d, generator=noise), torch.arange(inputs) % 3
    torch.manual_seed(0)
    start = nn.Sequential(nn.Linear(d, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 3))
    end = copy.deepcopy(start)
    optimizer = torch.optim.SGD(end.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(end(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return start, end, x, y


def nets(where: Where) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A small network before and after some steps, inputs, and their labels."""
    start, end, x, y = _trained(where.inputs, where.widths)
    here = {"device": where.device, "dtype": where.weights}
    return copy.deepcopy(start).to(**here), copy.deepcopy(end).to(**here), x.to(**here), y.to(where.device)


def numbers_of(result: Any) -> Numbers:
    """Every number of a measure's result by name, standard errors too."""
    if isinstance(result, Estimate):
        found = {"": result.value} | ({"stderr": result.stderr} if result.stderr is not None else {})
        return {name: float(value) for name, value in found.items()}
    return {f"{key}.{name}": value for key, part in result.items() for name, value in numbers_of(part).items()}


def flat(t: Tensor) -> Numbers:
    """The entries of a tensor."""
    return {str(i): v for i, v in enumerate(t.detach().flatten().double().cpu().tolist())}


def measured(m: Measure, where: Where) -> Numbers:
    """The numbers of one registered measure with all that it takes in one place."""
    seeded = {"seed": 3} if m.stochastic else {}
    if m.scope in ("layer", "pair"):
        rep = layer(where)
        if m.name in OF_STIMULI:
            patterns = torch.randn(16, where.units, generator=stream(8, "stimuli"), dtype=WORKING).to(rep.x)
            labels = torch.arange(where.samples, device=rep.x.device) % 16
            rep = rep.with_(x=rep.x + 2 * patterns[labels], labels=labels)
        others = [] if m.scope == "layer" else [rep.with_(x=rep.x + 0.4 * layer(where, seed=2).x)]
        return numbers_of(m(rep, *others, **seeded))
    start, end, x, y = nets(where)
    if m.scope == "network":
        pair = SnapshotPair(Snapshot(start, "init"), Snapshot(end, "trained"), x, y, ("0", "2"))
        return numbers_of(m(pair, **seeded))
    halfway = copy.deepcopy(start)
    with torch.no_grad():
        for p, q in zip(halfway.parameters(), end.parameters(), strict=True):
            p.lerp_(q, 0.5)
    steps = [Snapshot(start, 0), Snapshot(halfway, 30), Snapshot(end, 60)]
    return numbers_of(m(SnapshotSeries(steps, x, y), **seeded))


def _sharpness(where: Where) -> Numbers:
    start, end, x, y = nets(where)
    return {"top": sharpness(end, x, y, initial=start, gamma=0.1, k=1).top}


def features(where: Where, dtype: torch.dtype) -> Numbers:
    """Layers of a network in one precision, projected."""
    _, end, x, y = nets(where)
    reps = gf.extract(end.to(dtype), x.to(dtype), y, layers="leaf", project=4, progress=False)
    return {f"{name}.{i}": v for name, rep in reps.items() for i, v in flat(rep.x).items()}


def _location(where: Where) -> Numbers:
    start, end, x, y = nets(where)
    found = gf.locate(end, x, y, initial=start, options=gf.LocateOptions(n_bootstrap=3), progress=False)
    names = ("richness", "low", "high", "movement", "excess", "kernel_demand")
    return {name: float(getattr(found, name)) for name in names}


def trained(where: Where, lr: float | None = None) -> Trained:
    """A network after thirty steps, by default at a rate that follows from its curvature."""
    start, _, x, y = nets(where)
    return gf.train_at_gamma(start, x, y, gamma=1.0, max_steps=30, lr=lr)


def training(where: Where, lr: float | None = None) -> Numbers:
    """Its loss and the weights of its first layer."""
    found = trained(where, lr)
    return {"loss": found.train_loss, **flat(next(found.model.parameters()))}


def _by_layer(where: Where) -> Numbers:
    _, end, x, _ = nets(where)
    return {f"{k}{i}": v for k, g in ntk_by_parameter_group(end, x).items() for i, v in flat(g.gram).items()}


def _capacity(where: Where) -> Numbers:
    points = layer(where)
    # Errors leave out three groups.
    few = points.with_(groups=torch.arange(where.samples, device=points.x.device) * 3 // where.samples)
    found = gf.capacity(few, n_draws=8)
    return {n: float(getattr(found, n)) for n in ("capacity", "dimension", "radius", "utility", "center_alignment")}


def kernel(where: Where, **options: Any) -> Numbers:
    """The tangent kernel of a network."""
    _, end, x, _ = nets(where)
    return flat(ntk(end, x, **options).gram)


def main_calls() -> dict[str, Callable[[Where], Numbers]]:
    """What is no registered measure: kernels, extraction, the location, trainings."""
    return {
        "extract, float32, projected": lambda where: features(where, torch.float32),
        "extract, bfloat16": lambda where: features(where, torch.bfloat16),
        "ntk, trace": kernel,
        "ntk, full": lambda where: kernel(where, outputs="full"),
        "ntk, float32": lambda where: kernel(where, dtype=torch.float32),
        "ntk by layer": _by_layer,
        "cka_matrix": lambda where: flat(torch.as_tensor(cka_matrix([layer(where), layer(where, seed=2)]).values)),
        "capacity": _capacity,
        "capacity, float32": lambda where: {"capacity": gf.capacity(
            layer(replace(where, features=torch.float32)), n_draws=50, resample=None).capacity},
        "locate": _location,
        "sharpness": _sharpness,
        "train_at_gamma, float32": training,
    }  # fmt: skip


def difference(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Largest difference of two sets of numbers, relative to the number or, if larger, a thousandth of the largest."""
    if a.keys() != b.keys():
        return math.inf
    largest = max((abs(v) for v in a.values() if math.isfinite(v)), default=0.0)
    errors = [0.0]
    for name, value in a.items():
        other = b[name]
        if math.isnan(value) or math.isnan(other) or math.isinf(value):
            errors.append(0.0 if str(value) == str(other) else math.inf)
            continue
        errors.append(abs(value - other) / max(abs(value), 1e-3 * largest, 1e-300))
    return max(errors)


def compared(one: Callable[[], Mapping[str, float]], other: Callable[[], Mapping[str, float]]) -> tuple[str, int]:
    """(largest difference, or what went wrong; how many numbers)."""
    try:
        here, there = one(), other()
    except Exception as error:  # noqa: BLE001 - one path's bug must not cost the others: it is a row, and the exit code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}", 0
    return f"{difference(here, there):.1e}", len(here)
