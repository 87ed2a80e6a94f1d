"""One measurement of a training: numbers of the network and of its layers at a step, as a line of JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geomfeat.display import BaseResult

if TYPE_CHECKING:
    import pandas as pd

# Quantities of the network, in the order of tables; those of layers are richness, movement, excess, spread and dead.
NETWORK = (
    "loss", "worst_loss", "probe_loss", "held_out_loss", "rate", "richness", "movement", "excess", "kernel_demand",
    "kernel_change", "kernel_size", "kernel_turn", "weight_change",
)  # fmt: skip
LAYER = ("richness", "movement", "excess", "spread", "dead")


@dataclass(frozen=True, eq=False)
class Row(BaseResult):
    """A step of a training.

    Attributes:
        step: of the optimizer. session: 0, and one more for every time that the training was resumed.
        network: quantity -> number, see `Monitored`. layers: layer -> quantity -> number.
        regime: the word for where the network is, "" where it is not known.
        seconds: that the measurement took. trained: seconds of training so far, in this session.
        note: why numbers are missing, "" where none are.
    """

    step: int
    session: int
    network: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    regime: str = ""
    seconds: float = 0.0
    trained: float = 0.0
    note: str = ""

    def get(self, name: str) -> float:
        """A number of the network; NaN where there is none."""
        return self.network.get(name, math.nan)

    def of_layer(self, layer: str, name: str) -> float:
        """A number of a layer; NaN where there is none."""
        return self.layers.get(layer, {}).get(name, math.nan)

    def to_record(self) -> dict[str, Any]:
        """For a line of JSON: NaN is null, and infinities are "inf" and "-inf"."""
        return {
            "step": self.step, "session": self.session, "network": _written(self.network),
            "layers": {name: _written(of) for name, of in self.layers.items()}, "regime": self.regime,
            "seconds": self.seconds, "trained": self.trained, "note": self.note,
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Row:
        """The inverse of `to_record`; KeyError, TypeError or ValueError for something else."""
        layers = {str(name): _read(of) for name, of in record["layers"].items()}
        return cls(
            int(record["step"]), int(record["session"]), _read(record["network"]), layers, str(record["regime"]),
            float(record["seconds"]), float(record["trained"]), str(record["note"]),
        )  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        """A row of a table for the network, layer "", and one for each layer."""
        about = {"step": self.step, "session": self.session}
        rest = {"seconds": self.seconds, "trained": self.trained, "note": self.note}
        layers = [{**about, "layer": name, "regime": "", **of, "note": ""} for name, of in self.layers.items()]
        return [{**about, "layer": "", "regime": self.regime, **self.network, **rest}, *layers]

    def to_frame(self) -> pd.DataFrame:
        """The network, layer "", and its layers."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def __str__(self) -> str:
        return self.line()

    def numbers(self) -> dict[str, float]:
        """Finite numbers by name, those of a layer as "quantity/layer"."""
        flat = dict(self.network) | {f"{q}/{layer}": v for layer, of in self.layers.items() for q, v in of.items()}
        return {name: value for name, value in flat.items() if math.isfinite(value)}

    def line(self) -> str:
        """A few words: step, loss, R, kernel demand, M, E and the regime.

        >>> Row(20, 0, {"loss": 0.5, "richness": -1.0, "movement": -1.1, "excess": -0.1}, regime="lazy").line()
        'step 20: loss 0.5, R -1.00, M -1.10, E -0.10, lazy'
        """
        signed = {"richness": "R", "kernel_demand": "kappa", "movement": "M", "excess": "E"}
        parts = [f"loss {self.get('loss'):.4g}"] if "loss" in self.network else []
        parts += [f"{word} {self.get(name):+.2f}" for name, word in signed.items() if math.isfinite(self.get(name))]
        change = self.get("kernel_change")
        parts += [f"kernel change {change:.2g}"] if math.isfinite(change) else []
        parts += [self.regime] if self.regime else []
        parts += [self.note] if self.note else []
        return f"step {self.step}: {', '.join(parts)}"


@dataclass(frozen=True)
class Event(BaseResult):
    """Something that a reader should know of: its kind, the step and the layer ("" for the network), in a sentence."""

    step: int
    kind: str
    text: str
    layer: str = ""
    session: int = 0

    def to_record(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {
            "event": self.kind, "step": self.step, "session": self.session, "layer": self.layer, "text": self.text
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Event:
        """The inverse of `to_record`."""
        return cls(
            int(record["step"]), str(record["event"]), str(record["text"]), str(record["layer"]), int(record["session"])
        )


def _written(numbers: Mapping[str, float]) -> dict[str, Any]:
    return {
        name: None if math.isnan(v) else float(v) if math.isfinite(v) else str(float(v)) for name, v in numbers.items()
    }


def _read(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): math.nan if value is None else float(value) for name, value in numbers.items()}
