"""The schema of a sweep: what is varied, how each network is trained, and what is measured of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    model_validator,
)  # fmt: skip

from geomfeat.errors import BadInput, near
from geomfeat.models.zoo import ARCHITECTURES
from geomfeat.regimes.training.options import OPTIMIZERS

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[int, Field(ge=0)]
MOST_VALUES = 100_000  # values in a config file: YAML aliases can make a small file explode
KNOBS = ("gamma", "alpha", "r", "gamma0")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Strict):
    """Values from `low` to `high`: `count` of them, evenly spaced, in a grid; drawn between them in a random design."""

    low: Finite
    high: Finite
    count: Annotated[int, Field(ge=2)] | None = None
    scale: Literal["log", "linear"] = "log"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low={self.low:g} must be positive on a log scale: raise it, or scale: linear")
        return self

    def at(self, share: float) -> float:
        """The value at this share of the way, in [0, 1].

        >>> Range(low=1, high=100).at(0.5)
        10.0
        """
        if share in (0.0, 1.0):
            return self.high if share else self.low
        if self.scale == "linear":
            return self.low + share * (self.high - self.low)
        return float(f"{math.exp(math.log(self.low) + share * math.log(self.high / self.low)):.12g}")


def _one_of(known: Collection[str]) -> AfterValidator:
    """Checks that a name is one of these; the error for another one suggests the nearest."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"not one of {', '.join(known)}; near: {near(name, known, 2)}")
        return name

    return AfterValidator(check)


def _names(known: Collection[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(known)})


SCHEMES = ("standard", "ntk", "mup")
Name = Annotated[str, Field(min_length=1)]
Architecture = Annotated[str, _one_of(ARCHITECTURES), _names(ARCHITECTURES)]
Scheme = Annotated[str, _one_of(SCHEMES), _names(SCHEMES)]
Optimizer = Annotated[str, _one_of(OPTIMIZERS), _names(OPTIMIZERS)]
Some = Field(min_length=1)
Numbers = Positive | Annotated[list[Positive], Some] | Range
Reals = Finite | Annotated[list[Finite], Some] | Range
Sizes = PositiveInt | Annotated[list[PositiveInt], Some]


class TrainConfig(_Strict):
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


class LocationConfig(_Strict):
    """Options of the location, see `geomfeat.locate`."""

    n_probes: Annotated[int, Field(ge=4)] | None = None
    n_bootstrap: Annotated[int, Field(ge=2)] | None = None


class ProbeConfig(_Strict):
    """Another data set, on which the last features of every network are tried: its first and last weights.

    Attributes:
        data: a SPEC, see `load_data`; its images are given the shape of those the network was trained on.
        n: so many of its training samples, balanced over the classes.
    """

    data: Name
    n: Annotated[int, Field(ge=4)] = 500


class MeasureConfig(_Strict):
    """What is measured of every network, on its first and last weights.

    Attributes:
        measures: names, or "all"; an empty list for none. location: where it sits between lazy and rich.
        layers: patterns, "*" the hidden layers with weights. n: number of training samples; null for all.
        probe: another data set for rows "transfer_probe"; null for none.
        snapshots: also measure the checkpoints. seed: of the measures' draws, the same in all runs.
    """

    measures: list[str] | Literal["all"] = ["capacity", "cka_linear_unbiased"]
    location: bool | LocationConfig = True
    layers: str | list[str] = "*"
    n: Annotated[int, Field(ge=2)] | None = 200
    probe: ProbeConfig | None = None
    snapshots: bool = False
    seed: int = 0


class RandomDesign(_Strict):
    """So many configurations, drawn by the seed: from ranges by their scale, from lists uniformly."""

    random: PositiveInt
    seed: int = 0


class SlurmConfig(_Strict):
    """Options of `--engine slurm`: `jobs` jobs of one core each."""

    jobs: PositiveInt = 4
    partition: str | None = None
    account: str | None = None
    walltime: str = "01:00:00"
    memory: str = "4GB"
    directives: list[str] = []
    prologue: list[str] = []


class SweepConfig(_Strict):
    """A sweep. What can be varied takes one value, a list of values, or a range.

    Attributes:
        data: a SPEC, see `load_data`. architecture: a reference one. width, depth: default the architecture's own.
        parameterization: "standard", "ntk", or "mup": the NTK one at gamma = gamma0 sqrt(width), gamma0 = 1 by default.
        sigma: factor on all initial weights. sigma_of: further factors by layer name or glob.
        eta: learning rate eta0, constant even if training diverges; null derives it from the curvature.
        gamma, alpha, r, gamma0: the output scale, by one of these knobs (see `gamma_from`); default gamma = 1.
        optimizer: "sgd" or "adam". batch_size: null for the full batch.
        seeds: how many, 0, 1, ..., or which. options: further options of the architecture, e.g. activation.
        design: "grid", or {random: 50, seed: 0}.
    """

    data: Name | Annotated[list[Name], Some] = "digits"
    architecture: Architecture | Annotated[list[Architecture], Some] = "mlp"
    width: Sizes | None = None
    depth: Sizes | None = None
    parameterization: Scheme | Annotated[list[Scheme], Some] = "standard"
    sigma: Numbers = 1.0
    sigma_of: dict[str, Numbers] = {}
    eta: Positive | Annotated[list[Positive | None], Some] | Range | None = None
    gamma: Numbers | None = None
    alpha: Numbers | None = None
    r: Reals | None = None
    gamma0: Numbers | None = None
    optimizer: Optimizer | Annotated[list[Optimizer], Some] = "sgd"
    batch_size: PositiveInt | Annotated[list[PositiveInt | None], Some] | None = None
    seeds: PositiveInt | Annotated[list[int], Some] = 3
    options: dict[str, Any] = {}
    train: TrainConfig = TrainConfig()
    measure: MeasureConfig = MeasureConfig()
    design: Literal["grid"] | RandomDesign = "grid"
    slurm: SlurmConfig = SlurmConfig()

    @model_validator(mode="after")
    def _one_knob(self) -> Self:
        given = [name for name in KNOBS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} all set the output scale: give one of them")
        schemes = self.parameterization if isinstance(self.parameterization, list) else [self.parameterization]
        if "mup" in schemes and given and given != ["gamma0"]:
            raise ValueError(f"mup sets gamma = gamma0 sqrt(width): give gamma0 in place of {given[0]}")
        return self


