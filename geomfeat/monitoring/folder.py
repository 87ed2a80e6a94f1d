"""The folder of a monitor: settings, initial weights and rows. It can be opened again by the same training only."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat._version import __version__
from geomfeat.errors import BadInput, OutputExists
from geomfeat.models.nested_inputs import map_inputs
from geomfeat.models.weights.checkpoints import load_weights, save_weights
from geomfeat.monitoring.row import Event, Row
from geomfeat.monitoring.rows_file import ROWS, append, read
from geomfeat.storage.atomic import read_json
from geomfeat.storage.owned_files import as_path, json_text, make_folder, replace_file, require_own

SETTINGS, INITIAL, TABLE, PAGE = "monitor.json", "initial.safetensors", "table.parquet", "monitor.html"
# Two networks that were drawn apart differ by about 1.4 of their size; a training that is resumed is about as far from
# its start as when it was last seen.
FURTHER, AT_LEAST = 3.0, 0.3


@dataclass(frozen=True, eq=False)
class MonitorFolder:
    """A folder, what it holds already, and the number of this session."""

    path: Path
    settings: Mapping[str, Any] | None
    rows: tuple[Row, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> MonitorFolder:
        """What is there: nothing, or a monitor's. Raises OutputExists for files of the user's in the places of its."""
        folder = make_folder(as_path(path, "folder"))
        require_own(
            folder / name for name in (SETTINGS, INITIAL, TABLE, ROWS, PAGE)
            if (folder / name).exists() and (folder / name).stat().st_size
        )  # fmt: skip
        if not (folder / SETTINGS).exists():
            if (folder / ROWS).exists() and (folder / ROWS).stat().st_size:
                raise OutputExists(f"{folder / ROWS} has no {SETTINGS} beside it: name another folder")
            return cls(folder, None)
        try:
            settings = read_json(folder / SETTINGS)
        except ValueError as cause:
            raise BadInput(f"{folder / SETTINGS} is damaged ({cause}): name another folder") from cause
        rows = read(folder / ROWS)[0] if (folder / ROWS).exists() else []
        return cls(folder, settings, tuple(rows))

    @property
    def session(self) -> int:
        """Number of the session that begins now."""
        return 0 if self.settings is None or not self.rows else max(row.session for row in self.rows) + 1

    @property
    def is_streamed(self) -> bool:
        """Whether the initial weights are in a file of the user's."""
        return bool((self.settings or {}).get("initial"))

    @property
    def initial(self) -> Path:
        """The file with the initial weights."""
        own = None if self.settings is None else self.settings.get("initial")
        return self.path / INITIAL if own is None else Path(own)

    def initial_model(self, copy: nn.Module) -> nn.Module:
        """`copy`, with the initial weights of this folder. Raises OutputExists for another network's."""
        try:
            return load_weights(copy, self.initial)
        except BadInput as cause:
            raise OutputExists(
                f"{self.path} is the monitor of another network ({cause}): name another folder"
            ) from cause

    def require_same(self, settings: Mapping[str, Any]) -> None:
        """OutputExists that names the first setting in which this folder was made by another training."""
        for name, value in settings.items():
            there = (self.settings or {}).get(name)
            if name not in ("version", "initial") and there != value:
                raise OutputExists(
                    f"{self.path} is the monitor of another training: its {name} is {_short(there)}, here "
                    f"{_short(value)}. Name another folder"
                )

    def require_resumed(self, moved: float) -> None:
        """OutputExists for weights that are `moved` of their size away from the start, further than a resumption is."""
        seen = [w for row in self.rows if math.isfinite(w := row.get("weight_change"))]
        most = max(AT_LEAST, FURTHER * max(seen, default=0.0))
        if moved > most:
            raise OutputExists(
                f"{self.path} is the monitor of another training: these weights differ by {moved:.2g} of their size "
                f"from its initial ones, and by {max(seen, default=0.0):.2g} at most when it was last seen. Name "
                "another folder"
            )

    def begin(self, model: nn.Module, settings: Mapping[str, Any]) -> None:
        """Write the initial weights, if they are to be kept here, and then the settings."""
        if settings["initial"] is None:
            save_weights(model, self.path / INITIAL)
        text = json_text(settings, indent=2)
        replace_file(self.path / SETTINGS, lambda draft: draft.write_text(text, encoding="utf-8"))

    def add(self, record: Row | Event) -> None:
        """Append a line."""
        append(self.path / ROWS, record.to_record())


def settings_of(
    model: nn.Module, inputs: Any, layers: tuple[str, ...], measures: tuple[str, ...], kernel: str, initial: str | None
) -> dict[str, Any]:
    """What a training must have in common with a folder's to go on in it."""
    shapes = sorted((name, tuple(p.shape)) for name, p in model.named_parameters())
    return {
        "version": __version__,
        "model": type(model).__name__,
        "parameters": hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16],
        "probes": _sum_of(inputs),
        "layers": list(layers),
        "measures": list(measures),
        "kernel": kernel,
        "initial": initial,
    }


def _sum_of(inputs: Any) -> str:
    """SHA-256 of the probes."""
    sums = hashlib.sha256()

    def add(t: Tensor) -> Tensor:
        sums.update(str(tuple(t.shape)).encode())
        plain = t.detach().cpu().contiguous()
        sums.update((plain.view(torch.uint8) if plain.ndim else plain[None].view(torch.uint8)).numpy().tobytes())
        return t

    map_inputs(inputs, add)
    return sums.hexdigest()[:16]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
