"""The style for papers: text stays text, colours are safe, and nothing of it is left behind."""

from __future__ import annotations

import io
import logging

import matplotlib.pyplot as plt
import pytest

import geomfeat as gf
from geomfeat.charts import theme


def test_text_stays_text_and_curves_have_the_safe_colours() -> None:
    with gf.style():
        figure, ax = plt.subplots()
        lines = [ax.plot([0, 1], [i, i])[0] for i in range(len(theme.OKABE_ITO))]
        ax.set_title("a title to search for")
        picture = io.StringIO()
        figure.savefig(picture, format="svg")
    plt.close(figure)
    assert [line.get_color() for line in lines] == list(theme.OKABE_ITO)
    assert "a title to search for" in picture.getvalue()


def test_settings_are_restored_also_after_an_error() -> None:
    before, level = dict(plt.rcParams), logging.getLogger("matplotlib.font_manager").level
    with pytest.raises(ZeroDivisionError), gf.style():
        1 / plt.rcParams["font.size"] // 0
    assert dict(plt.rcParams) == before
    assert logging.getLogger("matplotlib.font_manager").level == level
