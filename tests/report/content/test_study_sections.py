"""The card of a model has its numbers of features and kernel; what is not known has no line."""

from __future__ import annotations

import math
from dataclasses import replace

from geomfeat.location.result import KERNEL
from geomfeat.report.content.study_sections import answer_table, cards
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


def test_many_models_are_compared_in_a_table_and_few_by_their_cards():
    few = views([make_study(name) for name in "abc"])
    assert answer_table(few) is None
    lost = make_study("nowhere", located=False)
    table = answer_table(views([make_study("a", -1.5), make_study("b", 0.9, seed=1), make_study("c"), lost]))
    assert table is not None
    assert table.columns[:3] == ("model", "regime", "richness R (90 %)")
    assert table.columns[-2:] == ("accuracy, train", "accuracy, test")
    assert {len(row) for row in table.rows} == {len(table.columns)}
    where = make_study("b", 0.9, seed=1).location
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert row["regime"].text == row["regime"].mark == where.regime
    assert row["M"].value == where.movement
    assert row["κ"].value == where.kernel_demand
    assert row["richness R (90 %)"].text.startswith(f"{where.richness:+.2f} [")
    assert table.rows[3][1].text == "not located"
    assert table.rows[3][-1].text.endswith("%")
    assert answer_table(views([make_study(name, located=False) for name in "abcd"])) is None
