"""What every source of a model gives: the trained network, fresh draws of it, and the same with other weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.weights.checkpoints import load_weights


class Source(Protocol):
    """Where a model comes from."""

    @property
    def spec(self) -> str:
        """What names it."""
        ...

    @property
    def has_weights(self) -> bool:
        """Whether `load` gives trained weights, rather than those that the model is built with."""
        ...

    @property
    def tokenizer(self) -> Path | None:
        """The folder in which its tokenizer is looked for, if it comes from one."""
        ...

    def load(self) -> nn.Module:
        """The trained network."""
        ...

    def fresh(self) -> nn.Module:
        """A network of the same architecture with initial weights, drawn from torch's global generator."""
        ...

    def at(self, weights: Path) -> nn.Module:
        """The same network at another moment of its training."""
        ...

    def start(self, weights: Path) -> nn.Module:
        """The network with the weights that training began from."""
        ...

    def pretrained(self) -> nn.Module:
        """The model that was fine-tuned; BadInput where that is not known."""
        ...

    def pretrained_files(self) -> list[Path]:
        """The files that `pretrained` reads."""
        ...

    def in_pretrained_weights(self) -> Self:
        """The same network with the weights of the model that was fine-tuned: an adapter is merged into them."""
        ...

    def files(self) -> list[Path]:
        """All files that decide what it is."""
        ...


@dataclass(frozen=True)
class Factory:
    """A function that builds a network, of the user's or of a library, and its trained weights. See `Source`."""

    spec: str
    build: Callable[[], nn.Module]
    weights: Path | None = None

    @property
    def has_weights(self) -> bool:
        return self.weights is not None

    @property
    def tokenizer(self) -> Path | None:
        return None

    def load(self) -> nn.Module:
        return self.build() if self.weights is None else self.at(self.weights)

    def fresh(self) -> nn.Module:
        return self.build()

    def at(self, weights: Path) -> nn.Module:
        return load_weights(self.build(), weights)

    def start(self, weights: Path) -> nn.Module:
        return self.at(weights)

    def pretrained(self) -> nn.Module:
        raise BadInput(
            f"initial='pretrained': {self.spec!r} does not say what it was fine-tuned from: give the file of these "
            "weights as initial"
        )

    def pretrained_files(self) -> list[Path]:
        self.pretrained()
        return []

    def in_pretrained_weights(self) -> Factory:
        return self

    def files(self) -> list[Path]:
        return []
