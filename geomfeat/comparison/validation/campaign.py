"""Validation of the location: families of known richness or of known outcomes, and the errors of R, kappa and M."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from geomfeat.comparison.sweeps._sweep import SweepResult, sweep
from geomfeat.comparison.sweeps.outcomes import MATCHED
from geomfeat.comparison.validation.families import FAMILIES, FASHION, LAWS, RUNGS, SEEDS, LadderFamily, Law
from geomfeat.comparison.validation.onset_of_richness import onsets_of
from geomfeat.comparison.validation.outcomes.families import OUTCOME_FAMILIES
from geomfeat.comparison.validation.outcomes.judgement import OutcomeJudgement, judge_outcomes
from geomfeat.comparison.validation.outcomes.rows import outcome_rows
from geomfeat.comparison.validation.remeasure import SHARES, measured_again
from geomfeat.comparison.validation.slopes import slope_and_scatter
from geomfeat.data._load_data import load_data
from geomfeat.display import BaseResult
from geomfeat.errors import BadInput, near
from geomfeat.storage.owned_files import as_path

LAZY_RANGE = -0.7  # R below it: where movement should equal demand
STOPPING = tuple(f"{share:g}{probes}" for probes in ("", "_quarter") for share in SHARES)
RICH_END = 0.5  # R above it: where the choice of the stopping share and of the probes could add scatter


@dataclass(frozen=True, eq=False)
class Validation(BaseResult):
    """What the campaign found.

    Attributes:
        runs: one row per training: family, gamma, seed, outcome and, where it reached the loss, all that
            `measured_again` gives.
        families: one row per family, see `judge`. laws: measured and theory's slopes. onsets: of rich learning.
        absent: family -> why its data could not be had here, and so it was not trained.
        outcomes: one row per training of the families that are no ladders but judged by outcomes, see `outcome_rows`.

    `to_frame()`: `families`.
    """

    runs: pd.DataFrame
    families: pd.DataFrame
    laws: pd.DataFrame
    onsets: pd.DataFrame
    absent: Mapping[str, str] = field(default_factory=dict)
    outcomes: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def by_outcome(self) -> OutcomeJudgement | None:
        """The judgement of `outcomes`; None without any."""
        return judge_outcomes(self.outcomes.to_dict("records"))

    def summary(self) -> dict[str, float]:
        """The numbers that the goals are about, over the families in which the rules should hold."""
        fine = [f for f in self.families.to_dict("records") if not f["breaks"] and f["located"] >= 3]
        of = lambda name: np.array([f[name] for f in fine if math.isfinite(f[name])], dtype=float)  # noqa: E731
        of_values = lambda v, how: float(how(v)) if len(v) else math.nan  # noqa: E731
        lazy, again, covered = of("lazy_excess_0.01"), of("reinit_error"), of("coverage")
        judgement = self.by_outcome
        families, further = len(self.families), {}
        if judgement is not None:
            own = judgement.outcome_families
            families, further = families + len(own), judgement.summary()
            known = own["coverage"].to_numpy(dtype=float)
            covered = np.concatenate([covered, known[np.isfinite(known)]])
        return {
            "families": float(families), "trainings": float(len(self.runs) + len(self.outcomes)),
            "slope, largest distance from 1": of_values(np.abs(of("slope") - 1), np.max),
            "scatter, median": of_values(of("scatter"), np.median),
            "scatter, worst": of_values(of("scatter"), np.max),
            "M - R in the lazy range, median": of_values(lazy, np.median),
            "M - R in the lazy range, worst": of_values(np.abs(lazy), np.max),
            "M - R in the lazy range, worst, .002 left": of_values(np.abs(of("lazy_excess_0.002")), np.max),
            "re-initialised, median error": of_values(again, np.median),
            "re-initialised, worst error": of_values(again, np.max),
            "coverage, mean": of_values(covered, np.mean), "coverage, worst": of_values(covered, np.min),
            **further,
        }  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """The families, one row each."""
        return self.families.copy()

    def __str__(self) -> str:
        absent = f"; {len(self.absent)} families are absent" if self.absent else ""
        others = self.outcomes["family"].nunique() if len(self.outcomes) else 0
        trainings = len(self.runs) + len(self.outcomes)
        return f"Validation: {len(self.families) + others} families, {trainings} trainings{absent}"


def validate(
    out: str | Path,
    *,
    only: str = "*",
    rungs: Sequence[float] = RUNGS,
    seeds: int = SEEDS,
    engine: str = "serial",
    workers: int = 2,
    device: str | None = None,
    laws: bool = True,
    ladders: bool = True,
    progress: bool = True,
) -> Validation:
    """Train the families and judge the location on them; what is there is not trained again.

    Args:
        out: folder; each ladder of output scales has its own sweep there, and every other training a file.
        only: glob of family names. rungs: output scales of the ladders. seeds: initial weights for each condition.
        engine, workers, device: of the ladders, see `sweep`.
        laws: whether the slopes that theory names are measured too.
        ladders: whether ladders of output scales are trained, or the other families alone.

    Raises BadInput where no family has such a name, and where `out` is a file.
    """
    chosen = [f for f in FAMILIES if ladders and fnmatchcase(f.name, only)]
    others = [f for f in OUTCOME_FAMILIES if fnmatchcase(f.name, only)]
    if not chosen and not others:
        raise BadInput(f"only={only!r} matches no family; near: {near(only, family_names())}")
    absent = {family.name: reason for family in chosen if (reason := _absent(family))}
    chosen = [family for family in chosen if family.name not in absent]
    if not chosen and not others:
        raise BadInput(f"only={only!r}: " + "; ".join(f"{name}: {reason}" for name, reason in absent.items()))
    folder, rows, slopes = as_path(out, "out"), [], []
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"out={str(folder)!r} is a file: name a folder")
    for family in tqdm(chosen, desc="families", disable=not progress):
        found = sweep(
            family.sweep(rungs=tuple(rungs), seeds=seeds), folder / slug(family.name), engine=engine, workers=workers,
            device=device, progress=progress,
        )  # fmt: skip
        rows += [{"family": family.name, **row} for row in rows_of(found, progress)]
    for law in tqdm(LAWS if laws else (), desc="laws", disable=not progress):
        name = slug(law.name.split(", standard, ")[0])  # laws of several layers share a sweep
        found = sweep(
            law.sweep(seeds=seeds), folder / name, engine=engine, workers=workers, device=device, progress=progress
        )
        slopes.append(slope_of(law, found))
    judged = [judge(f, [row for row in rows if row["family"] == f.name]) for f in chosen]
    outcomes = pd.DataFrame(outcome_rows(others, folder, seeds=seeds, progress=progress))
    return Validation(
        pd.DataFrame(rows), pd.DataFrame(judged), pd.DataFrame(slopes), onsets_of(rows), absent, outcomes
    )  # fmt: skip


def family_names() -> list[str]:
    """The names of all families: ladders of output scales, then those that are judged by outcomes."""
    return [family.name for family in (*FAMILIES, *OUTCOME_FAMILIES)]


def _absent(family: LadderFamily) -> str:
    """Why the data of a family cannot be had on this machine, or ""."""
    if family.config.get("data") != FASHION:
        return ""  # the others are in the package
    try:
        load_data(FASHION, n=1)
    except BadInput as error:
        return str(error)
    return ""


def slug(name: str) -> str:
    """A name as that of a folder.

    >>> slug("mlp 2 hidden, relu")
    'mlp-2-hidden-relu'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())


