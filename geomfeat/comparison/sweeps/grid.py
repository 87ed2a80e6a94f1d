"""From a sweep's config to its trainings: a grid or random draws, each training with its own config and hash."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from geomfeat.comparison.sweeps.config_parts import PlainTrainConfig, RandomDesign
from geomfeat.comparison.sweeps.config_schemas import KNOBS, AnyConfig, SweepConfig
from geomfeat.comparison.sweeps.config_values import Range
from geomfeat.comparison.sweeps.own_networks import own_network
from geomfeat.comparison.sweeps.own_runs import own_axes, own_run
from geomfeat.comparison.sweeps.plain_goal import check_learns
from geomfeat.comparison.sweeps.run_config import RECURRENT, RunConfig
from geomfeat.data._load_data import load_data
from geomfeat.data.content_hash import contents
from geomfeat.data.dataset import Dataset
from geomfeat.data.resize import images_like
from geomfeat.errors import BadInput, near
from geomfeat.models import build
from geomfeat.models.functional import call, output_matrix
from geomfeat.models.nested_inputs import take
from geomfeat.models.weights.checkpoints import what_went_wrong
from geomfeat.numerics import stream
from geomfeat.regimes.training import gamma_from
from geomfeat.registry import get

# Width and depth of an architecture where none are asked for: the defaults of its factory.
SIZES = {"mlp": (256, 2), "cnn": (32, 2), "vgg": (16, 1), "residual": (16, 1), "transformer": (32, 2), "lstm": (32, 1),
         "gru_loop": (32, 1), "rate_rnn": (32, 1), "linear": (64, 1)}  # fmt: skip
STAGES = 3  # stages of a vgg, each twice as wide as the last: the 8 pixels a side of the digits can be halved thrice
ONE_CELL = ("gru_loop", "rate_rnn")
AXES = ("data", "architecture", "width", "depth", *RECURRENT, "parameterization", "sigma", "eta", *KNOBS, "optimizer",
        "batch_size")  # fmt: skip


def runs_of(config: AnyConfig) -> tuple[RunConfig, ...]:
    """All trainings of a sweep, in order: configurations as written, the last axis fastest, and seeds within each.

    Raises BadInput for what could not be trained or measured: values that come twice, a range without count in a grid,
    sizes or options an architecture does not have, layer names that match nothing, or more samples than there are.
    """
    seeds = list(range(config.seeds)) if isinstance(config.seeds, int) else config.seeds
    if len(set(seeds)) < len(seeds):
        raise BadInput(f"seeds={seeds} holds one twice: every training is done once")
    if config.measure.measures != "all":
        for name in config.measure.measures:
            get(name)
    axes: dict[str, Any] = {name: value for name in AXES if (value := getattr(config, name, None)) is not None}
    axes |= own_axes(config)
    axes |= {f"sigma_of.{pattern}": values for pattern, values in config.sigma_of.items()}
    points = _drawn(axes, config.design) if isinstance(config.design, RandomDesign) else _grid(axes)
    probed = [] if config.measure.probe is None else [config.measure.probe.data]
    sums = {spec: tuple(contents(spec)) for spec in {*(point["data"] for point in points), *probed}}
    if isinstance(config, SweepConfig):
        make = partial(_run, config, sums=sums)
    else:
        make = partial(own_run, config, sums=sums, of_model=tuple(contents(config.model)))
    found = tuple(make(point, seed) for point in points for seed in seeds)
    for run in {shape_of(run): run for run in found}.values():
        _check(run)
    return found


def _grid(axes: dict[str, Any]) -> list[dict[str, Any]]:
    columns = []
    for name, values in axes.items():
        if isinstance(values, Range):
            if values.count is None:
                raise BadInput(f"{name}: a range in a grid needs count, the number of values (at least 2)")
            values = values.values(values.count)
        values = values if isinstance(values, list) else [values]
        if len(set(values)) < len(values):
            raise BadInput(f"{name}={values} holds a value twice: every training is done once")
        columns.append([(name, value) for value in values])
    return [dict(point) for point in itertools.product(*columns)]


def _drawn(axes: dict[str, Any], design: RandomDesign) -> list[dict[str, Any]]:
    if not any(isinstance(values, Range | list) for values in axes.values()):
        raise BadInput("design: random has nothing to draw: give a range or list for what is to be varied")
    return [{name: _draw(values, name, i, design.seed) for name, values in axes.items()} for i in range(design.random)]


def _draw(values: Any, name: str, i: int, seed: int) -> Any:
    """One value of one axis; its stream is named by axis and number, so that further axes or draws change no other."""
    share = float(torch.rand((), generator=stream(seed, "design", name, i), dtype=torch.float64))
    if isinstance(values, Range):
        return values.at(share)
    return values[int(share * len(values))] if isinstance(values, list) else values


def _run(config: SweepConfig, point: dict[str, Any], seed: int, sums: dict[str, tuple[str, ...]]) -> RunConfig:
    architecture = point["architecture"]
    width, depth = (point.get(name, size) for name, size in zip(("width", "depth"), SIZES[architecture], strict=True))
    scheme, knob = point["parameterization"], {name: point[name] for name in KNOBS if name in point}
    if scheme == "mup":
        knob = knob or {"gamma0": 1.0}
    gamma = knob.pop("gamma", None) or (gamma_from(**knob, width=width) if knob else 1.0)
    own: dict[str, Any] = {
        name: point.get(name) for name in ("data", "parameterization", "sigma", "eta", "optimizer", "batch_size")
    }
    probe = config.measure.probe
    layers = {name.removeprefix("sigma_of."): value for name, value in point.items() if name.startswith("sigma_of.")}
    return RunConfig(
        **own, data_sums=sums[point["data"]], probe_sums=sums[probe.data] if probe else (),
        architecture=architecture, width=width, depth=depth, gamma=gamma, knob=knob, sigma_of=layers, seed=seed,
        options=config.options | {name: point[name] for name in RECURRENT if name in point}, train=config.train,
        measure=config.measure,
    )  # fmt: skip


def shape_of(run: RunConfig) -> tuple[Any, ...]:
    """What decides whether a training can be done at all."""
    own = None if run.own is None else tuple(sorted(run.own.knobs.items()))
    return (
        run.data, run.architecture, run.width, run.depth, run.parameterization, tuple(run.sigma_of), run.batch_size,
        run.options.get("rank"), own,
    )  # fmt: skip


def _check(run: RunConfig) -> None:
    data = dataset_of(run)
    if run.batch_size is not None and run.batch_size > data.n:
        raise BadInput(f"batch_size={run.batch_size} is above the {data.n} training samples of {run.data!r}")
    if run.measure.n is not None and run.measure.n > data.n:
        raise BadInput(f"measure.n={run.measure.n} is above the {data.n} training samples of {run.data!r}: lower it")
    plain = isinstance(run.train, PlainTrainConfig)
    if data.goal is None and not plain:
        raise BadInput(f"data={run.data!r} has neither labels nor targets to train on")
    probe_of(run, data)
    network = network_of(run, data)
    if run.own is not None:
        said = "".join(f", {name}={value!r}" for name, value in run.own.knobs.items())
        _check_own(network, run, data, f"model={run.own.model!r}{said}")
        return
    try:
        with torch.no_grad():
            network(take(data.inputs, slice(0, 2)))
    except (RuntimeError, TypeError, ValueError) as cause:
        first = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise BadInput(f"{run.architecture} cannot take the inputs of {run.data!r} ({first}): give options") from cause


def _check_own(network: nn.Module, run: RunConfig, data: Dataset, where: str) -> None:
    if isinstance(run.train, PlainTrainConfig):
        check_learns(network, run.train, data, where)
        return
    try:
        with torch.no_grad():
            output_matrix(call(network, take(data.inputs, slice(0, 2))))
    except (Exception, SystemExit) as cause:
        raise BadInput(f"{where} fails on a batch of data={data.name!r}: {what_went_wrong(cause)}") from cause


def dataset_of(run: RunConfig) -> Dataset:
    """The training samples of a run, with the test samples of the data where there are any."""
    return _dataset(run.data, run.data_sums, run.train.n)


def probe_of(run: RunConfig, data: Dataset) -> Dataset | None:
    """The samples of a run's probe in the shape of its `data`; None without a probe.

    Raises BadInput for a probe without classes, or whose samples cannot be given that shape.
    """
    if run.measure.probe is None:
        return None
    other = _dataset(run.measure.probe.data, run.probe_sums, run.measure.probe.n).training()
    if other.labels is None or len(other.labels.unique()) < 2:
        raise BadInput(f"measure.probe.data={run.measure.probe.data!r} has fewer than two classes: choose another")
    if not isinstance(data.inputs, torch.Tensor) or not isinstance(other.inputs, torch.Tensor):
        raise BadInput(f"a probe needs samples that are one tensor, in {run.data!r} and in {other.name!r}")
    return replace(other, inputs=images_like(other.inputs, data.inputs.shape[1:]))


@lru_cache(maxsize=2)
def _dataset(spec: str, sums: tuple[str, ...], n: int | None) -> Dataset:
    """Stored for the next run of the same content; BadInput where this machine's files are others than were planned."""
    if tuple(contents(spec)) != sums:
        raise BadInput(
            f"data={spec!r} is not what the sweep was planned with: its files have changed, or are others here"
        )
    return load_data(spec, n=n).numbered()


