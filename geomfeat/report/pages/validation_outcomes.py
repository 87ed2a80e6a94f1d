"""The part of a validation's page that is about trainings judged by what became of them: plots, checks and notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from geomfeat.charts import Curve, Plot
from geomfeat.comparison.validation.outcomes.foretelling import COORDINATES, LINEAR, NONLINEAR, column, judged_rows
from geomfeat.comparison.validation.outcomes.judgement import OutcomeJudgement
from geomfeat.comparison.validation.outcomes.soundness import FLAT
from geomfeat.lab.result import Check

EXACT, FLAT_WITHIN, SLOPE = 1e-6, 0.1, 0.03
AXES = {"R": "R, decades", "kappa": "κ, decades", "kappa_a": "κ on the target, decades"}
CAPTION = (
    "Every training of the families that are judged by outcomes, by what is varied in them; those that are linear to "
    "rounding are not drawn."
)
ROUNDING = 1e-9  # of the gap of what is linear
WORDS = {
    "kappa": "κ", "kappa_a": "κ on the target", "weight_change": "change of the weights",
    "one_minus_cka": "1 − CKA of the features", "alignment": "alignment of the features with the targets",
    "alignment_gain": "its gain in training",
}  # fmt: skip
GOVERNED = ("R", "kappa")  # whose slopes on width and output scale are known


def outcome_plots(rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """The linearisation gap over R, kappa and kappa_a, one cloud for each kind of family."""
    fine = judged_rows(rows)
    kinds = dict.fromkeys(row["kind"] for row in fine)
    plots = []
    for name, label in AXES.items():
        curves = []
        for kind in kinds:
            own = [row for row in fine if row["kind"] == kind and math.isfinite(row[name]) and row["gap"] > ROUNDING]
            if own:
                curves.append(Curve(kind, column(own, name).tolist(), column(own, "gap").tolist(), kind="scatter"))
        if curves:
            ends = [min(min(c.x) for c in curves), max(max(c.x) for c in curves)]
            curves.append(Curve(f"gap {NONLINEAR:g}", ends, [NONLINEAR] * 2, kind="theory"))
            plots.append(
                Plot(f"over {label.split(',')[0]}", label, "linearisation gap", curves, log_y=True, caption=CAPTION,
                     row="Linearisation gap")
            )  # fmt: skip
    return plots


def outcome_checks(found: OutcomeJudgement) -> list[Check]:
    """What must be equal, flat, of unit slope, or never said. Cross-entropy learns other functions at other scales."""
    checks = []
    for row in found.invariances.to_dict("records"):
        what, name = row["what"], row["coordinate"]
        if what != FLAT:
            checks.append(Check(f"{what}: {name}, largest deviation", row["largest"], 0.0, EXACT, "decades"))
        elif name in GOVERNED:
            checks.append(Check(f"{what}: {name}", row["largest"], 0.0, FLAT_WITHIN, "decades"))
    checks += [
        Check(f"slope of {name} on log10 γ: {row['family']}", row[f"slope_{name}"], 1.0, SLOPE)
        for row in found.outcome_families.to_dict("records")
        for name in GOVERNED
        if math.isfinite(row[f"slope_{name}"]) and row["kind"] != "loss"
    ]
    said = found.words
    return [
        *checks,
        Check(f"'lazy' said at a gap above {NONLINEAR:g}, trainings", said["lazy_but_nonlinear"], 0.0, 0.0),
        Check(f"'rich' said at a gap and kernel change below {LINEAR:g}, trainings", said["rich_but_linear"], 0.0, 0.0),
    ]


def outcome_notes(found: OutcomeJudgement) -> list[str]:
    """Sentences: what each coordinate foretells, thresholds, stability, and families that are ranked badly."""
    notes = [
        f"{_in_words(row['coordinate'])}: rank correlation {row['spearman_gap']:.2f} with the linearisation gap, "
        f"{row['spearman_kernel_change']:.2f} with the change of the kernel, {row['spearman_test_disagreement']:.2f} "
        f"with the disagreement of the linear model on test inputs (within families {row['within_gap']:.2f}, "
        f"{row['within_kernel_change']:.2f}, {row['within_test_disagreement']:.2f}); a gap above {NONLINEAR:g} is kept "
        f"apart with AUC {row['auc']:.3f}; without catapults and weight decay {row['spearman_learning']:.2f} with the "
        f"gap and AUC {row['auc_learning']:.3f}."
        for row in found.foretold.to_dict("records")
    ]
    said, judged = found.words, found.words_judged
    notes.append(
        f"Regimes as they are named: balanced accuracy {said['balanced_accuracy_clear']:.2f} over gaps below "
        f"{LINEAR:g} and above {NONLINEAR:g} ({judged['balanced_accuracy_clear']:.2f} on the half of the families on "
        f"which no threshold was set), {said['balanced_accuracy']:.2f} with the gaps between as a third level. "
        f"{said['left_open']:.0%} of the trainings are said to be moved by the optimizer, which says nothing of this."
    )
    notes += [_thresholds(row) for row in found.thresholds.to_dict("records")]
    notes += [
        f"{_in_words(row['what'])}: differs by {row['median']:.3f} decades (median), nine tenths by less than "
        f"{row['nine_tenths']:.3f}."
        for row in found.stability.to_dict("records")
    ]
    lost = [row for row in found.outcome_families.to_dict("records") if row["located"] < row["trainings"]]
    notes += [f"{row['family']}: {row['trainings'] - row['located']} trainings were not located." for row in lost]
    return [*notes, *_badly_ranked(found)]


def _in_words(name: str) -> str:
    """A coordinate's name in words, alone or at the beginning of a longer text."""
    first, comma, rest = name.partition(",")
    return WORDS.get(first, first) + comma + rest


def _thresholds(row: Mapping[str, Any]) -> str:
    features, _, kernel = row["coordinate"].rpartition(", ")
    kernel = _in_words(kernel)
    also = f" ('rich' needs {features} above {row['features']:+.2f} too)" if features else ""
    return (
        f"Thresholds {row['lower']:+.2f} and {row['upper']:+.2f} of {kernel}{also}, set on one half of the families "
        f"with a balanced accuracy of {row['set']:.2f}, have {row['judged']:.2f} on the other half."
    )


def _badly_ranked(found: OutcomeJudgement) -> list[str]:
    notes = []
    for name in COORDINATES:
        rows = found.outcome_families.to_dict("records")
        bad = [f"{row['family']} ({row[f'spearman_{name}']:.2f})" for row in rows if row[f"spearman_{name}"] < 0.7]
        if bad:
            families = ", ".join(bad)
            notes.append(f"Families in which {_in_words(name)} ranks the gap with a correlation below .7: {families}.")
    return notes
