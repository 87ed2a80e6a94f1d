"""Trajectories over training in the plane of two measures, and whether classes compress, trade or expand on the way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from geomfeat.comparison.relations.runs import Frame, check_known, trainings_of
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.capacity_floor import at_floor

Key = tuple[str, str, str]
COMPRESS, TRADE, EXPAND, STILL, CANNOT_TELL = "compress", "trade", "expand", "still", "cannot tell"
# Standard errors from which a change counts.
ERRORS = 2.0


def moment_of(at: str, last: float) -> float:
    """The step of a row: 0 for "init", `last` for "trained", NaN for a change.

    >>> moment_of("init", 500.0), moment_of("32", 500.0), moment_of("init->32", 500.0), moment_of("trained", 500.0)
    (0.0, 32.0, 32.0, 500.0)
    """
    end = at.split("->")[-1]
    if end == "init":
        return 0.0
    if end == "trained":
        return last
    return float(end) if end.isdigit() else math.nan


def trajectories(table: pd.DataFrame, **quantities: Key) -> pd.DataFrame:
    """Numbers of every training at all its moments, side by side: one row per training and moment, in order.

    Args:
        table: the tidy table of a sweep, with rows at steps (see `geomfeat.study`).
        quantities: name=(measure, quantity, layer), the columns to make; each comes with name_se.

    Returns training, step, the columns, and `complete`: whether all of them are numbers. Flagged numbers are NaN, and
    so are capacities at the floor, which do not measure separability. The last moment is the number of steps of the
    training; where that is not known, one after the last other moment.

    Raises BadInput for a name that the table does not have.

    >>> rows = [dict(run="a", seed=0, at=at, layer="", layer_b="", measure="m", quantity="v", value=v, stderr=0.1,
    ...              ok=True, note="") for at, v in (("trained", 3.0), ("8", 2.0), ("init", 1.0))]
    >>> trajectories(pd.DataFrame(rows), v=("m", "v", ""))[["step", "v"]].values.tolist()
    [[0.0, 1.0], [8.0, 2.0], [9.0, 3.0]]
    """
    if not quantities:
        raise BadInput("name at least one quantity, e.g. dimension=('capacity', 'dimension', 'fc1')")
    found = trainings_of(table)
    rows: Frame = _named(table, found.frame)
    parts = []
    for name, (measure, quantity, layer) in quantities.items():
        check_known([measure], set(rows["measure"]), "measure")
        of = rows[rows["measure"] == measure]
        check_known([quantity], set(of["quantity"]), f"quantity of {measure!r}")
        of = of[of["quantity"] == quantity]
        check_known([layer], set(of["layer"]), f"layer with {measure} {quantity}")
        of = of[(of["layer"] == layer) & of["layer_b"].isin(["", layer])]
        good = of["ok"].astype(bool) & ~of["note"].map(at_floor).astype(bool)
        error = of["stderr"] if "stderr" in of else pd.Series(np.nan, index=of.index)
        of = of.assign(**{name: of["value"].where(good), f"{name}_se": error.where(good)})
        parts.append(of.drop_duplicates(["training", "step"]).set_index(["training", "step"])[[name, f"{name}_se"]])
    # The copy joins the parts in memory: pandas warns of further columns beside a hundred parts.
    wide: Frame = pd.concat(parts, axis=1).copy().reset_index().dropna(subset=["step"])
    wide["complete"] = np.isfinite(wide[list(quantities)].to_numpy(float)).all(1)
    order = {name: i for i, name in enumerate(found.frame.index)}
    wide = wide.assign(order=wide["training"].map(order)).sort_values(["order", "step"]).drop(columns="order")
    return wide.reset_index(drop=True)


def courses(table: pd.DataFrame, layer: str, *, measure: str = "capacity") -> pd.DataFrame:
    """What dimension D and radius R of a layer's classes did from the first to the last moment, for every training.

    One row per training: `dimension` and `radius`, changes of log10, with standard errors, and `course`: "compress" (at
    least one falls and none rises, by two standard errors), "expand" (the reverse), "trade" (one for the other),
    "still", or "cannot tell" without two moments.
    """
    path: Frame = trajectories(table, dimension=(measure, "dimension", layer), radius=(measure, "radius", layer))
    rows = []
    for training, moments in path.groupby("training", sort=False):
        known = moments[moments["complete"]]
        row = {"training": training, "layer": layer}
        if len(known) < 2:
            rows.append({**row, "course": CANNOT_TELL})
            continue
        first, last = known.iloc[0], known.iloc[-1]
        changes = {}
        for name in ("dimension", "radius"):
            changes[name], changes[f"{name}_se"] = _log_change(
                float(first[name]), float(last[name]), float(first[f"{name}_se"]), float(last[f"{name}_se"])
            )
        rows.append({**row, **changes, "course": course_of(**changes)})
    columns = ["training", "layer", "dimension", "dimension_se", "radius", "radius_se", "course"]
    return pd.DataFrame(rows, columns=columns)


def course_of(dimension: float, radius: float, dimension_se: float = 0.0, radius_se: float = 0.0) -> str:
    """The word for two changes of log10; standard errors that are not known (NaN) count as 0.

    >>> course_of(-0.3, -0.1), course_of(-0.3, 0.1), course_of(0.3, 0.1), course_of(-0.3, 0.1, radius_se=0.2)
    ('compress', 'trade', 'expand', 'compress')
    """
    pairs = ((dimension, dimension_se), (radius, radius_se))
    if any(math.isnan(change) for change, _ in pairs):
        return CANNOT_TELL
    signs = {change > 0 for change, se in pairs if abs(change) > ERRORS * (0.0 if math.isnan(se) else se)}
    if not signs:
        return STILL
    if len(signs) == 2:
        return TRADE
    return EXPAND if True in signs else COMPRESS


def _log_change(a: float, b: float, a_se: float, b_se: float) -> tuple[float, float]:
    if a <= 0 or b <= 0:
        return math.nan, math.nan
    return math.log10(b / a), math.hypot(a_se / a, b_se / b) / math.log(10)


def _named(table: Frame, frame: Frame) -> Frame:
    """The rows with the name of their training and their step."""
    names = frame.reset_index().set_index(["run", "seed"])["training"]
    training = pd.MultiIndex.from_frame(table[["run", "seed"]]).map(names.to_dict())
    rows = table.assign(training=training)
    steps = rows["at"].map(lambda at: moment_of(str(at), math.nan))
    last = rows["training"].map(frame["steps"])
    after = rows["training"].map(steps.groupby(rows["training"]).max()).fillna(0.0) + 1
    return rows.assign(step=steps.where(~rows["at"].str.endswith("trained"), last.fillna(after)))
