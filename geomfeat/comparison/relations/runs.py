"""The trainings in a sweep's table: one row each, with conditions, what became of it, and if it can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.relations.optimizer_phase import DIVERGED, FAILED, against_limit, phase_of
from geomfeat.errors import BadInput, near
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR, at_floor
from geomfeat.study.table import IDENTITY, RESULT

# A DataFrame whose parts are used at once: pandas' annotations give unions that only a cast could narrow.
Frame = Any
NEEDED = ("run", "seed", "at", "layer", "layer_b", "measure", "quantity", "value", "ok", "note")
FINAL = ("trained", "init->trained")
KEY = ("measure", "quantity", "layer", "at")
STATUS, FIT = "training", ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
KNOBS = ("alpha", "r", "gamma0")  # other names of the output scale: where one is given, gamma follows from it
CATEGORIES = ("depth",)  # numbers that change what the others do, rather than add to it
# Axes come in this order, whatever that of the columns, and name their products so: "sigma:eta". Others follow.
ORDER = ("sigma", "eta", "gamma", *KNOBS, "width", "batch_size")
LINEAR = ("r",)  # an exponent already


@dataclass(frozen=True, eq=False)
class Trainings:
    """Trainings and their last numbers.

    Attributes:
        frame: one row per training, indexed by `training`: run, seed, conditions, train_loss, test_loss,
            train_accuracy, test_accuracy, outcome, phase, ended (with numbers), used (whether it can be compared as
            it is, at the fit of the others) and why (not).
        axes: conditions that are numbers and vary. by: conditions that split the trainings into groups.
        values: (trainings, keys) last numbers, columns (measure, quantity, layer, at); NaN where flagged, missing or at
            the floor of capacity.
        notes: what must be known to read comparisons of these trainings.
    """

    frame: pd.DataFrame
    axes: tuple[str, ...]
    by: tuple[str, ...]
    values: pd.DataFrame
    notes: tuple[str, ...]

    def groups(self) -> list[tuple[dict[str, Any], Frame]]:
        """(facts, rows) of every group of `by`, in order of first appearance; one group where nothing splits."""
        if not self.by:
            return [({}, self.frame)]
        found = self.frame.groupby(list(self.by), sort=False, dropna=False)
        return [(dict(zip(self.by, key if isinstance(key, tuple) else (key,), strict=True)), g) for key, g in found]

    def key(self, measure: str, quantity: str, layer: str = "") -> tuple[str, str, str, str]:
        """The column of `values` with this name; BadInput with the nearest names where there is none."""
        for at in FINAL:
            if (measure, quantity, layer, at) in self.values.columns:
                return (measure, quantity, layer, at)
        columns: list[Any] = list(self.values.columns)
        names: dict[str, set[str]] = {}
        for m, q, _, _ in columns:
            names.setdefault(m, set()).add(q)
        check_known([measure], names, "measure")
        check_known([quantity], names[measure], f"quantity of {measure!r}")
        layers = list(dict.fromkeys(k[2] for k in columns if k[:2] == (measure, quantity)))
        raise BadInput(f"layer={layer!r} has no {measure} {quantity}; there are: {', '.join(map(repr, layers))}")


def check_known(asked: Sequence[str], known: Iterable[object], what: str) -> None:
    """BadInput for a name that the table does not have, with the nearest ones."""
    names = sorted(str(k) for k in known)
    for name in asked:
        if name not in names:
            raise BadInput(f"the table has no {what} {name!r}; near: {near(name, names)}")


def trainings_of(table: pd.DataFrame) -> Trainings:
    """Every training of a tidy table, none left out: those that cannot be compared say why.

    Diverged and failed trainings are not used. Where some reached their target loss (quantity "converged"), those that
    did not are not used either: their richness is that of a lesser demand.

    Raises BadInput for missing columns, a training with several values of a condition, or several numbers of one name.
    """
    _check(table)
    return _trainings(table.assign(training=_names(table)))


def _trainings(table: Frame) -> Trainings:
    conditions = [c for c in table.columns if c not in (*IDENTITY, *RESULT, "outcome", "training")]
    heads = table.groupby("training", sort=False)
    for name in (*conditions, "seed"):
        several = heads[name].nunique(dropna=False)
        if (several > 1).any():
            raise BadInput(f"training {several.idxmax()!r} has {several.max()} values of {name}: one each, please")
    frame = heads[["run", "seed", *conditions, *(["outcome"] if "outcome" in table else [])]].first()
    frame, axes, by = _roles(frame, conditions)
    frame = frame.join(_status(table, frame.index))
    values, low = _values(table, frame.index)
    frame, notes = _used(frame)
    if low:
        notes.append(
            f"{low} numbers of the last moment are {AT_FLOOR} (their classes are not separable in the layer, so that "
            "capacity counts units): left out as if they were missing."
        )
    return Trainings(frame, tuple(axes), tuple(by), values, tuple(notes))


def coordinates(frame: Frame, axes: Sequence[str]) -> np.ndarray:
    """(n, k) conditions as numbers to fit on: log10, except exponents.

    >>> coordinates(pd.DataFrame({"sigma": [1.0, 10.0], "r": [0.0, 0.5]}), ["sigma", "r"]).tolist()
    [[0.0, 0.0], [1.0, 0.5]]
    """
    columns = [frame[a].to_numpy(float) for a in axes]
    return np.stack([c if a in LINEAR else np.log10(c) for a, c in zip(axes, columns, strict=True)], axis=1)


def axes_of(frame: Frame, axes: Sequence[str]) -> list[str]:
    """The axes that vary within these trainings; not gamma where another knob is given, which gamma follows from."""
    varying = [a for a in axes if frame[a].notna().all() and frame[a].nunique() > 1]
    given = any(k in frame and frame[k].notna().any() for k in KNOBS)
    return [a for a in varying if not (a == "gamma" and given)]


def _check(table: Frame) -> None:
    missing = [c for c in NEEDED if c not in table.columns]
    if missing:
        raise BadInput(f"table lacks the columns {', '.join(missing)}: give the table of a sweep, see geomfeat.study")
    if not len(table):
        raise BadInput("table has no rows: give the table of a sweep with finished runs")


def _names(table: Frame) -> Frame:
    """A name for each training: the run, with its seed where a run holds several."""
    several = table.groupby("run")["seed"].transform("nunique") > 1
    run = table["run"].astype(str)
    return run.where(~several, run + " seed " + table["seed"].astype(str))


def _roles(frame: Frame, conditions: list[str]) -> tuple[Frame, list[str], list[str]]:
    """Which conditions are axes, and which split: text, yes or no, depth, numbers with zeros, given or not given."""
    axes, by, extra = [], [], {}
    for name in conditions:
        column: Frame = frame[name]
        known: Frame = column.dropna()
        if not known.nunique():
            continue
        number = pd.api.types.is_numeric_dtype(known.infer_objects()) and not known.map(_is_bool).any()
        positive = number and (name in LINEAR or bool((np.asarray(known, dtype=float) > 0).all()))
        if positive and name not in CATEGORIES:
            numbers: Frame = pd.to_numeric(column)
            frame[name] = numbers.astype("float64")
            axes += [name] if known.nunique() > 1 else []
            if len(known) < len(column):
                extra[f"has_{name}"] = column.notna()
        elif column.nunique(dropna=False) > 1:
            by.append(name)
    axes.sort(key=lambda a: ORDER.index(a) if a in ORDER else len(ORDER))
    return frame.assign(**extra), axes, [*by, *extra]


def _is_bool(value: object) -> bool:
    return isinstance(value, bool | np.bool_)


def _status(table: Frame, trainings: pd.Index) -> Frame:
    """Last losses, accuracies, steps, whether the target was met, and the phase, by training; NaN if unknown."""
    rows = table[(table["measure"] == STATUS) & (table["layer"] == "")]
    wide = rows.drop_duplicates(["training", "quantity"], keep="last").pivot(
        index="training", columns="quantity", values="value"
    )
    wanted = (*FIT, "steps", "converged", "stability", "sharpness", "sharpness_initial", "eta")
    wide = wide.reindex(index=trainings, columns=list(wanted)).astype("float64")
    notes = rows[rows["note"] != ""].groupby("training")["note"].agg(lambda n: "; ".join(dict.fromkeys(n)))
    status = wide.rename(columns={"eta": "eta_used"})
    start = status["stability"].fillna(status["eta_used"] * status["sharpness_initial"])
    status["stability"], status["last_stability"] = start, status["eta_used"] * status["sharpness"]
    status["reason"] = notes.reindex(trainings).fillna("")
    return status.drop(columns=["sharpness", "sharpness_initial"])


def _values(table: Frame, trainings: pd.Index) -> tuple[Frame, int]:
    """The last numbers, wide, and how many of them are left out because they are at the floor."""
    rows = table[table["at"].isin(FINAL) & (table["measure"] != STATUS)]
    rows = rows[(rows["layer_b"] == "") | (rows["layer_b"] == rows["layer"])]
    twice = rows.duplicated(["training", *KEY])
    if twice.any():
        first = rows[twice].iloc[0]
        raise BadInput(
            f"training {first['training']!r} has several numbers for {first['measure']} {first['quantity']} "
            f"of layer {first['layer']!r}: keep the rows of one setting of options"
        )
    good = rows["ok"].astype(bool) & np.isfinite(rows["value"].astype(float))
    low = good & rows["note"].map(at_floor).astype(bool)
    good &= ~low
    keys = pd.MultiIndex.from_frame(rows[list(KEY)].drop_duplicates(), names=list(KEY))
    wide = rows.assign(value=rows["value"].where(good)).pivot(index="training", columns=list(KEY), values="value")
    # A training that diverged has a failed row for each number that was asked for, without its layer: such a name is no
    # number of its own where the quantity has numbers elsewhere.
    known = {k for k in keys if bool(wide[k].notna().any())}
    elsewhere = {k[:2] for k in known}
    kept = [k for k in keys if k in known or k[2] != "" or k[:2] not in elsewhere]
    columns = pd.MultiIndex.from_tuples(kept, names=list(KEY)) if kept else keys[:0]
    return wide.reindex(index=trainings, columns=columns).astype("float64"), int(low.sum())


def _given(frame: Frame, name: str, default: Any) -> Frame:
    """A condition, with its default where the table does not have it."""
    return frame[name].fillna(default) if name in frame else pd.Series(default, index=frame.index)


def _used(frame: Frame) -> tuple[Frame, list[str]]:
    """Phases, and whether each training can be compared, with why not; notes with counts."""
    outcome = frame["outcome"] if "outcome" in frame else pd.Series("", index=frame.index)
    scale = [
        against_limit(str(o), float(m))
        for o, m in zip(_given(frame, "optimizer", "sgd"), _given(frame, "momentum", 0.0), strict=True)
    ]
    start, last = frame["stability"] * scale, frame["last_stability"] * scale
    phases = [phase_of(str(o), n, a, b) for o, n, a, b in zip(outcome, frame["reason"], start, last, strict=True)]
    reason = frame["reason"].where(frame["reason"] != "", outcome.astype(str))
    broken = pd.Series([p in (DIVERGED, FAILED) for p in phases], index=frame.index) | outcome.eq("missing")
    lossless = frame["train_loss"].isna() & frame["train_loss"].notna().any() & ~broken
    short = (frame["converged"] == 0) & (frame["converged"] == 1).any() & ~broken & ~lossless
    why = pd.Series("", index=frame.index)
    why = why.mask(broken, "did not end: " + reason).mask(lossless, "its loss is not a number: " + reason)
    why = why.mask(short, "did not reach the target loss: " + reason)
    notes = [
        f"{int(which.sum())} of {len(frame)} trainings {words}: marked, and left out of every fit. "
        "They are not missing at random."
        for which, words in (
            (broken | lossless, "diverged or failed"),
            (short, "did not reach the target loss"),
        )
        if which.any()
    ]
    nothing = bool((broken | lossless).all())
    if not nothing and (outcome.eq("completed").any() or not (frame["converged"] == 1).any()):
        notes.append(
            "No training is known to have reached a target loss: fits differ, see the comparison at equal fit."
        )
    return frame.assign(phase=phases, ended=~(broken | lossless), used=why == "", why=why), notes