def network_of(run: RunConfig, data: Dataset) -> nn.Module:
    """The network of a run at its start: built to the data's sizes, its weights times sigma and the factors of layers.

    Raises BadInput for sizes or options that the architecture does not have, or a layer name that matches nothing.
    """
    if run.own is not None:
        made = own_network(run.own, run.seed, run.sigma)
    else:
        made = build(run.architecture, **{**_sizes(run, data), **run.options})
    named = {name: m for name, m in made.named_modules() if list(m.parameters(recurse=False))}
    for pattern, factor in run.sigma_of.items():
        matched = [m for name, m in named.items() if fnmatchcase(name, pattern)]
        if not matched:
            raise BadInput(
                f"sigma_of: no layer of {run.architecture} matches {pattern!r}; near: {near(pattern, named)}"
            )
        with torch.no_grad():
            for parameter in (p for m in matched for p in m.parameters(recurse=False)):
                parameter.mul_(factor)
    return made


def _sizes(run: RunConfig, data: Dataset) -> dict[str, Any]:
    """Width, depth, inputs, outputs, parameterization, scale and seed in the words of the architecture's factory."""
    assert run.width is not None
    assert run.depth is not None
    shape: Sequence[int] = data.inputs.shape[1:] if isinstance(data.inputs, torch.Tensor) else ()
    common: dict[str, Any] = {"outputs": _outputs(data), "init_scale": run.sigma, "seed": run.seed}
    if run.parameterization != "standard":
        common["parameterization"] = "ntk"
    if run.architecture in ("mlp", "linear"):
        inputs = int(torch.Size(shape).numel())
        return {**common, "inputs": inputs, "hidden": (run.width,) * run.depth}
    if run.architecture == "cnn":
        return {**common, "image": _image(run, shape), "channels": (run.width,) * run.depth}
    if run.architecture == "vgg":
        channels = tuple(run.width * 2**stage for stage in range(STAGES))
        return {**common, "image": _image(run, shape), "channels": channels, "convs": run.depth}
    if run.architecture == "residual":
        channels = (run.width, 2 * run.width)
        return {**common, "image": _image(run, shape), "channels": channels, "blocks": run.depth}
    size = {"width": run.width} if run.architecture == "transformer" else {"hidden": run.width}
    if run.architecture not in ONE_CELL:
        size["depth"] = run.depth
    elif run.depth != 1:
        raise BadInput(f"depth={run.depth}: {run.architecture} has one cell: leave depth out, or take lstm")
    features = shape[0] * shape[2] if len(shape) == 3 else shape[-1] if shape else 1
    return {**common, **size, "features": features}


def _outputs(data: Dataset) -> int:
    if data.targets is not None:
        return data.targets.shape[1]
    assert data.labels is not None
    return len(data.classes) or 1 + int(data.labels.max())


def _image(run: RunConfig, shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise BadInput(f"{run.architecture} takes images, but data {run.data!r} has samples of shape {tuple(shape)}")
    return tuple(shape)
