"""Values in a sweep's config: numbers with their bounds, names that must be known, ranges, and lists of these."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)  # fmt: skip

from geomfeat.errors import near

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """A part of a config: frozen, without further keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Strict):
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

    def values(self, count: int) -> list[Any]:
        """So many values, evenly spaced, both ends included."""
        return [self.at(i / (count - 1)) for i in range(count)]


class WholeRange(Range):
    """A range of which both ends are written as whole numbers: its values are the nearest whole ones, each once."""

    low: StrictInt
    high: StrictInt

    def at(self, share: float) -> int:
        """The whole number nearest to the value at this share of the way.

        >>> WholeRange(low=2, high=4).values(3)
        [2, 3, 4]
        """
        return round(super().at(share))

    def values(self, count: int) -> list[Any]:
        """The different ones among so many values."""
        return list(dict.fromkeys(super().values(count)))


def one_of(known: Collection[str]) -> AfterValidator:
    """Checks that a name is one of these; the error for another one suggests the nearest."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"not one of {', '.join(known)}; near: {near(name, known, 2)}")
        return name

    return AfterValidator(check)


def names(known: Collection[str]) -> WithJsonSchema:
    """In the schema: one of these names."""
    return WithJsonSchema({"type": "string", "enum": list(known)})


def _number_in_text(value: Any) -> Any:
    """1e-3, which YAML reads as text, as the number that it is; other values as they are.

    >>> _number_in_text("1e-3"), _number_in_text("e3")
    (0.001, 'e3')
    """
    written = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if written else value


Name = Annotated[str, Field(min_length=1)]
DEVICES = r"auto|cpu|cuda(:\d+)?"
Device = Annotated[str, Field(pattern=rf"^({DEVICES})$")]
Some = Field(min_length=1)
Numbers = Positive | Annotated[list[Positive], Some] | Range
Reals = Finite | Annotated[list[Finite], Some] | Range
Sizes = PositiveInt | Annotated[list[PositiveInt], Some]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rates = Positive | Annotated[list[Positive | None], Some] | Range
Plain = Annotated[
    StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictStr | None,
    BeforeValidator(_number_in_text),
]
Knob = Plain | Annotated[list[Plain], Some] | WholeRange | Range
