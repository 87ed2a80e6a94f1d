"""Time courses as rows of a study's table, beside the numbers of the whole recording."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isnan
from typing import Any

import pandas as pd

from geomfeat._version import __version__
from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.recordings import Recording
from geomfeat.study.part_cache import Parts, fingerprint
from geomfeat.study.recorded_measures import plan_of
from geomfeat.study.table import row, table_of
from geomfeat.study.time_courses._over_time import over_time
from geomfeat.study.time_courses._trajectories import ALL_PAIRS, trajectories
from geomfeat.study.time_courses.course import COLUMNS, NAMED, TimeCourse
from geomfeat.types import Estimate

OVER_TIME = "over time"
TRAJECTORIES = "trajectories"
# Measured in every bin unless others are named: what takes milliseconds, and says when and how areas differ.
OF_AREAS = ("linear_probe_accuracy", "participation_ratio")
OF_PAIRS = ("cka_linear_unbiased",)
MOST_BINS = 50
EXTRA = ("time", "condition", "condition_b")
TESTED = "squared_distance"


def chosen(recording: Recording, wanted: Sequence[str] | str | None) -> tuple[str, ...]:
    """Measures of every bin, and "trajectories"; BadInput for one that a recording over time does not allow."""
    if wanted is None or (wanted == "auto" and (recording.time is None or len(recording.time) < 2)):
        return ()
    several = len(recording.conditions) > 1
    if wanted == "auto":
        names = (*(OF_AREAS if several else OF_AREAS[1:]), *(OF_PAIRS if len(recording.areas) > 1 else ()))
        return (*names, TRAJECTORIES) if several else names
    names = (wanted,) if isinstance(wanted, str) else tuple(dict.fromkeys(wanted))
    measures = [name for name in names if name != TRAJECTORIES]
    if measures:
        plan_of(measures, several)
    return names


def with_courses(
    table: pd.DataFrame,
    recording: Recording,
    wanted: Sequence[str],
    *,
    groups: str | None,
    seed: int,
    parts: Parts,
    progress: bool,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table with the rows of every bin, and what the settings say of them: bins, measures, significant clusters."""
    if not wanted:
        return table, {}
    binned, note = few_bins(recording)
    known = (binned.x, binned.time, recording.condition.tolist(), recording.groups_by(groups), recording.area is None)
    areas = None if recording.area is None else recording.area.tolist()
    rows, clusters, failures = [], [], []
    for name in wanted:
        key = fingerprint(__version__, OVER_TIME, name, seed, known, areas)
        found = parts.get(key)
        if not isinstance(found, dict):
            try:
                course = (
                    trajectories(binned, groups=groups) if name == TRAJECTORIES
                    else over_time(binned, name, groups=groups, seed=seed, progress=progress)
                )  # fmt: skip
            except GeomfeatError as cause:
                failures.append(f"{name}: {cause}")
                continue
            found = {"rows": course.table.to_dict("records"), "clusters": _clusters(course)}
            parts.put(key, found)
        rows += found["rows"]
        clusters += found["clusters"]
    facts = {"bins": binned.x.shape[2], "measures": list(wanted), "notes": [*([note] if note else []), *failures],
             "clusters": clusters}  # fmt: skip
    return _joined(table, rows, recording.n_trials), {"over_time": facts}


def course_in(table: pd.DataFrame, name: str) -> TimeCourse | None:
    """The rows of time bins in a study's table as a course; None where there are none."""
    rows: Any = table[table["at"] == OVER_TIME] if "time" in table else table[:0]
    if not len(rows):
        return None
    rows = rows.rename(columns={"layer": "area", "layer_b": "area_b"})[list(COLUMNS)].reset_index(drop=True)
    return TimeCourse(name, rows)


def few_bins(recording: Recording) -> tuple[Recording, str]:
    """The recording in at most so many bins, and what was done."""
    assert recording.time is not None
    count = len(recording.time)
    if count <= MOST_BINS:
        return recording, ""
    span = float(recording.time[-1] - recording.time[0]) * count / (count - 1)
    width = ceil(span / MOST_BINS / float(recording.time.diff().median())) * float(recording.time.diff().median())
    try:
        binned = recording.bins(width)
    except BadInput as cause:  # steps differ so much that a bin would be empty
        return recording, f"measured at all {count} time points, since bins cannot be made: {cause}"
    assert binned.time is not None
    return binned, f"{count} time points were averaged to {len(binned.time)} bins of {width:g} s"


def _clusters(course: TimeCourse) -> list[dict[str, Any]]:
    """When conditions are apart: significant clusters of each area's distance over all pairs, or of the only pair."""
    table: Any = course.table
    rows = table[table["quantity"] == TESTED]
    rows = rows[rows["condition"] == ALL_PAIRS] if (rows["condition"] == ALL_PAIRS).any() else rows
    found: list[dict[str, Any]] = []
    for place in rows[list(NAMED)].drop_duplicates().to_dict("records"):
        try:
            test = course.select(**place).test()
        except GeomfeatError:  # fewer groups than a test needs, or a bin that failed, which its row says
            continue
        found += [{**place, "start": one.start, "stop": one.stop, "p": one.p} for one in test.found]
    return found


def _joined(table: pd.DataFrame, rows: Sequence[dict[str, Any]], n: int) -> pd.DataFrame:
    if not rows:
        return table
    made = [
        row(
            one["quantity"],
            Estimate(one["value"], None if isnan(one["stderr"]) else one["stderr"], ok=one["ok"], note=one["note"]),
            at=OVER_TIME, n=n, layer=one["area"], layer_b=one["area_b"], measure=one["measure"],
        )
        for one in rows
    ]  # fmt: skip
    first = table.iloc[0]
    timed = table_of(made, run=first["run"], seed=first["seed"], conditions={}, version=first["version"])
    for name in EXTRA:
        timed[name] = [one[name] for one in rows]
    whole = table.assign(time=float("nan"), condition="", condition_b="")
    joined = pd.concat([whole, timed], ignore_index=True)
    return joined.astype({"condition": "str", "condition_b": "str"})
