"""What an area was recorded with, in a few words that stand beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geomfeat.report.content.number_format import number


def recorded_words(facts: Mapping[str, Any], area: str) -> str:
    """Units, trials, their groups and the signal-to-noise ratio of an area, from the settings of its study.

    >>> facts = {"units_by_area": {"IT": 40}, "trials": 192, "errors_over": "8 runs", "signal_to_noise": {"IT": 0.626}}
    >>> recorded_words(facts, "IT")
    '40 units, 192 trials in 8 runs, SNR 0.626'
    """
    grouped = "" if facts["errors_over"] == "trials" else f" in {facts['errors_over']}"
    ratio = facts.get("signal_to_noise", {}).get(area)
    noise = "" if ratio is None else f", SNR {number(ratio)}"
    return f"{facts['units_by_area'][area]} units, {facts['trials']} trials{grouped}{noise}"
