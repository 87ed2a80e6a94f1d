"""What coordinates foretell of outcomes that need no parameterization, and whether the words of regimes hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from geomfeat.location.regimes import BY_OPTIMIZER, FEATURES_ONLY, KERNEL_ONLY

Rows = Sequence[Mapping[str, Any]]

OUTCOMES = ("gap", "test_disagreement", "kernel_change")
COORDINATES = ("R", "M", "kappa", "kappa_a")
RIVALS = ("weight_change", "one_minus_cka", "alignment", "alignment_gain")
NONLINEAR, LINEAR, AT_REST = 0.3, 0.1, 0.1  # linearisation gap above and below, and change of the kernel below
FEWEST = 4  # trainings behind a correlation
DYNAMICS = "dynamics"  # kind of the families in which steps or decay move the network beyond what it learns
LAZY, BETWEEN, RICH = "lazy", "transition", "rich"
LEVELS = (LAZY, BETWEEN, RICH)
# What a regime says of linearity; one that is missing here says neither.
SAYS = {"lazy": LAZY, "frozen": LAZY, FEATURES_ONLY: LAZY, "rich": RICH, KERNEL_ONLY: RICH}
SILENT = (BY_OPTIMIZER, "undetermined")  # these say why a network moved, or nothing


def column(rows: Rows, name: str) -> np.ndarray:
    """One number of every row; NaN where a row has none.

    >>> column([{"R": 1.0}, {}], "R").tolist()
    [1.0, nan]
    """
    return np.array([math.nan if row.get(name) is None else row[name] for row in rows], dtype=float)


def judged_rows(rows: Rows) -> list[Mapping[str, Any]]:
    """The trainings that were located and whose outcomes are known."""
    return [row for row, gap in zip(rows, column(rows, "gap"), strict=True) if math.isfinite(gap)]


def foretold(rows: Rows) -> pd.DataFrame:
    """Every coordinate, ours and what others use, against the outcomes.

    Columns: coordinate; spearman_<outcome>: rank correlation over all trainings; within_<outcome>: its median over
    families; auc: area under the curve of gap > .3; spearman_learning, auc_learning: with the gap, without the families
    in which steps or decay move the network beyond what it learns; trainings.
    """
    learning = [row for row in rows if row["kind"] != DYNAMICS]
    families = [[row for row in rows if row["family"] == name] for name in dict.fromkeys(r["family"] for r in rows)]
    found = []
    for name in (*COORDINATES, *RIVALS):
        row: dict[str, Any] = {"coordinate": name}
        for outcome in OUTCOMES:
            row[f"spearman_{outcome}"] = correlation(column(rows, name), column(rows, outcome))
            inside = [correlation(column(own, name), column(own, outcome)) for own in families]
            inside = [r for r in inside if math.isfinite(r)]
            row[f"within_{outcome}"] = float(np.median(inside)) if inside else math.nan
        x = column(rows, name)
        row["auc"] = auc(x, column(rows, "gap") > NONLINEAR)
        row["spearman_learning"] = correlation(column(learning, name), column(learning, "gap"))
        row["auc_learning"] = auc(column(learning, name), column(learning, "gap") > NONLINEAR)
        found.append({**row, "trainings": int((~np.isnan(x)).sum())})
    return pd.DataFrame(found)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, infinite values included; NaN for fewer than four values, or equal ones.

    >>> correlation(np.array([-np.inf, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 5.0, 7.0])).__round__(6)
    1.0
    """
    from scipy.stats import rankdata

    fine = ~np.isnan(x) & ~np.isnan(y)
    x, y = rankdata(x[fine]), rankdata(y[fine])
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def auc(x: np.ndarray, truth: np.ndarray) -> float:
    """Chance that x is larger for one of the true than for one of the others; NaN where there are none of either.

    >>> auc(np.array([-np.inf, 0.0, 2.0, 1.0]), np.array([False, False, True, True]))
    1.0
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    fine = ~np.isnan(x)
    x, truth = x[fine], truth[fine]
    if truth.all() or not truth.any():
        return math.nan
    return float(roc_auc_score(truth, rankdata(x)))


def levels_of(gap: np.ndarray) -> np.ndarray:
    """What an outcome is: "lazy" for a gap below .1, "rich" above .3, else "transition"."""
    return np.where(gap < LINEAR, LAZY, np.where(gap > NONLINEAR, RICH, BETWEEN))


def words(rows: Rows) -> dict[str, float]:
    """How far the regimes hold: balanced accuracy over the levels of the gap, and the trainings that must not be.

    balanced_accuracy_clear: over the two clear levels alone, gaps below .1 and above .3, 'transition' being wrong.
    lazy_but_nonlinear: 'lazy' at a gap above .3. rich_but_linear: 'rich' at a gap and a change of kernel below .1.
    left_open: share of the trainings whose word says nothing of linearity; they are in no accuracy.
    """
    regime = np.array([row["regime"] for row in rows])
    said = np.array([SAYS.get(word, BETWEEN) for word in regime])
    gap, change = column(rows, "gap"), column(rows, "kernel_change")
    speaks = ~np.isin(regime, SILENT)
    clear = speaks & (levels_of(gap) != BETWEEN)
    return {
        "balanced_accuracy": balanced_accuracy(levels_of(gap)[speaks], said[speaks]),
        "balanced_accuracy_clear": balanced_accuracy(levels_of(gap)[clear], said[clear]),
        "left_open": float((~speaks).mean()) if len(rows) else math.nan,
        "lazy_but_nonlinear": float(((regime == LAZY) & (gap > NONLINEAR)).sum()),
        "rich_but_linear": float(((regime == RICH) & (gap < LINEAR) & (change < AT_REST)).sum()),
    }


def balanced_accuracy(truth: np.ndarray, said: np.ndarray) -> float:
    """Mean over the true levels of the share that is said right; NaN for none."""
    if not len(truth):
        return math.nan
    return float(np.mean([(said[truth == level] == level).mean() for level in np.unique(truth)]))


def thresholds(rows: Rows, first: frozenset[str], names: Sequence[str] = COORDINATES) -> pd.DataFrame:
    """Two thresholds of each coordinate, set on the first half of the families and judged on the others.

    Below the lower one a training is said to be 'lazy', above the upper one 'rich': those of the largest balanced
    accuracy over the levels of the gap.

    Args:
        rows: with family, gap and the coordinates. first: names of families.

    Columns: coordinate, lower, upper, set (balanced accuracy on the first half), judged (on the second).
    """
    mine = np.array([row["family"] in first for row in rows], dtype=bool)
    truth = levels_of(column(rows, "gap"))
    found = []
    for name in names:
        x = column(rows, name)
        known = ~np.isnan(x)
        lower, upper, score = _best_pair(x[mine & known], truth[mine & known])
        other = ~mine & known
        judged = balanced_accuracy(truth[other], said_by(x[other], lower, upper))
        found.append({"coordinate": name, "lower": lower, "upper": upper, "set": score, "judged": judged})
    return pd.DataFrame(found)


def plane_thresholds(rows: Rows, first: frozenset[str], features: str = "M", kernel: str = "kappa") -> dict[str, float]:
    """Thresholds in a plane of a coordinate of features and one of the kernel, set and judged as in `thresholds`.

    'lazy' where the kernel's is below its lower threshold; 'rich' where it is above its upper one and the features'
    is above theirs, which is set after the other two. Keys: features, lower, upper, set, judged.
    """
    mine = np.array([row["family"] in first for row in rows], dtype=bool)
    truth = levels_of(column(rows, "gap"))
    x, y = column(rows, features), column(rows, kernel)
    lower, upper, _ = _best_pair(y[mine], truth[mine])
    level = said_by(y, lower, upper)

    def scored(cut: float, half: np.ndarray) -> float:
        said = np.where((level == RICH) & ~(x > cut), BETWEEN, level)
        return balanced_accuracy(truth[half], said[half])

    cuts = [-math.inf, *np.unique(x[mine & np.isfinite(x)])]
    cut = max(cuts, key=lambda c: scored(c, mine))
    return {
        "features": float(cut), "lower": lower, "upper": upper, "set": scored(cut, mine), "judged": scored(cut, ~mine),
    }  # fmt: skip


def said_by(x: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """The levels that two thresholds say."""
    return np.where(x < lower, LAZY, np.where(x > upper, RICH, BETWEEN))


def _best_pair(x: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """(lower, upper, balanced accuracy) of the best two thresholds among the values half way between neighbours."""
    finite = np.unique(x[np.isfinite(x)])
    if len(finite) < 2:
        return math.nan, math.nan, math.nan
    cuts = (finite[:-1] + finite[1:]) / 2
    shares = [truth == level for level in LEVELS]
    counts = [max(int(own.sum()), 1) for own in shares]
    present = sum(bool(own.any()) for own in shares)
    below = np.array([[(x[own] < cut).sum() for cut in cuts] for own in shares])
    # With cuts i <= j, right are: of the lazy those below i, of the middle those between, of the rich those above j.
    lazy = below[0] / counts[0]
    rich = 1 - below[2] / counts[2] if shares[2].any() else np.zeros(len(cuts))
    between = (below[1][None, :] - below[1][:, None]) / counts[1]
    score = lazy[:, None] + between + rich[None, :]
    score[np.tril_indices(len(cuts), -1)] = -1
    i, j = np.unravel_index(int(score.argmax()), score.shape)
    return float(cuts[i]), float(cuts[j]), float(score[i, j]) / present
