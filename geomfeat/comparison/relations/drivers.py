"""Which measures follow richness, which follow how well the training data are fit, and which neither."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomfeat.comparison.relations.runs import Frame, Trainings
from geomfeat.statistics.cluster_bootstrap import Intervals
from geomfeat.statistics.partial_correlation import with_intervals

FITS = ("train_loss", "train_accuracy")
# A nonzero correlation can still be negligible: below this it explains less than 4 % of the variance of the ranks.
LEAST = 0.2
# An interval that holds both 0 and half of the ranks' variance (.7 squared) decides nothing.
TELLING = 0.7
SAME = 0.999  # rank correlation above which two measures of fit count as one
FOLLOW_COLUMNS = [
    "measure", "quantity", "layer", "at", "rho_richness", "low_richness", "high_richness", "given",
    *(f"{stat}_{fit}" for fit in FITS for stat in ("rho", "low", "high")), "follows", "n", "n_seeds", "note",
]  # fmt: skip


def follow_row(
    found: Trainings, used: Frame, key: tuple[str, ...], *, level: float, seed: int
) -> dict[str, Any] | None:
    """Partial rank correlations of one number over these trainings: with richness given the fit, and the reverse.

    rho_richness is given all of train loss and train accuracy that vary (`given`); rho_<fit> is given richness.
    `follows`: "richness", "fit", "both" or "neither", for intervals that leave out 0 around |rho| of .2 at least;
    "cannot tell" where a correlation could not be had, or its interval holds both 0 and .7 in size. None for richness
    itself and without a location.
    """
    richness = next((k for k in found.values.columns if k[:3] == ("location", "richness", "")), None)
    if richness is None or key[:2] == richness[:2]:
        return None
    data = used[[*FITS, "seed"]].assign(
        value=found.values.loc[used.index, [key]].to_numpy().ravel(),
        richness=found.values.loc[used.index, [richness]].to_numpy().ravel(),
    )
    fits = [f for f in FITS if data[f].notna().any()]
    data = data.dropna(subset=["value", "richness", *fits])
    fits = [f for f in fits if data[f].nunique() > 1]
    if len(fits) == 2 and abs(data[fits].corr("spearman").iloc[0, 1]) > SAME:
        fits = fits[:1]
    row: dict[str, Any] = dict(zip(("measure", "quantity", "layer", "at"), key, strict=True))
    row |= {"given": ", ".join(fits), "n": len(data), "n_seeds": data["seed"].nunique(), "note": ""}
    if len(data) < 5 + len(fits):
        return {**row, "follows": "cannot tell", "note": f"{len(data)} trainings have all of these numbers: too few"}
    by_richness = _rho(data, ["value", "richness", *fits], level, seed)
    row |= _named(by_richness, "richness")
    follows = {"richness": _follows(by_richness)}
    for fit in fits:
        by_fit = _rho(data, ["value", fit, "richness"], level, seed)
        row |= _named(by_fit, fit)
        follows[fit] = _follows(by_fit)
    if not fits:
        row["note"] = "train loss and accuracy do not vary or are not known: nothing is held fixed"
    elif data["value"].nunique() < 2:
        row["note"] = "has one value in all trainings"
    return {**row, "follows": _word(follows)}


def _rho(data: Frame, columns: list[str], level: float, seed: int) -> Intervals:
    return with_intervals(data[columns].to_numpy(float), data["seed"].to_numpy(), level=level, seed=seed)[0]


def _named(found: Intervals, name: str) -> dict[str, float]:
    return {f"rho_{name}": float(found.estimate[0]), f"low_{name}": float(found.low[0]),
            f"high_{name}": float(found.high[0])}  # fmt: skip


def _follows(found: Intervals) -> bool | None:
    rho, low, high = float(found.estimate[0]), float(found.low[0]), float(found.high[0])
    if not np.isfinite([rho, low, high]).all():
        return None
    if low > 0 or high < 0:
        return abs(rho) >= LEAST
    return None if max(-low, high) > TELLING else False


def _word(follows: dict[str, bool | None]) -> str:
    rich = follows["richness"]
    fits = [v for k, v in follows.items() if k != "richness"]
    if rich is None or any(v is None for v in fits):
        return "cannot tell"
    if rich:
        return "both" if any(fits) else "richness"
    return "fit" if any(fits) else "neither"
