"""The card of a model has its numbers of features and kernel; what is not known has no line."""

from __future__ import annotations

import math
from dataclasses import replace

from geomfeat.location.result import KERNEL
from geomfeat.report.content.study_sections import cards
from geomfeat.report.content.study_view import views
from tests.report.synthetic import make_study


def facts_of(study) -> dict[str, str]:
    (card,) = cards(views(study))
    return dict(card.facts)


def test_a_card_has_the_numbers_of_the_kernel_with_their_intervals():
    study = make_study(richness=0.5)
    where = replace(
        study.location, kernel_demand=-0.5, kernel_change=0.12, linearisation_gap=0.081, metric="Adam state",
        readout="last token, logits less their mean",
        kernel_intervals={"kernel_demand": (-0.61, -0.42), "kernel_change": (0.1, 0.14)},
    )  # fmt: skip
    facts = facts_of(replace(study, location=where))
    assert facts["kernel demand κ, decades"] == "−0.50 [−0.61, −0.42]"
    assert facts["kernel change"] == "12 % [10 %, 14 %]"
    assert facts["linearisation gap"] == "8.1 %"
    assert facts["metric"] == "Adam state"
    assert facts["outputs"] == "last token, logits less their mean"


def test_a_card_without_a_kernel_has_no_such_lines():
    study = make_study()
    facts = facts_of(replace(study, location=replace(study.location, **dict.fromkeys(KERNEL, math.nan))))
    assert "richness R, decades" in facts
    assert not {"kernel demand κ, decades", "kernel change", "linearisation gap", "metric", "outputs"} & set(facts)
    fresh = facts_of(make_study(richness=-0.9, tier="reinitialised"))
    assert "kernel demand κ, decades" in fresh
    assert "kernel change" not in fresh
