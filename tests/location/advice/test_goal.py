"""What R to aim at for a word, by the rule of words itself."""

from __future__ import annotations

import math
from typing import Any

import pytest

from geomfeat.errors import BadInput
from geomfeat.location.advice.goal import MARGIN, goal_of
from geomfeat.location.regimes import regime_without_start


@pytest.mark.parametrize("ahead", [-1.5, -0.4, 0.0, 0.3, 1.2, math.nan])
@pytest.mark.parametrize("word", ["lazy", "rich"])
def test_the_word_holds_at_the_goal_with_the_margin_and_no_more(word: str, ahead: float) -> None:
    richness = 1.0 if word == "lazy" else -2.0
    goal = goal_of(word, richness, richness + ahead)
    assert not goal.is_met

    def regime(beyond: float) -> str:
        at = goal.richness + beyond if word == "rich" else goal.richness - beyond
        return regime_without_start(at, False, math.nan, at + ahead)

    assert regime(-MARGIN + 0.01) == word
    # Features that are in between are rich too where the kernel moved: the goal asks for both.
    assert regime(-MARGIN - 0.52) != word


def test_what_is_there_already_stays() -> None:
    for word, richness in (("lazy", -2.0), ("rich", 1.5)):
        goal = goal_of(word, richness, richness)
        assert goal.is_met
        assert goal.richness == richness
    assert not goal_of(-2.0, -2.0, -2.0).is_met
    assert str(goal_of("lazy", 0.0, 0.0)) == "R = -0.75 (lazy)"


@pytest.mark.parametrize("target", ["richer", "", None, math.nan, math.inf, True, [1.0, 2.0], "0.3"])
def test_bad_targets_are_named(target: Any) -> None:
    with pytest.raises(BadInput, match="target="):
        goal_of(target, 0.0, 0.0)


@pytest.mark.parametrize("richness", [-math.inf, math.nan])
def test_networks_whose_features_do_not_move_are_refused(richness: float) -> None:
    with pytest.raises(BadInput, match="no hidden layer is moved"):
        goal_of("rich", richness, 0.0)
