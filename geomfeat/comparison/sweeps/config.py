"""A sweep's config from a mapping or a file, checked: everything that is wrong in it is reported by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from geomfeat.comparison.sweeps.config_parts import (
    LocationConfig,
    MeasureConfig,
    PlainTrainConfig,
    ProbeConfig,
    RandomDesign,
    SlurmConfig,
    TrainConfig,
)
from geomfeat.comparison.sweeps.config_schemas import (
    AnyConfig,
    OwnAtGammaConfig,
    OwnSweepConfig,
    SweepConfig,
    kind_of,
)
from geomfeat.comparison.sweeps.config_values import Range
from geomfeat.errors import BadInput, near

MOST_VALUES = 100_000  # values in a config file: YAML aliases can make a small file explode
# What only reference architectures have, and networks of one's own have elsewhere.
OF_REFERENCES = ("architecture", "width", "depth", "parameterization", "options")


def parse_config(raw: Mapping[str, Any] | AnyConfig, where: str = "the sweep") -> AnyConfig:
    """A checked config; BadInput that lists everything wrong in it by name, unknown keys with the nearest valid ones.

    >>> parse_config({"sigma": [0.5, 2.0], "seeds": 2}).train.target_loss
    0.1
    """
    if isinstance(raw, AnyConfig):
        return raw
    if not isinstance(raw, Mapping):
        raise BadInput(f"{where} must be a mapping of keys to values, got {type(raw).__name__}")
    kind = kind_of(raw)
    try:
        return kind.model_validate(dict(raw))
    except ValidationError as cause:
        problems: dict[str, list[str]] = {}
        errors = cause.errors()
        for error in errors:
            place, words = _problem(error, kind)
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
    "dict_type", "bool_parsing", "literal_error", "none_required",
}  # fmt: skip


def _problem(error: Any, kind: type[AnyConfig]) -> tuple[str, str]:
    """(key, what is wrong with it) of one pydantic error; branches of a union are reported under one key."""
    loc = [str(part) for part in error["loc"]]
    if error["type"] in ("extra_forbidden", "missing") and len(loc) > 1:
        fields = _home(loc, kind).model_fields
        words = f"no such key; near: {near(loc[-1], fields)}" if error["type"] == "extra_forbidden" else "is missing"
        if loc[0] == "train" and kind is OwnAtGammaConfig and loc[-1] in PlainTrainConfig.model_fields:
            words = "it is of a training without an output scale: leave it out, or gamma and alpha"
        return f"{loc[0]}.{loc[-1]}", words
    if error["type"] == "extra_forbidden":
        return loc[0], _no_such_key(loc[0], kind)
    deep = bool(loc) and loc[0] in ("train", "measure", "slurm", "sigma_of", "knobs")
    value = error.get("input")
    shown = "" if not loc or isinstance(value, Mapping | list) else f", got {value!r}"
    return ".".join(loc[: 2 if deep else 1]), error["msg"].removeprefix("Value error, ") + shown


def _home(loc: list[str], kind: type[AnyConfig]) -> Any:
    """The part of the config in which a key stands."""
    if "LocationConfig" in loc:
        return LocationConfig
    if loc[1] == "probe":
        return ProbeConfig
    if any("Range" in part for part in loc):
        return Range
    train = PlainTrainConfig if kind is OwnSweepConfig else TrainConfig
    parents = {"train": train, "measure": MeasureConfig, "slurm": SlurmConfig, "design": RandomDesign}
    return parents.get(loc[0], kind)


def _no_such_key(name: str, kind: type[AnyConfig]) -> str:
    if kind is not SweepConfig and name in OF_REFERENCES:
        return f"it is of reference architectures: a model of one's own takes its keywords as knobs (knobs.{name})"
    if kind is OwnSweepConfig and name in PlainTrainConfig.model_fields:
        return f"give it as train.{name}"
    if kind is SweepConfig and name == "knobs":
        return "they are those of a model of one's own: name it too, model: file.py:function"
    return f"no such key; near: {near(name, kind.model_fields)}"


def read_config(path: str | Path) -> AnyConfig:
    """The config in a YAML or JSON file; a relative path of its `model` is found beside it.

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
    found = parse_config(raw, str(path))
    return found if isinstance(found, SweepConfig) else _beside(found, path)


def _beside(found: OwnSweepConfig | OwnAtGammaConfig, path: Path) -> OwnSweepConfig | OwnAtGammaConfig:
    """The config with the path of its model as seen from the file's folder."""
    source, _, name = found.model.rpartition(":")
    if not source.endswith(".py"):
        return found
    whole = (path.resolve().parent / Path(source).expanduser()).resolve()
    return found.model_copy(update={"model": f"{whole}:{name}"})


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
