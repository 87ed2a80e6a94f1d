"""The words of the regimes: the rule at its boundaries, on networks with known outcomes, and without the start."""

import math

import pytest
from hypothesis import given, strategies as st

from geomfeat.location.regimes import (
    BY_OPTIMIZER,
    FEATURES_ONLY,
    KERNEL_ONLY,
    MEANINGS,
    REGIMES,
    regime_of,
    regime_without_start,
)

numbers = st.floats(-5, 5)


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ((-1.0, -1.0, -0.6, 0.05, 0.0), "lazy"),
        ((1.0, 0.3, 1.4, 2.0, -0.5), "rich"),
        ((1.58, 1.55, -0.6, 0.05, 0.0), FEATURES_ONLY),  # lambda-balanced at +20: gap .007
        ((-3.6, -3.6, -0.6, 0.05, 0.0), "lazy"),  # the same at -20
        ((-0.8, -0.9, 0.9, 1.5, 0.0), KERNEL_ONLY),  # recurrent network with gain 2: gap 1.06
        ((-0.3, -0.4, 0.0, 0.2, 0.0), "transition"),
        ((-1.9, -0.6, -1.0, 0.5, 1.9), BY_OPTIMIZER),  # a catapult
        ((-1.0, -0.9, -0.6, 0.4, 0.9), BY_OPTIMIZER),  # its kernel alone
        ((-3.69, -2.43, -0.68, 0.02, 0.28), "lazy"),  # lambda-balanced at -20: gap .005
        ((-2.49, -0.86, 0.33, 0.57, -0.19), KERNEL_ONLY),  # a read-out of a hundredth: gap .3
        ((-1.21, 0.04, 1.44, 4.0, 0.0), "rich"),  # the same at a larger output scale: gap .74
        ((0.5, -math.inf, -math.inf, 0.0, math.nan), "frozen"),
        ((math.nan, -1.0, 0.0, 0.0, 0.0), "undetermined"),
        ((-math.inf, -0.5, 0.0, 0.0, 0.0), "undetermined"),
        ((-math.inf, 0.5, 1.0, 1.0, 0.0), "rich"),
    ],
)
def test_the_rule_gives_the_word_of_known_places(place: tuple[float, ...], word: str) -> None:
    assert regime_of(*place) == word


@pytest.mark.parametrize(("gap", "words"), [(0.49, ("lazy", FEATURES_ONLY)), (0.51, ("transition", "transition"))])
def test_a_kernel_is_not_at_rest_beyond_a_gap_of_one_half(gap: float, words: tuple[str, str]) -> None:
    places = ((-0.7, -0.7, -1.0, 0.09, 0.0), (1.6, 1.6, -0.6, 0.05, 0.0))  # the first a recurrent network of gain 1.4
    assert tuple(regime_of(*place, linearisation_gap=gap) for place in places) == words


@given(richness=numbers, movement=numbers, demand=numbers, change=st.floats(0, 10), gap=st.floats(0, 2))
def test_no_word_says_linear_of_what_the_linearised_network_does_not_explain(
    richness: float, movement: float, demand: float, change: float, gap: float
) -> None:
    word, without = (regime_of(richness, movement, demand, change, 0.0, None, g) for g in (gap, math.nan))
    if gap > 0.5:
        assert word not in ("lazy", FEATURES_ONLY)
        assert word == ("transition" if without in ("lazy", FEATURES_ONLY) else without)
    else:
        assert word == without


@given(richness=numbers, movement=numbers, demand=numbers, change=st.floats(0, 10), excess=numbers)
def test_lazy_is_not_said_of_a_kernel_that_moved_nor_rich_of_one_at_rest(
    richness: float, movement: float, demand: float, change: float, excess: float
) -> None:
    word = regime_of(richness, movement, demand, change, excess)
    assert word in REGIMES
    if word == "lazy":
        assert demand < -0.2
        assert change < 0.13
        assert max(richness, movement) < -0.5
    if word == "rich":
        assert demand > 0.1 or change > 0.4


@given(richness=numbers, movement=numbers)
def test_a_layer_goes_by_its_features_alone(richness: float, movement: float) -> None:
    assert regime_of(richness, movement) in {"lazy", "transition", "rich", BY_OPTIMIZER}


@given(richness=numbers, demand=numbers)
def test_demand_alone_decides_without_the_start(richness: float, demand: float) -> None:
    word = regime_without_start(richness, False, -9.0, demand)
    assert (word == "lazy") == (richness < -0.5 and demand < -0.2)
    assert (word == "rich") == (richness >= -0.5 and demand > 0.1)


def test_every_word_has_a_meaning_that_names_no_symbol() -> None:
    for word, meaning in MEANINGS.items():
        assert word
        assert not any(symbol in meaning.split() for symbol in ("R", "M", "E", "kappa"))
