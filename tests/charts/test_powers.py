"""Powers become superscripts, and no text of a user breaks what draws it."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings, strategies as st
from matplotlib.mathtext import MathTextParser

from geomfeat.charts.powers import raised, raised_in_math


@pytest.mark.parametrize(
    ("text", "html"),
    [("n^0.25", "n<sup>0.25</sup>"), ("n^-1/2", "n<sup>−1</sup>/2"), ("n^(-1/2)", "n<sup>−1/2</sup>"),
     ("η* ~ γ^(2/L)", "η* ~ γ<sup>2/L</sup>"), ("a ^ b", "a ^ b"), ("^2", "^2"), ("2^", "2^"), ("a^_b", "a^_b"),
     (r"\^2", r"\^2")],
)  # fmt: skip
def test_powers_are_raised_and_other_signs_are_left(text: str, html: str) -> None:
    assert raised(text) == html


@settings(deadline=None, max_examples=200)
@example(r"\^2")
@given(st.text(st.sampled_from(r"ab2^_(){}$\%#&-./ −½"), max_size=12))
def test_any_text_can_be_drawn(text: str) -> None:
    assert MathTextParser("agg").parse(raised_in_math(text)).width > 0 or not text
