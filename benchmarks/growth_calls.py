"""What `benchmarks.growth` measures: public calls on made-up data, each with one size that grows.

A call is a function of sizes that prepares its inputs and returns the work to be timed. `CALLS` says which sizes it
takes at its base and which values one of them takes while the others stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[], Any]


@dataclass(frozen=True)
class Call:
    """A public call: how it is prepared, the sizes of its base, and the values of each size that grows."""

    prepare: Callable[..., Work]
    base: dict[str, int]
    grows: dict[str, tuple[int, ...]]
    quick: dict[str, int] = field(default_factory=dict)  # sizes of a trial run, where the base would take seconds


def layer(n: int, d: int, seed: int = 0) -> Any:
    """Features of a random ReLU layer on samples of ten classes, with random outputs of them."""
    import torch

    from geomfeat.types import Representation

    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    means = torch.randn(10, d, generator=torch.Generator().manual_seed(0))
    inputs = 0.7 * means[labels] + torch.randn(n, d, generator=draws)
    x = torch.relu(inputs @ torch.randn(d, d, generator=draws) / d**0.5)
    return Representation(x, labels, outputs=x @ torch.randn(d, 10, generator=draws) / d**0.5, layer=f"layer{seed}")


def measure(name: str) -> Callable[..., Work]:
    """A measure of a layer, by its name."""

    def prepare(n: int, d: int) -> Work:
        from geomfeat.registry import get

        one = layer(n, d)
        # Of a copy, since nothing of an earlier run may be at hand.
        return lambda: get(name).run(one.with_(x=one.x.clone()))

    return prepare


def capacity(classes: int, points: int, d: int, draws: int) -> Work:
    import torch

    import geomfeat as gf

    noise = torch.Generator().manual_seed(0)
    centers = torch.randn(classes, 1, d, generator=noise)
    x = centers + 0.5 * torch.randn(classes, points, d, generator=noise)
    return lambda: gf.capacity(x, n_draws=draws, resample=None)


def cka(n: int, d: int) -> Work:
    import geomfeat as gf

    a, b = layer(n, d), layer(n, d, 1)
    return lambda: gf.cka(a, b)


def cka_matrix(n: int, d: int, layers: int) -> Work:
    import geomfeat as gf

    every = [layer(n, d, k) for k in range(layers)]
    return lambda: gf.cka_matrix(every, stderr=True)


def network(width: int, layers: int, outputs: int, inputs: int = 64, seed: int = 0) -> Any:
    from geomfeat.models.mlp import mlp

    return mlp(inputs, (width,) * layers, outputs, seed=seed)


def width_of(parameters: int, outputs: int) -> int:
    """Of two hidden layers on 64 inputs, so that the network has about so many parameters."""
    return max(2, round((((64 + outputs + 2) ** 2 + 4 * parameters) ** 0.5 - (64 + outputs + 2)) / 2))


def moved(start: Any, share: float = 0.1) -> Any:
    """A copy in which every weight is a share of its tensor's spread away."""
    import copy

    import torch

    end, draws = copy.deepcopy(start), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(share * p.std(correction=0).clamp_min(0.01) * torch.randn(p.shape, generator=draws))
    return end


def samples(n: int, classes: int, d: int = 64) -> tuple[Any, Any]:
    import torch

    draws = torch.Generator().manual_seed(2)
    labels = torch.arange(n) % classes
    return 2 * torch.randn(classes, d, generator=draws)[labels] + torch.randn(n, d, generator=draws), labels


def ntk(n: int, outputs: int, parameters: int) -> Work:
    import geomfeat as gf

    model, (x, _) = network(width_of(parameters, outputs), 2, outputs), samples(n, 10)
    return lambda: gf.ntk(model, x, outputs="full")


def locate(n: int, outputs: int, parameters: int) -> Work:
    import geomfeat as gf

    start, (x, labels) = network(width_of(parameters, outputs), 2, outputs), samples(n, outputs)
    end, options = moved(start), gf.LocateOptions(n_probes=n)
    return lambda: gf.locate(end, x, labels, initial=start, options=options, progress=False)


def planned(n: int, outputs: int, parameters: int) -> float:
    """Seconds that `gf.plan_location` expects of `locate`."""
    import geomfeat as gf

    start, (x, _) = network(width_of(parameters, outputs), 2, outputs), samples(n, outputs)
    return gf.plan_location(moved(start), x, initial=start, options=gf.LocateOptions(n_probes=n)).seconds


def forecast(n: int, outputs: int, parameters: int) -> Work:
    import geomfeat as gf

    model, (x, labels) = network(width_of(parameters, outputs), 2, outputs), samples(n, outputs)
    return lambda: gf.forecast(model, x, labels, loss="cross-entropy", target_loss=0.3)


