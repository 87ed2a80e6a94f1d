"""One training of a sweep and what is measured of it: all that decides its numbers, as JSON."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from geomfeat.comparison.sweeps.config_parts import MeasureConfig, PlainTrainConfig, TrainConfig
from geomfeat.comparison.sweeps.folder import address_of
from geomfeat.comparison.sweeps.own_networks import OwnNetwork


class RunConfig(BaseModel):
    """One training and what is measured of it: all that decides its numbers, as JSON.

    Attributes: as in `SweepConfig`, each with one value. gamma: the output scale; knob: how it was asked for, if it was
    by another name. data_sums, probe_sums: SHA-256 of the files of the data and of the probe's. own: the network, where
    it is one of the user's own; architecture is then its name, width and depth its keywords of these names, or None,
    and gamma 1 where it was trained as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    data_sums: tuple[str, ...]
    probe_sums: tuple[str, ...] = ()
    architecture: str
    width: int | None
    depth: int | None
    parameterization: str
    sigma: float
    sigma_of: dict[str, float]
    eta: float | None
    gamma: float
    knob: dict[str, float]
    optimizer: str
    batch_size: int | None
    seed: int
    options: dict[str, Any]
    train: TrainConfig | PlainTrainConfig
    measure: MeasureConfig
    own: OwnNetwork | None = None

    @model_serializer(mode="wrap")
    def _as_without_own(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs of reference architectures keep the addresses that they had before there were others.
        found = handler(self)
        return {name: value for name, value in found.items() if name != "own" or value is not None}

    def canonical(self) -> str:
        """The config as JSON text, from which any process can make the training."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def identity(self) -> str:
        """What decides the numbers, as JSON text: of the user's file its name and content, not where it lies."""
        found = self.model_dump(mode="json")
        if self.own is not None:
            found["own"]["model"] = self.own.name
        return json.dumps(found, sort_keys=True)

    def address(self, version: str) -> str:
        """The name of the run's folder: 20 hexadecimal digits of the SHA-256 of its identity and the code version."""
        return address_of(version, self.identity())

    def conditions(self) -> dict[str, Any]:
        """The columns of the table: what was varied or could have been."""
        layers = {f"sigma.{pattern}": factor for pattern, factor in self.sigma_of.items()}
        common = {name: getattr(self, name) for name in (*CONDITIONS, "seed")}
        own = {} if self.own is None else self.own.columns()
        decay = {"weight_decay": self.train.weight_decay} if isinstance(self.train, PlainTrainConfig) else {}
        recurrent = {name: self.options[name] for name in RECURRENT if name in self.options}
        return {**common, **layers, **self.knob, **decay, **recurrent, **own}


RECURRENT = ("gain", "rank")  # axes that are options of a recurrent architecture
CONDITIONS = ("data", "architecture", "width", "depth", "parameterization", "sigma", "eta", "gamma", "optimizer",
              "batch_size")  # fmt: skip
