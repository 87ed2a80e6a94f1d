"""The schemas of a sweep: over reference architectures, or over networks of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from geomfeat.comparison.sweeps.config_parts import (
    MeasureConfig,
    PlainTrainConfig,
    RandomDesign,
    SlurmConfig,
    TrainConfig,
)
from geomfeat.comparison.sweeps.config_values import (
    Device,
    Knob,
    Name,
    Numbers,
    Rates,
    Reals,
    Sizes,
    Some,
    Strict,
    names,
    one_of,
)
from geomfeat.models.zoo import ARCHITECTURES
from geomfeat.regimes.training.options import OPTIMIZERS

KNOBS = ("gamma", "alpha", "r", "gamma0")
SCHEMES = ("standard", "ntk", "mup")
Architecture = Annotated[str, one_of(ARCHITECTURES), names(ARCHITECTURES)]
Scheme = Annotated[str, one_of(SCHEMES), names(SCHEMES)]
Optimizer = Annotated[str, one_of(OPTIMIZERS), names(OPTIMIZERS)]


class Common(Strict):
    """What every sweep has.

    Attributes: as in `SweepConfig`.
    """

    data: Name | Annotated[list[Name], Some] = "digits"
    sigma: Numbers = 1.0
    sigma_of: dict[str, Numbers] = Field(default={})
    seeds: PositiveInt | Annotated[list[int], Some] = 3
    measure: MeasureConfig = MeasureConfig()
    design: Literal["grid"] | RandomDesign = "grid"
    slurm: SlurmConfig = SlurmConfig()
    device: Device | None = None


class SweepConfig(Common):
    """A sweep. What can be varied takes one value, a list of values, or a range.

    Attributes:
        data: a SPEC, see `load_data`. architecture: a reference one. width, depth: default the architecture's own.
        parameterization: "standard", "ntk", or "mup": the NTK one at gamma = gamma0 sqrt(width), gamma0 = 1 by default.
        sigma: factor on all initial weights. sigma_of: further factors by layer name or glob.
        eta: learning rate eta0, constant even if training diverges; null derives it from the curvature.
        gamma, alpha, r, gamma0: the output scale, by one of these knobs (see `gamma_from`); default gamma = 1.
        gain, rank: of the initial recurrent weights of rate_rnn; default its own.
        optimizer: "sgd" or "adam". batch_size: null for the full batch.
        seeds: how many, 0, 1, ..., or which. options: further options of the architecture, e.g. activation.
        design: "grid", or {random: 50, seed: 0}.
        device: where runs are computed: "cpu" (default), "cuda", "cuda:1", or "auto". It is not part of what names a
            run: numbers agree to rounding, and those of finished runs are kept.
    """

    architecture: Architecture | Annotated[list[Architecture], Some] = "mlp"
    width: Sizes | None = None
    depth: Sizes | None = None
    gain: Numbers | None = None
    rank: Sizes | None = None
    parameterization: Scheme | Annotated[list[Scheme], Some] = "standard"
    eta: Rates | None = None
    gamma: Numbers | None = None
    alpha: Numbers | None = None
    r: Reals | None = None
    gamma0: Numbers | None = None
    optimizer: Optimizer | Annotated[list[Optimizer], Some] = "sgd"
    batch_size: PositiveInt | Annotated[list[PositiveInt | None], Some] | None = None
    options: dict[str, Any] = Field(default={})
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _one_knob(self) -> Self:
        given = [name for name in KNOBS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} all set the output scale: give one of them")
        schemes = self.parameterization if isinstance(self.parameterization, list) else [self.parameterization]
        if "mup" in schemes and given and given != ["gamma0"]:
            raise ValueError(f"mup sets gamma = gamma0 sqrt(width): give gamma0 in place of {given[0]}")
        return self


class OwnNetworks(Common):
    """What a sweep over networks of one's own has besides.

    Attributes:
        model: "file.py:function" or "pkg.module:function", which returns an nn.Module; a relative path is found beside
            the config file. knobs: its keywords, each with a value, a list of values, or a range.
    """

    model: Name
    knobs: dict[str, Knob] = Field(default={})

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        for name, values in self.knobs.items():
            kinds = {_kind(value) for value in values if value is not None} if isinstance(values, list) else set()
            if len(kinds) > 1:
                raise ValueError(f"knobs.{name}={values} mixes {' and '.join(sorted(kinds))}: give values of one kind")
        return self


class OwnSweepConfig(OwnNetworks):
    """A sweep over networks of one's own, trained as networks are trained in practice.

    Attributes:
        model, knobs: see `OwnNetworks`; the rest as in `SweepConfig`. sigma: factor on all initial weights outside
            normalisation layers. eta: another name of train.lr. train: see `PlainTrainConfig`.
    """

    eta: Numbers | None = None
    train: PlainTrainConfig = PlainTrainConfig()

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.eta is not None and "lr" in self.train.model_fields_set:
            raise ValueError("eta and train.lr both set the learning rate: give one of them")
        return self


class OwnAtGammaConfig(OwnNetworks):
    """A sweep over networks of one's own at known output scales, by `train_at_gamma`.

    Attributes: model, knobs: see `OwnNetworks`; the rest as in `SweepConfig`.
    """

    eta: Rates | None = None
    gamma: Numbers | None = None
    alpha: Numbers | None = None
    optimizer: Optimizer | Annotated[list[Optimizer], Some] = "sgd"
    batch_size: PositiveInt | Annotated[list[PositiveInt | None], Some] | None = None
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.gamma is not None and self.alpha is not None:
            raise ValueError("gamma and alpha both set the output scale: give one of them")
        return self


AnyConfig = SweepConfig | OwnSweepConfig | OwnAtGammaConfig


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "yes and no" if isinstance(value, bool) else "numbers"


def kind_of(raw: Mapping[str, Any]) -> type[SweepConfig] | type[OwnSweepConfig] | type[OwnAtGammaConfig]:
    """The schema of a config: by whether it names a model of one's own, and an output scale.

    >>> kind_of({"model": "net.py:make", "gamma": 1.0}).__name__
    'OwnAtGammaConfig'
    """
    if raw.get("model") is None:
        return SweepConfig
    return OwnSweepConfig if raw.get("gamma") is None and raw.get("alpha") is None else OwnAtGammaConfig
