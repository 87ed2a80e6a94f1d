"""The catalogue of quantities: what is closed at first is in it."""

from __future__ import annotations

from geomfeat.report.content.quantity_labels import CATALOGUE, MINOR, is_minor


def test_every_minor_quantity_is_in_the_catalogue_and_every_group_keeps_an_open_one():
    known = {(entry.measure, entry.quantity): entry for entry in CATALOGUE}
    assert set(MINOR) <= set(known)
    assert {entry.group for entry in CATALOGUE if not is_minor(entry)} == {entry.group for entry in CATALOGUE}
