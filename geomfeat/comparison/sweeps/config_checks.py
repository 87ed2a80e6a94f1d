"""Errors of a sweep's config that would fail every run, found before any training, besides those of `runs_of`."""

from __future__ import annotations

from collections.abc import Iterable

from geomfeat.activations import select_layers
from geomfeat.comparison.sweeps.config_schemas import AnyConfig, SweepConfig
from geomfeat.comparison.sweeps.grid import dataset_of, network_of, shape_of
from geomfeat.comparison.sweeps.run_config import RECURRENT, RunConfig
from geomfeat.errors import BadInput

# Options of an architecture that are conditions of a sweep: as an option they would overrule what its column says.
CONDITION = {"init_scale": "sigma", "seed": "seeds", "parameterization": "parameterization"}
WIDTHS, DEPTHS = ("hidden", "channels", "width"), ("hidden", "channels", "convs", "blocks", "depth")
LISTED = {"mlp": "hidden", "linear": "hidden", "cnn": "channels"}  # the option that lists sizes layer by layer
WIDE_ONLY = (
    "transformer",
    "lstm",
    "gru_loop",
    "rate_rnn",
    "vgg",
    "residual",
)  # architectures in which hidden or channels do not set the depth


def refuse_options(config: SweepConfig) -> None:
    """BadInput for an option of the architecture that overrules a condition of the sweep.

    >>> refuse_options(SweepConfig(options={"activation": "tanh"}))
    """
    for option, condition in CONDITION.items():
        if option in config.options:
            raise BadInput(f"options: {option} is a condition of the sweep: give it as {condition}")
    for name in RECURRENT:
        if name in config.options and getattr(config, name) is not None:
            raise BadInput(f"options: {name} is an axis too: give it once")
    for condition, options in (("width", WIDTHS), ("depth", DEPTHS)):
        value = getattr(config, condition)
        if not isinstance(value, list) or len(value) < 2:
            continue
        for option in options:
            if option in config.options and not (condition == "depth" and _leaves_depth(config, option)):
                raise BadInput(
                    f"options: {option} sets the size of every network, and {condition}={value} would vary nothing: "
                    "give one of them"
                )


def refuse_depths(runs: Iterable[RunConfig]) -> None:
    """BadInput where an option lists another number of layers than the depth that the table and theory would name."""
    for run in runs:
        option = LISTED.get(run.architecture, "")
        sizes = run.options.get(option)
        if isinstance(sizes, list | tuple) and len(sizes) != run.depth:
            raise BadInput(
                f"options: {option}={list(sizes)} is {len(sizes)} layers, and depth={run.depth}: "
                f"give depth: {len(sizes)} too"
            )


def refuse_layers(config: AnyConfig, runs: Iterable[RunConfig]) -> None:
    """BadInput for a pattern in measure.layers that matches no layer of a network of the sweep."""
    if config.measure.layers == "*":
        return
    for run in {shape_of(r): r for r in runs}.values():
        try:
            select_layers(network_of(run, dataset_of(run)), config.measure.layers)
        except BadInput as cause:
            raise BadInput(f"measure.layers of {run.architecture}, depth {run.depth}: {cause}") from cause


def _leaves_depth(config: SweepConfig, option: str) -> bool:
    names = config.architecture if isinstance(config.architecture, list) else [config.architecture]
    return option in ("hidden", "channels") and all(name in WIDE_ONLY for name in names)
