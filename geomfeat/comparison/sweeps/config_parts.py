"""The parts of a sweep's config: how networks are trained, what is measured of them, the design, the cluster."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from geomfeat.comparison.sweeps.config_values import (
    Decay,
    Name,
    NonNegative,
    Numbers,
    Positive,
    Range,
    Some,
    Strict,
    names,
    one_of,
)
from geomfeat.regimes.training.plain_options import PLAIN_OPTIMIZERS, SCHEDULES

PlainOptimizer = Annotated[str, one_of(PLAIN_OPTIMIZERS), names(PLAIN_OPTIMIZERS)]
Schedule = Annotated[str, one_of(SCHEDULES), names(SCHEDULES)]


class TrainConfig(Strict):
    """How every network is trained.

    Attributes:
        loss: see `train_at_gamma`. target_loss: share of the loss at f = 0 at which training ends, so that all runs fit
            equally well; null trains for max_steps. max_steps: the budget.
        momentum: of SGD. centred: f = (net(w) - net(w0)) / gamma; false trains net(w) / gamma itself, from net(w0) on.
        weight_decay: of the raw weights, see `train_at_gamma`.
        n: training samples, balanced over the classes; null for all.
        snapshots: so many checkpoints between the first and the last step, spaced evenly in log(step).
    """

    loss: Literal["mse", "cross-entropy"] = "mse"
    target_loss: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    max_steps: PositiveInt = 2000
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    centered: bool = True
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    n: PositiveInt | None = None
    snapshots: NonNegative = 0


class PlainTrainConfig(Strict):
    """How a network of one's own is trained in practice: torch's optimizers on the raw weights, see `PlainOptions`.

    Attributes:
        loss: "cross-entropy", "mse", or "next-token": cross-entropy of the next token at every position; null takes
            mse for values, cross-entropy for classes, and the next token where the data have neither.
        optimizer: "adamw", "adam" or "sgd". lr, weight_decay: one value, several, or a range. momentum: of SGD.
        schedule: "constant", "cosine" or "linear", after `warmup_steps`. clip: largest norm of the gradient.
        ema: decay of an average of the weights: the averaged network is then the one that is measured and saved.
        batch_size: samples in one pass; null for all. accumulation: passes in one step.
        max_steps: the budget. target_loss: share of the loss of outputs 0 at which training ends; null trains for
            max_steps. n: training samples; null for all. snapshots: as for the reference architectures.
    """

    loss: Literal["cross-entropy", "mse", "next-token"] | None = None
    optimizer: PlainOptimizer = "adamw"
    lr: Numbers = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Decay | Annotated[list[Decay], Some] | Range = 0.0
    schedule: Schedule = "constant"
    warmup_steps: NonNegative = 0
    clip: Positive | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    batch_size: PositiveInt | None = None
    accumulation: PositiveInt = 1
    max_steps: PositiveInt = 1000
    target_loss: Annotated[float, Field(gt=0, lt=1)] | None = None
    n: PositiveInt | None = None
    snapshots: NonNegative = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum={self.momentum:g} is of sgd alone: leave it out, or optimizer: sgd")
        if self.accumulation > 1 and self.batch_size is None:
            raise ValueError(f"accumulation={self.accumulation} adds up batches: give batch_size too")
        return self

    @property
    def centered(self) -> bool:
        """False: net(w) itself is trained, without net(w0) taken off."""
        return False


class LocationConfig(Strict):
    """Options of the location, see `geomfeat.locate`.

    Attributes:
        n_probes, n_bootstrap: see `LocateOptions`. readout: which tokens are the outputs, "last", "mean", "token:i" or
            "tokens:k"; null for what the network returns, and for "last" where the next token was learned.
    """

    n_probes: Annotated[int, Field(ge=4)] | None = None
    n_bootstrap: Annotated[int, Field(ge=2)] | None = None
    readout: Name | None = None

    @model_serializer(mode="wrap")
    def _as_without_readout(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A config without a read-out is what it was before there were any, and so is the address of its runs.
        found = handler(self)
        return {name: value for name, value in found.items() if name != "readout" or value is not None}


class ProbeConfig(Strict):
    """Another data set, on which the last features of every network are tried: its first and last weights.

    Attributes:
        data: a SPEC, see `load_data`; its images are given the shape of those the network was trained on.
        n: so many of its training samples, balanced over the classes.
    """

    data: Name
    n: Annotated[int, Field(ge=4)] = 500


class MeasureConfig(Strict):
    """What is measured of every network, on its first and last weights.

    Attributes:
        measures: names, or "all"; an empty list for none. location: where it sits between lazy and rich.
        layers: patterns, "*" the hidden layers with weights. n: number of training samples; null for all.
        probe: another data set for rows "transfer_probe"; null for none.
        snapshots: also measure the checkpoints. seed: of the measures' draws, the same in all runs.
    """

    measures: list[str] | Literal["all"] = Field(default=["capacity", "cka_linear_unbiased"])
    location: bool | LocationConfig = True
    layers: str | list[str] = "*"
    n: Annotated[int, Field(ge=2)] | None = 200
    probe: ProbeConfig | None = None
    snapshots: bool = False
    seed: int = 0


class RandomDesign(Strict):
    """So many configurations, drawn by the seed: from ranges by their scale, from lists uniformly."""

    random: PositiveInt
    seed: int = 0


class SlurmConfig(Strict):
    """Options of `--engine slurm`: `jobs` jobs of one core each, and of one GPU each where runs are on a GPU.

    requeue: whether SLURM starts a job again that it has preempted; its worker then takes further runs.
    """

    jobs: PositiveInt = 4
    partition: str | None = None
    account: str | None = None
    walltime: str = "01:00:00"
    memory: str = "4GB"
    requeue: bool = True
    directives: list[str] = Field(default=[])
    prologue: list[str] = Field(default=[])