def parse_config(raw: Mapping[str, Any] | SweepConfig, where: str = "the sweep") -> SweepConfig:
    """A checked config; BadInput that lists everything wrong in it by name, unknown keys with the nearest valid ones.

    >>> parse_config({"sigma": [0.5, 2.0], "seeds": 2}).train.target_loss
    0.1
    """
    if isinstance(raw, SweepConfig):
        return raw
    if not isinstance(raw, Mapping):
        raise BadInput(f"{where} must be a mapping of keys to values, got {type(raw).__name__}")
    try:
        return SweepConfig.model_validate(dict(raw))
    except ValidationError as cause:
        problems: dict[str, list[str]] = {}
        errors = cause.errors()
        for error in errors:
            place, words = _problem(error)
            if error["type"] in OTHER_KIND and any(
                e["type"] not in OTHER_KIND and e["loc"][:1] == error["loc"][:1] for e in errors
            ):
                continue  # a branch of a union that is not meant: the one that is has something to say
            problems.setdefault(place, [])
            problems[place] += [words] if words not in problems[place] else []
        lines = [f"{place}: {' or '.join(words)}" if place else " or ".join(words) for place, words in problems.items()]
        raise BadInput(f"{where} cannot be used: " + "; ".join(lines)) from cause


# Errors that say that a value is not of a branch's kind, rather than what is wrong with it.
OTHER_KIND = {
    "model_type", "model_attributes_type", "list_type", "float_type", "int_type", "bool_type", "string_type",
    "dict_type", "bool_parsing", "literal_error",
}  # fmt: skip


def _problem(error: Any) -> tuple[str, str]:
    """(key, what is wrong with it) of one pydantic error; branches of a union are reported under one key."""
    loc = [str(part) for part in error["loc"]]
    parents = {"train": TrainConfig, "measure": MeasureConfig, "slurm": SlurmConfig, "design": RandomDesign}
    if error["type"] in ("extra_forbidden", "missing") and len(loc) > 1:
        home = parents.get(loc[0], SweepConfig)
        home = (
            LocationConfig
            if "LocationConfig" in loc
            else ProbeConfig
            if loc[1] == "probe"
            else Range
            if any("Range" in p for p in loc)
            else home
        )
        fields = home.model_fields
        words = f"no such key; near: {near(loc[-1], fields)}" if error["type"] == "extra_forbidden" else "is missing"
        return f"{loc[0]}.{loc[-1]}", words
    if error["type"] == "extra_forbidden":
        return loc[0], f"no such key; near: {near(loc[0], SweepConfig.model_fields)}"
    deep = bool(loc) and loc[0] in ("train", "measure", "slurm", "sigma_of")
    value = error.get("input")
    shown = "" if not loc or isinstance(value, Mapping | list) else f", got {value!r}"
    return ".".join(loc[: 2 if deep else 1]), error["msg"].removeprefix("Value error, ") + shown


def read_config(path: str | Path) -> SweepConfig:
    """The config in a YAML or JSON file.

    Raises BadInput as `parse_config`, and for a file that is missing, empty, no YAML, or nested or repeated by its
    references beyond what any sweep needs.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        _require_small(raw)
    except FileNotFoundError as cause:
        raise BadInput(f"no such sweep file: {str(path)!r}") from cause
    except OSError as cause:
        raise BadInput(f"{str(path)!r} cannot be read: {cause.strerror or cause}") from cause
    except RecursionError as cause:
        raise BadInput(f"{path} is not a sweep: it is nested too deeply") from cause
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError) as cause:
        # PyYAML raises its own errors for the text, and Python's for values such as the 45th of January.
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(cause).split())[:300]}") from cause
    if raw is None:
        raise BadInput(f"{path} is empty: name at least one key of a sweep, see geomfeat sweep --schema")
    return parse_config(raw, str(path))


def _require_small(raw: Any) -> None:
    """Raises ValueError where the values, references written out, are more than MOST_VALUES, or hold themselves."""
    left, stack = MOST_VALUES, [raw]
    while stack and left:
        value, left = stack.pop(), left - 1
        if isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, list | tuple | set):
            stack += value
    if stack:
        raise ValueError(f"it holds more than {MOST_VALUES} values, or one that holds itself")
