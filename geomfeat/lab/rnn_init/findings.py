"""The figures, checks and sentences of the trainings."""

from __future__ import annotations

import itertools
import math

from geomfeat.charts import Curve, Plot
from geomfeat.lab.result import Check
from geomfeat.lab.rnn_init.runs import EACH, EQUAL
from geomfeat.lab.rnn_init.summary import (
    Found,
    errors,
    falls,
    lazy_in_spite_of_gap,
    means,
    of_norm,
    slope_on_scale,
)
from geomfeat.location.regimes import LARGE_GAP

R_LABEL = "demand R, decades"


def plots(found: Found) -> list[Plot]:
    """All of them; bars are one standard error over seeds."""
    norms = {f"{name}, {column}": (of_norm(found, name), column)
             for name in (EQUAL, EACH) for column in ("R", "kappa")}  # fmt: skip
    scales = found.grid[found.grid["rank"].isin((found.grid["rank"].min(), found.grid["rank"].max()))]
    by_scale = {f"gain {gain:g}, rank {rank}": (rows, "R") for (gain, rank), rows in scales.groupby(["gain", "rank"])}
    return [
        Plot("Rank of the initial weights", "rank", "decades", [_curve(*item, "rank") for item in norms.items()],
             log_x=True, caption="At one gain and output scale. Equal mean square: all weights of one size. Equal "
             "components: each of the rank's components of one size, so that weights of low rank are small."),
        Plot("Output scale", "output scale", R_LABEL,
             [*(_curve(*item, "scale") for item in by_scale.items()), _unit_slope(found)], log_x=True,
             caption="All to one loss. Dashed: a decade of R for a decade of scale."),
        Plot("Gain, full rank", "gain g", "decades",
             [_curve("R", (found.gains, "R"), "gain"), _curve("kappa", (found.gains, "kappa"), "gain")], log_x=True),
        Plot("Kernel's change by gain", "gain g", "|K − K₀| / |K₀|",
             [_curve("measured", (found.gains, "kernel_change"), "gain")], log_x=True, log_y=True),
    ]  # fmt: skip


def _curve(label: str, of: tuple, by: str) -> Curve:
    rows, column = of
    at = means(rows, by, column)
    return Curve(label, [float(x) for x in at.index], at.tolist(), errors(rows, by, column).tolist())


def _unit_slope(found: Found) -> Curve:
    """R that falls by a decade with a decade of scale, through the mean of the grid."""
    at = means(found.grid, "scale", "R")
    x = [math.log10(float(scale)) for scale in at.index]
    middle = float(at.mean()) + sum(x) / len(x)
    return Curve("slope −1", [10**value for value in x], [middle - value for value in x], kind="theory")


def checks(found: Found) -> list[Check]:
    """On the loss, the output scale, rank, gain, and the word."""
    everything = found.table
    missed = float((~everything["reached"]).sum())
    equal, each = (means(of_norm(found, name), "rank", "R").tolist() for name in (EQUAL, EACH))
    gains = means(found.gains, "gain", "R")
    return [
        Check("trainings that missed the loss", missed, 0.0, 0.0),
        Check("slope of R on log₁₀ 1/scale", slope_on_scale(found.grid, "R"), 1.0, 0.15),
        Check("slope of κ on log₁₀ 1/scale", slope_on_scale(found.grid, "kappa"), 1.0, 0.2),
        Check("equal components: least fall of R from one rank to the next", falls(each), 1.0, 0.95, "decades"),
        Check("equal mean square: R of rank 1 less that of full rank", equal[0] - equal[-1], 1.2, 0.8, "decades"),
        Check("equal mean square: κ of rank 1 less that of full rank", _first_less_last(found), 1.5, 1.2, "decades"),
        Check("R at the smallest gain less that at gain 2", gains.iloc[0] - gains.loc[2.0], 2.0, 1.0, "decades"),
        Check(f"called lazy at a linearisation gap above {LARGE_GAP:g}", lazy_in_spite_of_gap(everything), 0.0, 0.0),
    ]  # fmt: skip


def _first_less_last(found: Found) -> float:
    kappa = means(of_norm(found), "rank", "kappa")
    return float(kappa.iloc[0] - kappa.iloc[-1])


def answer(found: Found) -> str:
    """What gain, rank and scale do."""
    return " ".join([_of_rank(found), _of_scale(found), _of_gain(found), _of_the_word(found)])


def _of_rank(found: Found) -> str:
    by = {(name, column): _listed(found, name, column) for name in (EQUAL, EACH) for column in ("R", "kappa")}
    ranks = ", ".join(map(str, means(of_norm(found), "rank", "R").index))
    return (
        f"Low initial rank is richer: at ranks {ranks} R is {by[EACH, 'R']} where each component has one strength, and "
        f"{by[EQUAL, 'R']} where all weights have one mean square (κ {by[EQUAL, 'kappa']})."
    )


def _listed(found: Found, norm: str, column: str) -> str:
    rows = of_norm(found, norm)
    pairs = zip(means(rows, "rank", column), errors(rows, "rank", column), strict=True)
    return ", ".join(f"{value:+.2f} ± {error:.2f}" for value, error in pairs)


def _of_scale(found: Found) -> str:
    slopes = [slope_on_scale(found.grid, column) for column in ("R", "kappa")]
    return (
        f"The output scale acts as in feed-forward networks: with a decade less of it R rises by {slopes[0]:.2f} and κ "
        f"by {slopes[1]:.2f}."
    )


def _of_gain(found: Found) -> str:
    r, kappa, change = (means(found.gains, "gain", column) for column in ("R", "kappa", "kernel_change"))
    steps = change.map(math.log10).diff()
    where = steps.idxmax()
    turn = (
        f"the kernel's change does not fall throughout: up to {where:g} it rises by {steps.max():.2f} decades"
        if steps.max() > 0
        else "the kernel's change falls with these gains too"
    )
    return (
        f"R falls with the gain, from {r.iloc[0]:+.2f} at {r.index[0]:g} to {r.iloc[-1]:+.2f} at {r.index[-1]:g}; "
        f"κ is least at {kappa.idxmin():g}; {turn}."
    )


def _of_the_word(found: Found) -> str:
    rows = found.chaotic[found.chaotic["reached"]]
    wide = rows["gap"] > LARGE_GAP
    spared = int((wide & (rows["regime_without_gap"] == "lazy")).sum())
    return (
        f"At gains of {rows['gain'].min():g} to {rows['gain'].max():g} the linearisation gap is above {LARGE_GAP:g} in "
        f"{int(wide.sum())} of {len(rows)} trainings; {lazy_in_spite_of_gap(rows)} of them are called lazy, and "
        f"{spared} would be without a look at the gap."
    )


def notes(found: Found) -> list[str]:
    """What limits the numbers."""
    equal = means(of_norm(found), "rank", "R")
    steps = itertools.pairwise(zip(equal.index, equal.tolist(), strict=True))
    rises = [f"{a} to {b}" for (a, before), (b, after) in steps if after > before]
    out = [
        "Initial weights of low rank come in two norms. By one mean square all ranks have one gain; by one strength of "
        "each component, the rank-r network has the gain g √(r/N), and much of its richness is that of a small gain.",
        "R and M are of the state at the last step, on all trials, which are those that were learned.",
    ]
    if rises:
        out.append(f"At equal mean square R does not fall from rank {' and '.join(rises)}.")
    return out
