"""The answer in words, and failures grouped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from geomfeat.charts.theme import REGIME_TINTS
from geomfeat.location.regimes import FEATURES_ONLY, MEANINGS, REGIMES
from geomfeat.location.result import KERNEL
from geomfeat.report.content.sentences import answer, comparison, left_out, next_step, troubles, true_minus
from geomfeat.report.content.study_view import views
from tests.report.synthetic import make_study


def test_every_regime_has_a_meaning_and_a_tint():
    assert set(REGIMES) == set(MEANINGS)
    assert set(REGIMES) <= set(REGIME_TINTS)


@pytest.mark.parametrize(
    ("richness", "movement", "words"),
    [
        (
            -1.5,
            -1.4,
            ("its features moved by 4 % of their size", "to move by 3.2 % of their size if it were linear"),
        ),
        (
            0.9,
            0.3,
            ("its features moved by 2 times their size", "to move by 7.9 times their size if it were linear"),
        ),
        (0.0, 0.0, ("had to move by 100 % of their size if it were linear in its weights",)),
    ],
)
def test_answer_says_how_far(richness, movement, words):
    where = replace(make_study().location, richness=richness, movement=movement)
    assert all(part in answer(where) for part in words)


def test_answer_says_what_the_word_means_and_what_a_linear_model_would_have_missed():
    where = replace(
        make_study().location, movement=-1.4, kernel_change=0.04, linearisation_gap=0.031, kernel_demand=-0.7
    )
    text = answer(where)
    assert text.lower().startswith(MEANINGS["lazy"].lower())
    assert (
        "In training, its features moved by 4 % of their size, its tangent kernel changed by 4 % of its size, and a "
        "linear model in the weights would have missed 3.1 % of the change." in text
    )
    assert "the learned change is 20 % of the largest one that leaves the kernel at rest." in text
    beyond = answer(replace(where, linearisation_gap=1.3, kernel_demand=0.5))
    assert "would have been off by more than the whole change (130 %)." in beyond
    assert "the learned change is 3.2 times the largest one" in beyond


def test_answer_leaves_out_what_is_not_known_of_the_kernel():
    where = replace(make_study().location, movement=-1.4, **dict.fromkeys(KERNEL, math.nan))
    assert "In training, its features moved by 4 % of their size. To learn" in answer(where)
    assert "kernel" not in answer(where).partition("In training")[2]
    fixed = replace(where, kernel_demand=-math.inf, kernel_change=0.0, linearisation_gap=0.0)
    assert answer(fixed).endswith("; what was trained cannot change the tangent kernel.")


def test_answer_without_the_initial_weights_says_at_most_and_why():
    text = answer(make_study(richness=-0.9, tier="reinitialised").location)
    assert "at most 13 % of their size" in text
    assert "its initial weights, which were not given" in text
    assert "R is −0.80, so values below −0.50 mean nothing" in text
    assert "In training" not in text


def test_comparison_counts_and_spans(gallery, trouble):
    assert comparison(views(gallery)).startswith("Of 3 models: 1 lazy, 1 transition, 1 rich. Richness spans −1.47")
    assert comparison(views(trouble)) == "Of 2 models: 1 at most lazy, 1 not located."
    assert comparison(views(gallery[:1])) == ""
    words = [replace(s, location=replace(s.location, regime=FEATURES_ONLY)) for s in gallery[:2]]
    assert comparison(views([*words, gallery[2]])).startswith(f"Of 3 models: 2 {FEATURES_ONLY}; 1 rich. ")
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


def test_the_next_step_is_what_limits_the_answer_most():
    where = make_study().location
    assert where is not None
    flat = where.by_probes.assign(richness=where.richness)
    steep = where.by_probes.assign(richness=[where.richness - 0.25 * k for k in (3, 2, 1, 0)])
    assert "more probes, since R still rose by 0.25 decades" in next_step(replace(where, by_probes=steep))
    assert "a model that fits equally well" in next_step(replace(where, by_probes=flat))
    assert "name the groups" in next_step(replace(where, by_probes=flat, low=math.nan))
    again = make_study(tier="reinitialised").location
    assert "give the initial checkpoint" in next_step(again)
    assert "give the initial checkpoint" in next_step(None)
