"""The trainings of a sweep over networks of the user's own: what can be varied, and one training of it."""

from __future__ import annotations

from typing import Any

from geomfeat.comparison.sweeps.config_parts import PlainTrainConfig
from geomfeat.comparison.sweeps.config_schemas import KNOBS, AnyConfig, OwnSweepConfig, SweepConfig
from geomfeat.comparison.sweeps.own_networks import OWN, OwnNetwork, whole_path
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.regimes.training import gamma_from


def own_axes(config: AnyConfig) -> dict[str, Any]:
    """What else can be varied of a network of the user's own."""
    if isinstance(config, SweepConfig):
        return {}
    axes = {f"knobs.{name}": values for name, values in config.knobs.items()}
    if isinstance(config, OwnSweepConfig):
        rate = {"train.lr": config.train.lr} if config.eta is None else {}
        axes |= rate | {"train.weight_decay": config.train.weight_decay}
    return axes


def own_run(
    config: Any, point: dict[str, Any], seed: int, sums: dict[str, tuple[str, ...]], of_model: tuple[str, ...]
) -> RunConfig:
    def under(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in point.items() if name.startswith(prefix)}

    own = OwnNetwork(model=whole_path(config.model), sums=of_model, knobs=under("knobs."))
    rate, batch_size, optimizer = point.get("eta"), point.get("batch_size"), str(point.get("optimizer"))
    knob = {name: point[name] for name in KNOBS if name in point}
    train, gamma = config.train, knob.pop("gamma", None) or (gamma_from(**knob) if knob else 1.0)
    if isinstance(train, PlainTrainConfig):
        rate = point.get("train.lr", rate)
        train = train.model_copy(update={"lr": rate, "weight_decay": point["train.weight_decay"]})
        batch_size, optimizer = train.batch_size, train.optimizer
    probe = config.measure.probe
    return RunConfig(
        data=point["data"], data_sums=sums[point["data"]], probe_sums=sums[probe.data] if probe else (),
        architecture=own.name, width=own.size("width"), depth=own.size("depth"), parameterization=OWN,
        sigma=point["sigma"], sigma_of=under("sigma_of."), eta=rate, gamma=gamma, knob=knob, optimizer=optimizer,
        batch_size=batch_size, seed=seed, options={}, train=train, measure=config.measure, own=own,
    )  # fmt: skip
