"""The glossary explains every number of a location, and states the rule of the regimes with its own thresholds."""

from __future__ import annotations

from geomfeat.location import regimes
from geomfeat.report.content.location_terms import LOCATION_TERMS

TERMS = {name: meaning for name, meaning, _ in LOCATION_TERMS}


def test_every_number_of_the_location_has_a_term():
    for word in ("Richness R", "Movement M", "Excess E", "κ", "κ_a", "Kernel change", "Kernel excess",
                 "Linearisation gap", "Metric", "Tangent space", "Interval", "Floor", "Regimes"):  # fmt: skip
        assert any(word in name for name in TERMS), word


def test_the_rule_is_stated_with_the_thresholds_it_uses():
    text = TERMS["Regimes"].replace("−", "-")
    assert f"R and M are below {regimes.LAZY_BELOW:g}" in text
    assert f"R is above {regimes.RICH_DEMAND:g} or M above {regimes.RICH_MOVEMENT:g}" in text
    assert f"κ is below {regimes.KERNEL_RESTS:g} and it changed by less than {100 * regimes.SMALL_CHANGE:g} %" in text
    assert f"κ is above {regimes.KERNEL_MOVED:g} or it changed by more than {100 * regimes.LARGE_CHANGE:g} %" in text
    measured = set(regimes.REGIMES) - {"at most lazy", "at most transition", "undetermined"}
    assert all(word in text.lower() for word in measured)


def test_terms_end_as_sentences_and_name_a_source():
    assert all(meaning.endswith(".") and source for _, meaning, source in LOCATION_TERMS)