def rows_of(found: SweepResult, progress: bool = False) -> list[dict[str, Any]]:
    """A row for every training of a family's sweep, with further measurements of those that reached the loss."""
    outcomes = dict(zip(found.table["run"], found.table["outcome"], strict=True))
    rows = []
    for address, run in tqdm(found.plan.items(), desc="remeasure", disable=not progress, leave=False):
        outcome = outcomes[address]
        looked = measured_again(found.folder, address, run) if outcome == MATCHED else {"failed": outcome}
        rows.append({"gamma": run.gamma, "seed": run.seed, "outcome": outcome, **looked})
    return rows


def judge(family: LadderFamily, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One family: slope of R on log10 gamma, scatter about unit slope, agreement of M, intervals and fresh weights.

    Of the trainings that reached the loss and were located: what has learned less has demanded less.

    slope: over all runs, one offset a seed. scatter: standard deviation of R - log10 gamma about each seed's mean.
    lazy_excess_<how>: mean of M - R where R < -.7; rich_scatter_<how>: of R - log10 gamma where R > .5, for every share
    left by the linear response, all probes and every fourth. reinit_error: median of |reinit_R - R| above the floor,
    from the same 50 probes. coverage: share of runs whose 90 % interval (50 probes) holds R from all probes;
    reinit_coverage: the same of the interval from fresh weights. slope_<c>, scatter_<c> of c = kappa, kappa_a: as those
    of R, where the runs have them.
    """
    fine = [run for run in runs if _judged(run)]
    counts = {"family": family.name, "breaks": family.breaks, "runs": len(runs), "located": len(fine)}
    if len(fine) < 3:
        return counts
    seeds = _column(fine, "seed")
    slope, error, scatter = slope_and_scatter(np.log10(_column(fine, "gamma")), _column(fine, "R"), seeds, 1.0)
    truth, above = _column(fine, "R_0.01"), ~_column(fine, "at_most").astype(bool)
    again = np.abs(_column(fine, "reinit_R") - _column(fine, "R"))
    inside = (_column(fine, "low") <= truth) & (truth <= _column(fine, "high"))
    also = (_column(fine, "reinit_low") <= truth) & (truth <= _column(fine, "reinit_high"))
    return {
        **counts, "slope": slope, "slope_stderr": error, "scatter": scatter,
        **_by_stopping(fine), **_of_the_kernel(fine),
        "reinit_error": float(np.median(again[above])) if above.any() else math.nan,
        "coverage": _mean(inside), "reinit_coverage": _mean(also[above]), "tripled": _mean(_column(fine, "tripled")),
    }  # fmt: skip


def _judged(run: Mapping[str, Any]) -> bool:
    return run["outcome"] == MATCHED and not isinstance(run.get("failed"), str)


def _of_the_kernel(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Slope and scatter of kernel demand, see `judge`; the runs may have none, or infinite ones."""
    found = {}
    for name in ("kappa", "kappa_a"):
        known = [run for run in runs if isinstance(run.get(name), float) and math.isfinite(run[name])]
        if len(known) > len({run["seed"] for run in known}) + 1:
            x = np.log10(_column(known, "gamma"))
            slope, _, scatter = slope_and_scatter(x, _column(known, name), _column(known, "seed"), 1.0)
            found |= {f"slope_{name}": slope, f"scatter_{name}": scatter}
    return found


def _by_stopping(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """lazy_excess_<how> and rich_scatter_<how>, see `judge`."""
    seeds, gammas, found = _column(runs, "seed"), np.log10(_column(runs, "gamma")), {}
    for how in STOPPING:
        r, reference = _column(runs, f"R_{how}"), _column(runs, "R_0.01")
        lazy, rich = reference < LAZY_RANGE, reference > RICH_END
        found[f"lazy_excess_{how}"] = _mean((_column(runs, "M") - r)[lazy])
        enough = rich.sum() > len(np.unique(seeds[rich])) + 1
        scatter = slope_and_scatter(gammas[rich], r[rich], seeds[rich], 1.0)[2] if enough else math.nan
        found[f"rich_scatter_{how}"] = scatter
    return found


def slope_of(law: Law, found: SweepResult) -> dict[str, Any]:
    """Measured and predicted slope of R on log10 of a condition, with its standard error; one offset for each seed."""
    rows = found.table.query("measure == 'location' and quantity == 'richness' and ok").to_dict("records")
    mine = [row for row in rows if row["layer"] == law.layer]
    x, y, seeds = (_column(mine, name) for name in (law.axis, "value", "seed"))
    slope, error, _ = slope_and_scatter(np.log10(x), y, seeds, 0.0)
    return {"law": law.name, "axis": law.axis, "layer": law.layer, "slope": slope, "stderr": error, "theory": law.slope}


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=float)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
