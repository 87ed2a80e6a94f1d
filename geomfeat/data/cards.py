"""Data cards: what a data set, packaged model or shipped experiment is, where it comes from, what to know before use.

A card is Markdown with YAML front matter between two lines of three dashes; the front matter follows `Card`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from geomfeat.errors import BadInput


class Card(BaseModel):
    """The front matter of a card. Unknown fields are errors, so that a typing mistake cannot hide a fact.

    Attributes:
        name: short name, equal to the file's. kind: "data", "model" or "experiment". spec: what `load_data` takes, if
            it does. samples, features: of a data set; features is the shape of one sample. parameters: of a model.
            samples, command: of an experiment, its trainings and what makes them again.
        splits: name -> samples. sha256: of the file as distributed here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str = Field(min_length=5)
    kind: Literal["data", "model", "experiment"] = "data"
    version: str = Field(min_length=1)
    source: str = Field(min_length=5)
    licence: str = Field(min_length=2)
    citation: str = Field(min_length=10)
    samples: PositiveInt | None = None
    features: tuple[PositiveInt, ...] = ()
    parameters: PositiveInt | None = None
    classes: tuple[str, ...] = ()
    splits: dict[str, PositiveInt] = Field(default_factory=dict)
    preprocessing: str = Field(min_length=5)
    known_issues: tuple[str, ...] = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    spec: str | None = None
    command: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if self.kind == "data" and (self.samples is None or not self.features):
            raise ValueError("a card of kind 'data' needs samples and features")
        if self.kind == "model" and self.parameters is None:
            raise ValueError("a card of kind 'model' needs parameters")
        if self.kind == "experiment" and (self.samples is None or self.command is None):
            raise ValueError("a card of kind 'experiment' needs samples and command")
        if self.splits and sum(self.splits.values()) != self.samples:
            raise ValueError(f"the splits hold {sum(self.splits.values())} samples, but samples is {self.samples}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes are named twice")
        return self


def parse_card(text: str, where: str = "the card") -> tuple[Card, str]:
    """(front matter, Markdown body) of a card's text; BadInput lists every field that is wrong, by name."""
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        raise BadInput(f"{where} does not start with YAML front matter between two lines of '---'")
    front, body = text[4:].split("\n---\n", 1)
    try:
        fields = yaml.safe_load(front)
        if not isinstance(fields, dict):
            raise BadInput(f"{where}: the front matter is {type(fields).__name__}, not fields")
        return Card(**fields), body.strip()
    except yaml.YAMLError as cause:
        raise BadInput(f"{where}: the front matter is not YAML: {cause}") from cause
    except (ValidationError, TypeError) as cause:
        raise BadInput(f"{where} is not a valid card: {_reasons(cause)}") from cause


def _reasons(cause: ValidationError | TypeError) -> str:
    if isinstance(cause, TypeError):
        return str(cause)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in cause.errors())


def read_card(path: str | Path) -> tuple[Card, str]:
    """(front matter, Markdown body) of a card file. Its name must be the card's.

    Raises BadInput for a missing file, text that is not a card, or fields that do not fit `Card`.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no such card: {str(path)!r}")
    card, body = parse_card(path.read_text(encoding="utf-8"), str(path))
    if card.name != path.stem:
        raise BadInput(f"{str(path)!r} describes {card.name!r}: name the file {card.name}.md")
    return card, body
