"""What a monitor has recorded: tables of numbers and events, read from its folder at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.monitoring.folder import SETTINGS
from geomfeat.monitoring.row import LAYER, NETWORK, Event, Row
from geomfeat.monitoring.rows_file import ROWS, read
from geomfeat.storage.owned_files import as_path

DRAWN = {"richness": "demand R", "movement": "movement M", "kernel_demand": "kernel demand kappa"}
FIRST = ("step", "session", "layer", "regime")


@dataclass(frozen=True, eq=False)
class Monitored(PlottableResult):
    """The record of a training.

    Attributes:
        table: a row for the network, layer "", and one for each layer, at every measured step. Columns: step, session
            (counts resumptions), layer, regime; richness R, movement M and excess E in decades, see `Location`; for
            the network also loss (of the training, as it was given), worst_loss (the largest since the row before),
            probe_loss, held_out_loss, rate, kernel_demand (decades), kernel_change |K - K_0| / |K_0|, kernel_size
            |K| / |K_0|, kernel_turn (angle between K and K_0, radians), weight_change |w - w_0| / |w_0|; for layers
            spread and dead (see the page) and the registered measures; seconds that the measurement took, trained
            (seconds of training before it), and a note.
        events: step, kind, layer, text: early warnings, in order.
        name: of the folder. notes: what limits the numbers.
    """

    table: pd.DataFrame
    events: pd.DataFrame
    name: str = ""
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in forward order."""
        return tuple(name for name in dict.fromkeys(self.table["layer"]) if name)

    @property
    def network(self) -> pd.DataFrame:
        """The rows of the network."""
        return pd.DataFrame(self.table[self.table["layer"] == ""])

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def __str__(self) -> str:
        own = self.network
        if own.empty:
            return f"Monitored: {self.name or 'a training'}, no measurement yet"
        last = own.iloc[-1]
        steps = f"{len(own)} measurements from step {own['step'].min()} to {own['step'].max()}"
        row = Row(int(last["step"]), 0, {q: float(last[q]) for q in NETWORK if q in last}, regime=str(last["regime"]))
        lines = [f"Monitored: {self.name + ': ' if self.name else ''}{steps}", f"  {row.line()}"]
        lines += [f"  step {step}: {text}" for step, text in zip(self.events["step"], self.events["text"], strict=True)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _chart(self) -> Plot:
        own = self.network
        curves = [
            Curve(label, own["step"].tolist(), [v if math.isfinite(v) else math.nan for v in own[name]])
            for name, label in DRAWN.items()
            if name in own
        ]
        return Plot(self.name or "training", "step", "decades", curves)


def load_monitored(folder: str | Path) -> Monitored:
    """What a monitor has recorded in a folder, also while its training runs.

    Raises BadInput for a folder without a monitor.
    """
    path = as_path(folder, "folder")
    if not (path / SETTINGS).is_file():
        raise BadInput(f"{path} holds no {SETTINGS}: name the folder= of a Monitor")
    rows, events, cut = read(path / ROWS) if (path / ROWS).is_file() else ([], [], 0)
    notes = (f"{cut} lines of {ROWS} were cut while they were written, and are left out",) if cut else ()
    return monitored(rows, events, path.name, notes)


def monitored(rows: Sequence[Row], events: Sequence[Event], name: str = "", notes: Sequence[str] = ()) -> Monitored:
    """The tables of these rows, without those that a resumed training has done again."""
    kept = in_force(rows)
    found = events_in_force(kept, events)
    columns = ["step", "session", "kind", "layer", "text"]
    listed = [(e.step, e.session, e.kind, e.layer, e.text) for e in found]
    return Monitored(_table(kept), pd.DataFrame(listed, columns=columns), name, tuple(notes))


def in_force(rows: Sequence[Row]) -> list[Row]:
    """The rows, less those of a session at and after the step from which a later one began."""
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(row.session, row.step)
    later = {s: min((at for other, at in first.items() if other > s), default=math.inf) for s in first}
    return [row for row in rows if row.step < later[row.session]]


def events_in_force(rows: Sequence[Row], events: Sequence[Event]) -> list[Event]:
    """The events of these rows."""
    known = {(row.step, row.session) for row in rows}
    return [event for event in events if (event.step, event.session) in known]


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    table = pd.DataFrame([record for row in rows for record in row.records()])
    usual = [*FIRST, *NETWORK, *(q for q in LAYER if q not in NETWORK)]
    others = [c for c in table.columns if c not in (*usual, "seconds", "trained", "note")]
    table = table.reindex(columns=[*usual, *others, "seconds", "trained", "note"])
    return table.astype({"step": int, "session": int}) if len(table) else table
