"""The page of a validation: every family's ladder, what it says of R, M and intervals, and theory's slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.charts import Curve, Plot
from geomfeat.comparison.validation.campaign import RICH_END, STOPPING, Validation
from geomfeat.comparison.validation.onset_of_richness import RICH_ONSET, best_summary, spreads_of
from geomfeat.comparison.validation.outcomes.foretelling import COORDINATES, NONLINEAR
from geomfeat.lab import Experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.report.pages.lab import write_lab_page
from geomfeat.report.pages.validation_forest import forest_plots
from geomfeat.report.pages.validation_outcomes import WORDS, outcome_checks, outcome_notes, outcome_plots

PER_PLOT = 7  # families in one plot: as many as there are colours
GOALS = {"slope": 0.03, "scatter": 0.05, "lazy_excess": 0.1, "reinit_median": 0.08, "reinit_worst": 0.2}
COVERAGE, WORST_COVERAGE = (0.85, 0.97), 0.75


def write_validation(found: Validation, path: str | Path, *, settings: Mapping[str, Any], table_file: str = "") -> Path:
    """Write the page to `path`; returns the path."""
    findings = findings_of(found, settings)
    asked = Experiment(
        "validate", "Validation of the location on families of known richness",
        "Does R recover the richness at which networks were trained, do R and κ foretell what became of them, and are "
        "M and the intervals correct?",
        "Multiplying the output scale γ by ten raises R by one decade for every architecture, task and optimizer; "
        "in lazy networks the features move exactly as far as required, M = R.",
        "geomfeat/location/demand.py; Chizat, Oyallon and Bach 2019; Karkada 2024", lambda *_: findings,
    )  # fmt: skip
    return write_lab_page(asked, findings, path, table_file=table_file)


def findings_of(found: Validation, settings: Mapping[str, Any]) -> Findings:
    """A validation as plots, checks against the goals, and a table of the ladders' families, or of the others alone."""
    families = found.families.to_dict("records")
    notes = [
        f"{row['family']}: {row['breaks']} Slope {row['slope']:.3f}, scatter {row['scatter']:.3f}."
        for row in families
        if row["breaks"] and row["located"] >= 3
    ]
    lost = {str(row["family"]): row["runs"] - row["located"] for row in families if row["located"] < row["runs"]}
    if lost:
        missed = ", ".join(f"{name} ({count})" for name, count in lost.items())
        notes.append(f"Trainings that missed the target loss and are left out: {missed}.")
    notes += [f"{name} was not trained: {reason}" for name, reason in found.absent.items()]
    notes += [*_stopping(families), *_onsets(found)]
    plots = forest_plots(found)
    if len(found.runs):
        plots += [*_ladders(found.runs.to_dict("records")), _onset_plot(found)]
    if found.by_outcome is not None:
        plots += outcome_plots(found.outcomes.to_dict("records"))
        notes += outcome_notes(found.by_outcome)
    table = found.families
    if not len(table) and found.by_outcome is not None:
        table = found.by_outcome.outcome_families
    return Findings(_answer(found), plots, checks_of(found), table, settings, notes)


