"""What changed to gain capacity, radius, dimension or alignment; and the stages in which it did."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.comparison.relations.runs import Frame
from geomfeat.comparison.relations.trajectories import ERRORS, trajectories
from geomfeat.geometry.manifolds import what_changed
from geomfeat.statistics.changepoints import LEAST_MOMENTS, change_points, noise_of

PARTS = ("capacity", "utility", "radius", "dimension")
# The utility is what alignments of centres and axes leave of the capacity of radius and dimension alone.
STRATEGIES = {"radius": "radius", "dimension": "dimension", "utility": "alignment"}
NO_CHANGE, CANNOT_TELL = "no change", "cannot tell"
ALIGNMENTS = ("center_alignment", "axis_alignment", "center_axis_alignment")
CLUSTERING, STRUCTURING, SEPARATING = "clustering", "structuring", "separating"
STABILISING, OTHER = "stabilising", "other"
FEW = "2 are needed (those at the floor do not count)"
# A piece is still where nothing does more than a tenth of what it does over the training; a number that never leaves
# four standard deviations of its noise does nothing.
STILL_SHARE, NOISE_RANGE = 0.1, 4.0


@dataclass(frozen=True)
class _Numbers:
    """One capacity as read from a table; see `geomfeat.geometry.manifolds.decomposition.Geometry`."""

    capacity: float
    capacity_se: float
    utility: float
    utility_se: float
    radius: float
    radius_se: float
    dimension: float
    dimension_se: float


def strategies(table: pd.DataFrame, layer: str, *, measure: str = "capacity") -> pd.DataFrame:
    """Change of log capacity from the first to the last moment, split into its terms exactly, for every training.

    log alpha = log Psi + log(1 + R^-2) - log D (Chou et al. 2025; see `geomfeat.geometry.manifolds.decomposition`).

    One row per training: from_step, to_step; `capacity` and its terms `utility`, `radius`, `dimension` in natural logs
    with standard errors; `strategy`: the term that did most in the direction of the capacity ("radius", "dimension",
    "alignment" for the utility), "no change" within two standard errors, or "cannot tell" with the reason in `note`.
    """
    path: Frame = trajectories(table, **{name: (measure, name, layer) for name in PARTS})
    rows = []
    for training, moments in path.groupby("training", sort=False):
        known = moments[moments["complete"]]
        row: dict[str, Any] = {"training": training, "layer": layer, "note": ""}
        if len(known) < 2:
            rows.append({**row, "strategy": CANNOT_TELL, "note": f"{len(known)} moments have all four numbers: {FEW}"})
            continue
        first, last = known.iloc[0], known.iloc[-1]
        change = vars(what_changed(_numbers(first), _numbers(last)))
        rows.append({**row, "from_step": first["step"], "to_step": last["step"], **change, **_strategy(change)})
    numbers = [p + s for p in PARTS for s in ("", "_se")]
    columns = ["training", "layer", "from_step", "to_step", *numbers, "strategy", "note"]
    return pd.DataFrame(rows, columns=columns)


def _numbers(moment: Any) -> _Numbers:
    return _Numbers(**{k: float(moment[k]) for part in PARTS for k in (part, f"{part}_se")})


def _strategy(change: Mapping[str, float]) -> dict[str, str]:
    total, error = change["capacity"], change["capacity_se"]
    terms = {name: change[name] for name in STRATEGIES}
    if not all(map(math.isfinite, (total, *terms.values()))):
        return {"strategy": CANNOT_TELL, "note": "a number is not positive, so it has no logarithm"}
    if abs(total - sum(terms.values())) > 1e-6 * max(1.0, *map(abs, terms.values())):
        return {"strategy": CANNOT_TELL, "note": "the terms do not add up: these numbers are not of one capacity"}
    if abs(total) <= (0.0 if math.isnan(error) else ERRORS * error):
        return {"strategy": NO_CHANGE}
    return {"strategy": STRATEGIES[max(terms, key=lambda k: math.copysign(1, total) * terms[k])]}


def stages(table: pd.DataFrame, layer: str, *, measure: str = "capacity") -> pd.DataFrame:
    """The stages of every training: pieces of its course between change points, each with a name.

    log dimension, log radius and the alignments of a layer over log10(step + 1) are cut into straight pieces together
    (`geomfeat.statistics.changepoints`); a stage is named by `stage_name`. The names are those of Chou et al. 2025, the
    rule is this library's.

    One row per training and stage: stage, from_step, to_step, moments, the change of each number, and note.
    """
    wanted = ("dimension", "radius", *ALIGNMENTS)
    path: Frame = trajectories(table, **{name: (measure, name, layer) for name in wanted})
    rows: list[dict[str, Any]] = []
    for training, moments in path.groupby("training", sort=False):
        known = moments[moments["complete"] & (moments["dimension"] > 0) & (moments["radius"] > 0)]
        row = {"training": training, "layer": layer, "note": ""}
        if len(known) < 2 * LEAST_MOMENTS:
            note = f"{len(known)} moments: finding a change point needs at least {2 * LEAST_MOMENTS}"
            rows.append({**row, "stage": CANNOT_TELL, "moments": len(known), "note": note})
            continue
        rows += [{**row, **stage} for stage in _stages(known, wanted)]
    columns = ["training", "layer", "stage", "from_step", "to_step", "moments", *wanted, "note"]
    return pd.DataFrame(rows, columns=columns)


def _stages(known: Frame, names: tuple[str, ...]) -> list[dict[str, Any]]:
    steps = known["step"].to_numpy(float)
    series = known[list(names)].to_numpy(float, copy=True)
    series[:, :2] = np.log(series[:, :2])
    x = np.log10(steps + 1)
    noise = np.array([noise_of(c, x) for c in series.T])
    cuts = change_points(series, x)
    span = np.ptp(series, axis=0)
    scale = np.where(span > NOISE_RANGE * noise, span, np.inf)
    pieces = list(itertools.pairwise([0, *cuts, len(series)]))
    lines = [np.polynomial.polynomial.polyfit(x[a:b], series[a:b], 1) for a, b in pieces]
    # From the first moment of a piece to that of the next, each on its own line: the changes add up to the whole.
    levels = [line[0] + line[1] * x[a] for line, (a, _) in zip(lines, pieces, strict=True)]
    levels.append(lines[-1][0] + lines[-1][1] * x[-1])
    rows = []
    for (a, b), change in zip(pieces, np.diff(levels, axis=0), strict=True):
        share = dict(zip(names, map(float, change / scale), strict=True))
        changes = dict(zip(names, map(float, change), strict=True))
        stage = stage_name(share)
        rows.append({"stage": stage, "from_step": steps[a], "to_step": steps[b - 1], "moments": b - a, **changes})
    return rows


def stage_name(shares: Mapping[str, float]) -> str:
    """The name of a piece from the change of each number, as a share of its range over the training.

    "stabilising": none by a tenth. Else what did most: "clustering", dimension or radius fall; "separating", centres
    become less aligned; "structuring", axes align with each other or with centres; "other", none of these.

    >>> stage_name({"dimension": -0.8, "radius": -0.3, "center_alignment": 0.0, "axis_alignment": 0.1})
    'clustering'
    >>> stage_name({"dimension": 0.01, "radius": 0.05}), stage_name({"dimension": 0.7, "radius": 0.1})
    ('stabilising', 'other')
    """
    if all(abs(v) < STILL_SHARE for v in shares.values()):
        return STABILISING
    did = {
        CLUSTERING: max(-shares.get("dimension", 0.0), -shares.get("radius", 0.0)),
        SEPARATING: -shares.get("center_alignment", 0.0),
        STRUCTURING: max(shares.get("axis_alignment", 0.0), shares.get("center_axis_alignment", 0.0)),
    }
    most = max(did, key=lambda k: did[k])
    return most if did[most] >= STILL_SHARE else OTHER
