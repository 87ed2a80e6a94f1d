"""Measures of a recording in every time bin: when geometry changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput, near, require_kind
from geomfeat.numerics import whole_seed
from geomfeat.recordings import Recording
from geomfeat.study.measure_rows import measure_layers
from geomfeat.study.recordings import in_words, plan_of

COLUMNS = ("time", "area", "measure", "quantity", "value", "stderr", "ok", "note")


@dataclass(frozen=True, eq=False)
class TimeCourse(PlottableResult):
    """Numbers of every area in every time bin.

    Attributes:
        name: of the recording.
        table: time (seconds, the centre of the bin), area, measure, quantity, value, stderr, ok, note; one row per
            number.
        notes: what was done to the recording, and what limits it.

    `to_frame()`: `table`. The picture is of the first quantity; of another, `course.select("nc1").plot()`.
    """

    name: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def select(self, measure: str, quantity: str | None = None, area: str | None = None) -> TimeCourse:
        """One measure, and one of its quantities or areas; BadInput for one that is not there."""
        table: Any = self.table
        for column, wanted in (("measure", measure), ("quantity", quantity), ("area", area)):
            if wanted is None:
                continue
            if wanted not in set(table[column]):
                raise BadInput(f"{column}={wanted!r} is not there; near: {near(wanted, sorted(set(table[column])))}")
            table = table[table[column] == wanted]
        return replace(self, table=table.reset_index(drop=True))

    def to_frame(self) -> pd.DataFrame:
        """The table: one row per number."""
        return self.table.copy()

    def _chart(self) -> Plot:
        table: Any = self.table
        known = table[table["ok"]]
        if not len(known):
            raise BadInput(f"no number could be computed, so there is nothing to draw: {table['note'].iloc[0]}")
        first = known.iloc[0]
        rows = table[(table["measure"] == first["measure"]) & (table["quantity"] == first["quantity"])]
        curves = []
        for area, mine in rows.groupby("area", sort=False):
            good = mine[mine["ok"]]
            error = None if good["stderr"].isna().all() else good["stderr"].fillna(0.0).tolist()
            curves.append(Curve(str(area), good["time"].tolist(), good["value"].tolist(), error))
        words = str(first["quantity"]).replace("_", " ")
        return Plot(self.name or words, "time (s)", words, curves)

    def __str__(self) -> str:
        table: Any = self.table
        times, failed = table["time"], int((~table["ok"]).sum())
        names, areas = (", ".join(dict.fromkeys(table[column])) for column in ("measure", "area"))
        head = f"{names} of {areas} in {times.nunique()} bins from {times.min():g} to {times.max():g} s"
        head += f", {failed} failed" * bool(failed)
        return "\n".join([head, *(f"  note: {note}" for note in self.notes)])


def over_time(
    recording: Recording,
    measures: Sequence[str] | str,
    *,
    groups: str | None = "auto",
    seed: int = 0,
    progress: bool = True,
) -> TimeCourse:
    """Measures of layers in every time bin of a recording, area by area, with the same random draws in all bins.

    Args:
        recording: with a time axis; `recording.bins(width)` makes wider bins, which are fewer and less noisy.
        measures: names of measures of layers, see `geomfeat.list_measures`. groups: see `analyze_recording`.

    As trials, runs and draws are the same in all bins, numbers of two bins differ by less than their errors say. Raises
    BadInput for a recording without a time axis, and measures that are of networks, or of two layers.

    >>> import torch
    >>> x = torch.randn(40, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> x[:, :, 2:] += 5 * torch.eye(6).double()[[0, 1] * 20][:, :, None]  # conditions differ from 0.2 s on
    >>> spikes = Recording(x, ["a", "b"] * 20, time=[0.0, 0.1, 0.2, 0.3])
    >>> [value < 0.2 for value in over_time(spikes, "nc1", progress=False).table["value"]]
    [False, False, True, True]
    """
    require_kind(recording, Recording, "recording")
    if recording.time is None:
        raise BadInput("the recording has no time axis, x is (trials, units): for one number use analyze_recording")
    plan = plan_of(measures, len(recording.conditions) > 1)
    if plan.pairs:
        raise BadInput(f"measure {plan.pairs[0].name!r} is of two layers: over time, measures of one are taken")
    word = recording.group_word if groups == "auto" else groups
    found: list[dict[str, Any]] = []
    times = recording.time.tolist()
    with tqdm(times, desc="bins", disable=not progress) as bar:
        for k, time in enumerate(bar):
            now = replace(recording, x=recording.x[:, :, k], time=None)
            for area, layer in now.to_representations(groups=groups).items():
                for m in plan.layer:
                    rows = measure_layers(m, layer, seed=whole_seed(seed), at="recorded")
                    found += [
                        {"time": time, "area": area, **{name: row[name] for name in COLUMNS[2:-1]},
                         "note": in_words(row["note"], word)}
                        for row in rows
                    ]  # fmt: skip
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype({"value": "float64", "stderr": "float64", "ok": "bool"})
    table = table.sort_values(["area", "measure", "quantity", "time"], kind="stable", key=_given_order(found))
    return TimeCourse(recording.name, table.reset_index(drop=True), (*recording.notes, *recording.flags))


def _given_order(found: Sequence[dict[str, Any]]) -> Any:
    """Sorts words by their first appearance, and times by size."""

    def key(column: Any) -> Any:
        if column.name == "time":
            return column
        order = {word: i for i, word in enumerate(dict.fromkeys(row[column.name] for row in found))}
        return column.map(order)

    return key
