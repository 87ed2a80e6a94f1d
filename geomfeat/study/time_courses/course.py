"""Numbers over time: their table and picture, paired differences between bins, areas and recordings, and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput, near, require_kind
from geomfeat.statistics.cluster_permutation import ClusterTest, cluster_test, exchange_test
from geomfeat.statistics.group_errors import LeftOut
from geomfeat.statistics.paired_numbers import values_of_parts
from geomfeat.study.time_courses.differences import Numbered, from_baseline, from_other, of_areas

PLACE = ("area", "area_b", "condition", "condition_b")
NAMED = (*PLACE, "measure", "quantity")
COLUMNS = ("time", *NAMED, "value", "stderr", "ok", "note")
BY_INFLUENCE = (
    "flips of each group's influence: exact for means over groups; probes and NC1 gave false clusters two to three "
    "times as often as asked for"
)


@dataclass(frozen=True, eq=False)
class TimeCourse(PlottableResult):
    """Numbers of every area in every time bin.

    Attributes:
        name: of the recording.
        table: time (seconds, the centre of the bin), area, area_b (or layer, of numbers of two), condition, condition_b
            (of trajectories), measure, quantity, value, stderr, ok, note; one row per number.
        notes: what was done to the recording, and what limits it.
        left_out: what the error of each row is made of, where it is over groups; for differences and tests.

    `to_frame()`: `table`. The picture is of the first quantity; of another, `course.select("nc1").plot()`.
    """

    name: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut | None, ...] = ()

    def select(
        self,
        measure: str | None = None,
        quantity: str | None = None,
        area: str | None = None,
        area_b: str | None = None,
        condition: str | None = None,
        condition_b: str | None = None,
    ) -> TimeCourse:
        """One measure, and one of its quantities, areas or conditions; BadInput for one that is not there."""
        table: Any = self.table
        for column, wanted in (
            ("measure", measure), ("quantity", quantity), ("area", area), ("area_b", area_b),
            ("condition", condition), ("condition_b", condition_b),
        ):  # fmt: skip
            if wanted is None:
                continue
            there = sorted(set(table[column]))
            if wanted not in there:
                raise BadInput(f"{column}={wanted!r} is not there; near: {near(wanted, there)}")
            table = table[table[column] == wanted]
        return self._of(table)

    def difference(
        self,
        other: TimeCourse | None = None,
        *,
        areas: tuple[str, str] | None = None,
        baseline: float | tuple[float, float] | None = None,
    ) -> TimeCourse:
        """Each number less its counterpart, with the error of a paired difference. Give one of the three.

        Args:
            other: a course of the same groups in the same bins: other conditions, shuffled labels, another session.
            areas: (a, b): numbers of area a less those of b. Either may be the partner (`area_b`) of numbers of two.
            baseline: seconds: each bin less this one; or (from, to): less the mean of the bins from a up to b.

        What a run adds to both numbers, and random draws that both share, drop out of the difference before anything is
        squared: leave-one-group-out values are subtracted one by one. Numbers without errors over groups give
        differences without errors, and say so. Raises BadInput for no counterpart, or groups that do not pair.

        >>> import torch
        >>> from geomfeat.recordings import Recording
        >>> from geomfeat.study import over_time
        >>> x = torch.randn(60, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> x[:, 0, 2] *= 6
        >>> spikes = Recording(x, ["a", "b"] * 30, run=[i // 10 for i in range(60)], time=[0.0, 0.1, 0.2])
        >>> change = over_time(spikes, "participation_ratio", progress=False).difference(baseline=0.0)
        >>> (change.table["value"] / change.table["stderr"]).round(1).tolist()[1:]
        [-0.2, -30.5]
        """
        if sum(given is not None for given in (other, areas, baseline)) != 1:
            raise BadInput("difference: give one of other=, areas= and baseline=")
        rows = self._rows_left()
        if other is not None:
            require_kind(other, TimeCourse, "other")
            found, name = from_other(rows, other._rows_left()), f"{self.name} minus {other.name}"
        elif areas is not None:
            found, name = of_areas(rows, areas), self.name
        else:
            assert baseline is not None
            found, name = from_baseline(rows, baseline), self.name
        return course_of(found, name, self.notes)

    def test(
        self,
        against: float = 0.0,
        *,
        forming_p: float = 0.05,
        error_rate: float = 0.05,
        n_permutations: int = 10_000,
        seed: int = 0,
    ) -> ClusterTest:
        """In which bins one number differs from `against`: cluster-based permutation test over the groups.

        The course must hold one number (`select` it first): a difference against 0, or an accuracy against chance. Each
        group gives one value in each bin (the number plus the group's influence on it), whose sign around `against` is
        flipped. Of cross-validated distances and speeds, the conditions are exchanged within groups
        instead, which is exact and one-sided. Options: see `cluster_test`.

        Flips are exact for numbers that are means over groups, and as good as the jackknife's error for others: probes,
        whose groups share fits, gave 11 % false clusters where 5 % were asked for, and NC1, which is heavy-tailed
        without any signal, 18 % (`benchmarks/over_time.py`).

        Raises BadInput for several numbers, numbers that failed or have no error over groups, and too few groups.
        """
        table: Any = self.table
        at = table.drop_duplicates(list(NAMED))[list(NAMED)]
        if len(at) != 1:
            raise BadInput(f"a test is of one number, the course holds {len(at)}: select() one, such as {_first(at)}")
        failed = table[~table["ok"]]
        if len(failed):
            row = failed.iloc[0]
            raise BadInput(f"{len(failed)} bins have no number to test, at {row['time']:g} s: {row['note']}")
        parts = [one for one in self.left_out if one is not None]
        if len(parts) < len(table) or not parts:
            raise BadInput(
                f"{at['measure'].iloc[0]!r} has no error over groups to test by: give the recording run, session or "
                "subject labels (each trial its own run where trials are independent)"
            )
        options: dict[str, Any] = {
            "forming_p": forming_p, "error_rate": error_rate, "n_permutations": n_permutations, "seed": seed
        }  # fmt: skip
        times = table["time"].to_numpy()
        grams = [one.gram.numpy() for one in parts if one.gram is not None]
        if len(grams) == len(parts) and against == 0:
            found = exchange_test(np.stack(grams), times, **options)
        else:
            values = np.stack([values_of_parts(one).numpy() for one in parts], 1) - against
            found = replace(cluster_test(values, times, **options), notes=(BY_INFLUENCE,))
        return replace(
            found, value=table["value"].to_numpy(), stderr=table["stderr"].to_numpy(), title=self.name,
            label=str(at["quantity"].iloc[0]).replace("_", " "),
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """The table: one row per number."""
        return self.table.copy()

    def _of(self, table: Any) -> TimeCourse:
        left = tuple(self.left_out[i] for i in table.index) if self.left_out else ()
        return replace(self, table=table.reset_index(drop=True), left_out=left)

    def _rows_left(self) -> list[Numbered]:
        left = self.left_out or (None,) * len(self.table)
        return list(zip(self.table.to_dict("records"), left, strict=True))

    def _chart(self) -> Plot:
        charts = charts_of(self)
        if not charts:
            raise BadInput(f"no number could be computed, so there is nothing to draw: {self.table['note'].iloc[0]}")
        first = charts[0]
        return replace(first, title=self.name or first.y_label)

    def __str__(self) -> str:
        table: Any = self.table
        times, failed = table["time"], int((~table["ok"]).sum())
        names, areas = (", ".join(dict.fromkeys(table[column])) for column in ("measure", "area"))
        head = f"{names} of {areas} in {times.nunique()} bins from {times.min():g} to {times.max():g} s"
        head += f", {failed} failed" * bool(failed)
        return "\n".join([head, *(f"  note: {note}" for note in self.notes)])


def charts_of(course: TimeCourse) -> list[Plot]:
    """A chart of each quantity: bands are one standard error, and numbers that failed are left out."""
    table: Any = course.table
    known = table[table["ok"]]
    plots = []
    for (measure, quantity), rows in known.groupby(["measure", "quantity"], sort=False):
        words = str(quantity).replace("_", " ")
        curves = [
            Curve(curve_name(place), good["time"].tolist(), good["value"].tolist(), _errors(good), "band")
            for place, good in rows.groupby(list(PLACE), sort=False)
        ]
        title = words if measure == quantity else f"{str(measure).replace('_', ' ')}: {words}"
        plots.append(Plot(title, "time (s)", words, curves))
    return plots


def course_of(rows: Sequence[Numbered], name: str, notes: tuple[str, ...]) -> TimeCourse:
    """A course of rows in any order, with what their errors are made of: by name in the given order, then by time."""
    empty = dict.fromkeys(PLACE, "")
    found = [{**empty, **row} for row, _ in rows]
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype({"value": "float64", "stderr": "float64", "ok": "bool"})
    table = table.sort_values([*NAMED, "time"], kind="stable", key=_in_given_order)
    left = tuple(rows[i][1] for i in table.index)
    return TimeCourse(name, table.reset_index(drop=True), notes, left)


def _in_given_order(column: Any) -> Any:
    """Sorts words by their first appearance, and times by size."""
    if column.name == "time":
        return column
    return column.map({word: i for i, word in enumerate(dict.fromkeys(column))})


def _errors(rows: Any) -> list[float] | None:
    return None if rows["stderr"].isna().all() else [0.0 if math.isnan(e) else e for e in rows["stderr"]]


def curve_name(place: Sequence[str]) -> str:
    """A curve's label from its area, partner and conditions.

    >>> curve_name(["V4", "conv1", "", ""]), curve_name(["V4", "", "a", "b"])
    ('V4 and conv1', 'V4, a and b')
    """
    area, area_b, condition, condition_b = place
    where = " and ".join(filter(None, (area, area_b)))
    return ", ".join(filter(None, (where, " and ".join(filter(None, (condition, condition_b))))))


def _first(at: Any) -> str:
    return "select(" + ", ".join(f"{name}={value!r}" for name, value in at.iloc[0].items() if value) + ")"
