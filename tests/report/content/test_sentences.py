"""The answer in words, and failures grouped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geomfeat.charts.theme import REGIME_TINTS
from geomfeat.location.regimes import REGIMES
from geomfeat.report.content.sentences import MEANING, answer, comparison, left_out, troubles, true_minus
from geomfeat.report.content.study_view import views
from tests.report.synthetic import make_study


def test_every_regime_has_a_meaning_and_a_tint():
    assert set(REGIMES) <= set(MEANING)
    assert set(REGIMES) <= set(REGIME_TINTS)


@pytest.mark.parametrize(
    ("richness", "movement", "words"),
    [
        (
            -1.5,
            -1.4,
            "to move by 3.2 % of their size if it were linear in its weights. They moved by 4 % of their size.",
        ),
        (
            0.9,
            0.3,
            "to move by 7.9 times their size if it were linear in its weights. They moved by 2 times their size.",
        ),
        (0.0, 0.0, "had to move by 100 % of their size if it were linear in its weights."),
    ],
)
def test_answer_says_how_far(richness, movement, words):
    where = replace(make_study().location, richness=richness, movement=movement)
    assert words in answer(where)


def test_answer_without_the_initial_weights_says_at_most_and_why():
    text = answer(make_study(richness=-0.9, tier="reinitialised").location)
    assert "at most 13 % of their size" in text
    assert "its initial weights, which were not given" in text
    assert "R is −0.80, so values below −0.50 mean nothing" in text
    assert "They moved by" not in text


def test_comparison_counts_and_spans(gallery, trouble):
    assert comparison(views(gallery)).startswith("Of 3 models: 1 lazy, 1 transition, 1 rich. Richness spans −1.47")
    assert comparison(views(trouble)) == "Of 2 models: 1 at most lazy, 1 not located."
    assert comparison(views(gallery[:1])) == ""
    none = [make_study(n, located=False) for n in ("a", "b")]
    assert comparison(views(none)) == "None of the 2 models could be located."


def test_troubles_are_grouped_counted_and_placed(trouble):
    failed = troubles(views(trouble), failed=True)
    assert sum(t.count for t in failed) == sum((~s.table.ok).sum() for s in trouble)
    assert [t.count for t in failed] == sorted((t.count for t in failed), reverse=True)
    nc1 = next(t for t in failed if t.measure == "nc1")
    assert (nc1.count, nc1.models) == (10, (trouble[0].name,))
    assert "stem (initial)" in nc1.places
    remark = troubles(views(trouble), failed=False)
    assert [(t.measure, t.count) for t in remark] == [("two_nn", 1)]


def test_what_was_left_out_is_reported_once(gallery):
    assert left_out(views(gallery)) == [("it needs the network's outputs: extract with the model", ["d_lr"])]


def test_minus_signs_only_in_front_of_numbers():
    assert true_minus("-1.5 to -∞, 2e-6, run-2, --initial, a - b") == "−1.5 to −∞, 2e-6, run-2, --initial, a - b"
