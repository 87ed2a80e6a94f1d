"""Errors: one family, and names that look alike."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from geomfeat import errors
from geomfeat.errors import BadInput, GeomfeatError, near

KINDS = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
NAMES = st.lists(st.text("abcdefg_0123456789", min_size=1, max_size=8), max_size=12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_error_is_one_of_the_family(kind: type[Exception]) -> None:
    assert issubclass(kind, GeomfeatError)
    assert issubclass(kind, BadInput) == issubclass(kind, ValueError)
    assert kind.__doc__


def test_near_names_come_first_the_nearest_first() -> None:
    assert near("layr1", ["head", "layer2", "layer1"]) == "layer1, layer2"
    assert near("fc", ["fc1", "fc2", "fc3", "fc4", "fc5", "fc6"], most=2).count(",") == 1


def test_where_nothing_is_near_some_are_shown() -> None:
    assert near("zzz", ["a", "b", "c"], most=2) == "a, b"
    assert near("zzz", iter(["a"])) == "a"
    assert near("zzz", []) == ""


@given(st.text(max_size=8), NAMES, st.integers(1, 6))
def test_near_names_are_known_ones_and_no_more_than_asked(name: str, known: list[str], most: int) -> None:
    found = near(name, known, most)
    shown = found.split(", ") if found else []
    assert set(shown) <= set(known)
    assert len(shown) <= most
    assert bool(shown) == bool(known)
    if name in known:
        assert shown[0] == name
