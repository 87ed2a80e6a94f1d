"""Numbers as text: rounding by the error, signs, and the table of the command line."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from geomfeat.report.content import location_table
from geomfeat.report.content.number_format import (
    layers_text,
    number,
    percent,
    share_text,
    signed,
    size_words,
    with_error,
)
from tests.report import synthetic


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.53, 0.02, "0.53 ± 0.02"),
        (0.5312, 0.0199, "0.53 ± 0.02"),
        (0.5312, 0.0149, "0.531 ± 0.015"),
        (12.345, 1.04, "12.3 ± 1.0"),
        (9.96, 9.6, "10 ± 10"),
        (-3.2, 0.5, "-3.2 ± 0.5"),
        (0.0, 0.3, "0.0 ± 0.3"),
        (1.2e-7, 3e-9, "(1.20 ± 0.03)e-07"),
        (123456789.0, 4e6, "(1.23 ± 0.04)e+08"),
        (5.0, 0.0, "5"),
        (5.0, math.nan, "5"),
        (math.nan, 0.1, "–"),
        (math.inf, None, "inf"),
    ],
)
def test_with_error(value, stderr, text):
    assert with_error(value, stderr) == text


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e6))
def test_rounding_moves_a_value_by_less_than_its_error(value, stderr):
    text = with_error(value, stderr)
    mantissa, _, power = text.partition(")e")
    center, error = (float(part) for part in mantissa.strip("(").split(" ± "))
    scale = 10.0 ** int(power) if power else 1.0
    assert abs(center * scale - value) <= 0.5 * stderr + 1e-9 * abs(value)
    assert 0.66 * stderr <= error * scale <= 1.5 * stderr


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_three_digits_are_kept(value):
    assert float(number(value)) == pytest.approx(value, rel=5.1e-3)


def test_signs_shares_and_sizes():
    assert [signed(x) for x in (0.0, -0.004, math.inf)] == ["+0.00", "-0.00", "+∞"]
    assert percent(0.5) == "50.0 %"
    assert [share_text(x) for x in (0.999, 12.5, 1e-5, math.nan)] == ["99.9 %", "1,250 %", "0.001 %", "–"]
    assert size_words(-3.0) == "0.1 % of"
    assert size_words(2.4) == "250 times"
    assert size_words(1e9).endswith("times")
    assert size_words(math.nan) == "an unknown share of"


def test_layers_are_counted_in_order_or_in_total():
    assert layers_text(["lazy"] * 3 + ["rich"]) == "lazy x3, rich"
    assert layers_text(["a", "b"] * 3) == "mixed: 3 a, 3 b"
    assert layers_text([]) == ""


def test_location_table_has_a_line_for_each_model(gallery, trouble):
    lines = location_table([*gallery, *trouble]).splitlines()
    assert len(lines) == 2 + 5
    assert lines[0].split() == [
        "model", "train", "test", "richness", "R", "(90", "%)", "M", "E", "kappa", "kernel", "gap", "regime",
        "by", "layer",
    ]  # fmt: skip
    where = gallery[0].location
    assert lines[2].startswith("mlp lazy ")
    assert f"{where.richness:+.2f} [{where.low:+.2f}, {where.high:+.2f}]" in lines[2]
    assert lines[2].endswith("lazy x6")
    assert "99.5 %" in lines[2]
    kernel = (f"{where.kernel_demand:+.2f}", share_text(where.kernel_change), share_text(where.linearisation_gap))
    assert "  ".join(kernel).split() == lines[2][lines[0].index("kappa") : lines[0].index("regime")].split()
    assert lines[5][lines[0].index("kernel") : lines[0].index("regime")].split() == ["–", "–"], (
        "not known: fresh weights"
    )
    assert "at most -0.90" in lines[5]
    assert "not located" in lines[6]
    column = lines[0].index("regime")
    assert [line[column:].split("  ")[0] for line in lines[2:]] == [
        "lazy", "transition", "rich", "at most lazy", "not located",
    ]  # fmt: skip


def test_location_table_of_one_study_and_of_unknown_accuracies():
    study = synthetic.make_study()
    bare = replace(study, settings={"layers": study.settings["layers"], "accuracy": {"data": 0.75, "other": None}})
    text = location_table(bare)
    assert text.splitlines()[0].split()[:2] == ["model", "data"]
    assert "75.0 %" in text
    assert location_table(replace(study, settings={})).splitlines()[0].split()[:3] == ["model", "train", "test"]