def movement(n: int, width: int, layers: int) -> Work:
    import geomfeat as gf

    start, (x, _) = network(width, layers, 10), samples(n, 10)
    end = moved(start)
    return lambda: gf.movement(end, x, initial=start, progress=False)


def extract(n: int, width: int, layers: int) -> Work:
    import geomfeat as gf

    model, (x, labels) = network(width, layers, 10), samples(n, 10)
    return lambda: gf.extract(model, x, labels, layers="*", progress=False)


def analyze(n: int, width: int, layers: int, checkpoints: int) -> Work:
    import geomfeat as gf

    start, (x, labels) = network(width, layers, 10), samples(n, 10)
    steps = {100 * (k + 1): moved(start, 0.1 * (k + 1)) for k in range(checkpoints)}
    given = {"initial": start, "checkpoints": steps} if checkpoints else {}
    end, options = moved(start, 1.0), gf.StudyOptions(umap=False)
    return lambda: gf.analyze(end, x, labels, location=False, progress=False, options=options, **given)


def compare(n: int, width: int, layers: int, networks: int) -> Work:
    import geomfeat as gf

    x, labels = samples(n, 10)
    models = {f"network {k}": network(width, layers, 10, seed=k) for k in range(networks)}
    return lambda: gf.compare(models, x, labels, progress=False)


def warm() -> None:
    """Load the compiled loops that tiny sizes do not reach."""
    import torch

    from geomfeat.geometry.manifolds import project_on_cones

    x = torch.eye(2, dtype=torch.float64)
    for method in ("gram", "columns", "orthogonal"):
        project_on_cones(x, torch.arange(2), x, torch.ones_like(x), method=method)


LOCATED = {
    "base": {"n": 100, "outputs": 10, "parameters": 20_000}, "quick": {"n": 20, "outputs": 2, "parameters": 500},
    "grows": {"n": (50, 100, 200), "outputs": (5, 10, 20), "parameters": (5000, 20_000, 80_000)},
}  # fmt: skip
MEASURED = {
    "base": {"n": 2000, "d": 256}, "quick": {"n": 100, "d": 16},
    "grows": {"n": (1000, 2000, 4000, 8000), "d": (128, 256, 512, 1024)},
}  # fmt: skip


def calls() -> dict[str, Call]:
    """All of them by name, those of measures first."""
    from geomfeat.registry import available

    layers = [m.name for m in available() if m.scope == "layer" and m.by_default]
    return {
        **{name: Call(measure(name), **MEASURED) for name in layers},
        "gf.cka": Call(cka, **MEASURED),
        "gf.cka_matrix": Call(
            cka_matrix, {"n": 1000, "d": 256, "layers": 10},
            {"n": (500, 1000, 2000, 4000), "d": (128, 256, 512, 1024), "layers": (5, 10, 20, 40)},
            {"n": 50, "d": 8, "layers": 2},
        ),
        "gf.capacity": Call(
            capacity, {"classes": 10, "points": 50, "d": 256, "draws": 200},
            {"classes": (5, 10, 20, 40), "points": (25, 50, 100, 200), "d": (128, 256, 512, 1024),
             "draws": (100, 200, 400, 800)},
            {"classes": 3, "points": 5, "d": 16, "draws": 10},
        ),
        "gf.ntk": Call(ntk, **LOCATED),
        "gf.locate": Call(locate, **LOCATED),
        "gf.forecast": Call(forecast, **LOCATED),
        "gf.movement": Call(
            movement, {"n": 1000, "width": 256, "layers": 4},
            {"n": (1000, 2000, 4000), "width": (128, 256, 512), "layers": (4, 8, 16)},
            {"n": 20, "width": 8, "layers": 2},
        ),
        "gf.extract": Call(
            extract, {"n": 2000, "width": 256, "layers": 4},
            {"n": (2000, 4000, 8000), "width": (256, 512, 1024), "layers": (4, 8, 16)},
            {"n": 20, "width": 8, "layers": 2},
        ),
        "gf.analyze": Call(
            analyze, {"n": 500, "width": 128, "layers": 4, "checkpoints": 0},
            {"n": (500, 1000, 2000), "width": (128, 256, 512), "layers": (2, 4, 8), "checkpoints": (2, 4)},
            {"n": 50, "width": 8, "layers": 1, "checkpoints": 0},
        ),
        "gf.compare": Call(
            compare, {"n": 500, "width": 128, "layers": 4, "networks": 2},
            {"n": (500, 2000)},
            {"n": 50, "width": 8, "layers": 1, "networks": 2},
        ),
    }  # fmt: skip