def _stopping(families: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the share left by the linear response and the number of probes do to M - R and to the scatter."""
    notes = []
    for how in STOPPING:
        lazy, rich = (
            np.array([abs(f[f"{what}_{how}"]) for f in families if math.isfinite(f.get(f"{what}_{how}", math.nan))])
            for what in ("lazy_excess", "rich_scatter")
        )
        if len(lazy) and len(rich):
            share, _, quarter = how.partition("_")
            notes.append(
                f"Linear response to a share of {share} left, {'a quarter of' if quarter else 'all'} training inputs "
                f"as probes: |M − R| at the lazy end {np.median(lazy):.3f} (median), {lazy.max():.2f} (worst family); "
                f"scatter of R about unit slope where R > {RICH_END:g}: {np.median(rich):.3f} and {rich.max():.2f} "
                "decades."
            )
    return notes


def _onsets(found: Validation) -> list[str]:
    """Where rich learning sets in, by summary over layers and by norm."""
    name, chosen, judged = best_summary(found.onsets) if len(found.onsets) else ("", math.nan, math.nan)
    if not name:
        return []
    notes = [
        f"Onset of rich learning (excess below {RICH_ONSET:g}) by {row['summary']}: at R = {row['median']:+.2f} "
        f"(median), spread {row['spread']:.2f} decades over {row['families']} families."
        for row in spreads_of(found.onsets)
        if row["families"]
    ]
    best = (
        f"Of these the {name} was chosen for the smallest spread over every other family, {chosen:.2f} decades; over "
        f"the remaining families its spread is {judged:.2f}."
    )
    return [*notes, best]


def _answer(found: Validation) -> str:
    s = found.summary()
    count = f"{int(s['trainings'])} trainings of {int(s['families'])} families"
    texts = []
    if len(found.families):
        texts.append(
            f"the slope of R on log₁₀ γ is within "
            f"{s['slope, largest distance from 1']:.3f} of 1 in every family where it should be, with a scatter of "
            f"{s['scatter, median']:.3f} decades (worst {s['scatter, worst']:.3f}); M − R at the lazy end is "
            f"{s['M - R in the lazy range, median']:+.3f} (median). From fresh weights R is off by "
            f"{s['re-initialised, median error']:.2f} decades (worst family {s['re-initialised, worst error']:.2f})"
        )
    if found.by_outcome is not None:
        texts.append(
            f"whether the linearised network is more than {NONLINEAR:g} off is foretold with AUC "
            + ", ".join(f"{s[f'AUC of a gap above .3: {name}']:.3f} by {WORDS.get(name, name)}" for name in COORDINATES)
        )
    held, worst = (100 * s[f"coverage, {name}"] for name in ("mean", "worst"))
    texts.append(f"90 % intervals contain the true value in {held:.0f} % (worst family {worst:.0f} %)")
    first, *others = texts
    return ". ".join([f"{count}: {first}", *(text[0].upper() + text[1:] for text in others)]) + "."


def checks_of(found: Validation) -> list[Check]:
    """The goals: measured and required numbers."""
    s = found.summary()
    rows = [row for row in found.families.to_dict("records") if row["located"] >= 3]
    middle = sum(COVERAGE) / 2
    ladders = [
        Check("scatter about unit slope, worst family", s["scatter, worst"], 0.0, GOALS["scatter"], "decades"),
        Check("M − R in the lazy range, worst family", s["M - R in the lazy range, worst"], 0.0, GOALS["lazy_excess"],
              "decades"),
        Check("M − R in the lazy range with a share of .002 left, worst family",
              s["M - R in the lazy range, worst, .002 left"], 0.0, GOALS["lazy_excess"], "decades"),
        Check("R from fresh weights, median error", s["re-initialised, median error"], 0.0, GOALS["reinit_median"],
              "decades"),
        Check("R from fresh weights, worst family", s["re-initialised, worst error"], 0.0, GOALS["reinit_worst"],
              "decades"),
    ]  # fmt: skip
    checks = [
        *(ladders if len(found.families) else []),
        Check("coverage of 90 % intervals, mean", s["coverage, mean"], middle, COVERAGE[1] - middle),
        Check("coverage of 90 % intervals, worst family", s["coverage, worst"], 1.0, 1 - WORST_COVERAGE),
    ]  # fmt: skip
    checks += [
        Check(f"slope on log10 γ: {r['family']}", r["slope"], 1.0, GOALS["slope"]) for r in rows if not r["breaks"]
    ]
    tripled = [r["tripled"] for r in rows]
    if tripled:
        checks.append(Check("three times the labels", sum(tripled) / len(tripled), math.log10(3), 0.01, "decades"))
    for law in found.laws.to_dict("records"):
        checks.append(Check(f"slope of R: {law['law']}", law["slope"], law["theory"], 0.05))
    return checks if found.by_outcome is None else [*checks, *outcome_checks(found.by_outcome)]


def _ladders(rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    names = list(dict.fromkeys(row["family"] for row in rows))
    plots = []
    for first in range(0, len(names), PER_PLOT):
        curves = [c for name in names[first : first + PER_PLOT] if (c := _ladder(name, rows)) is not None]
        if not curves:
            continue
        gammas = sorted({x for curve in curves for x in curve.x})
        middle = [y - math.log10(x) for c in curves for x, y in zip(c.x, c.y, strict=True)]
        offset = sorted(middle)[len(middle) // 2]
        line = Curve("slope 1", gammas, [math.log10(x) + offset for x in gammas], kind="theory")
        plots.append(
            Plot(f"Families {first + 1} to {min(first + PER_PLOT, len(names))}", "γ", "R, decades", [*curves, line],
                 log_x=True, row="Demand over output scale",
                 caption="Each line is a family; dashed lines have slope 1 and no other meaning.")
        )  # fmt: skip
    return plots


def _ladder(name: str, rows: Sequence[Mapping[str, Any]]) -> Curve | None:
    own = [row for row in rows if row["family"] == name and isinstance(row.get("R"), float) and math.isfinite(row["R"])]
    gammas = sorted({row["gamma"] for row in own})
    values = [[row["R"] for row in own if row["gamma"] == g] for g in gammas]
    return Curve(name, gammas, [sum(v) / len(v) for v in values]) if gammas else None


def _onset_plot(found: Validation) -> Plot:
    """Excess over demand, one cloud of all families."""
    rows = [r for r in found.runs.to_dict("records") if math.isfinite(r.get("R_0.01", math.nan))]
    points = sorted((r["R_0.01"], r["M"] - r["R_0.01"]) for r in rows)
    ends = [points[0][0], points[-1][0]] if points else [0.0, 1.0]
    curves = [
        Curve("all families", [p[0] for p in points], [p[1] for p in points], kind="scatter"),
        Curve("M = R", ends, [0.0, 0.0], kind="theory"),
    ]
    return Plot("Excess over demand", "R, decades", "M − R, decades", curves, caption=(
        "Every training. Lazy networks move their features as far as required; rich learning needs less movement than "
        "linear learning would."))  # fmt: skip
