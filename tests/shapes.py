"""The checker of shape annotations, which jaxtyping's pytest plugin puts around the pure functions (see pyproject)."""

from __future__ import annotations

from collections.abc import Callable

from beartype import BeartypeConf, beartype

# An int will do where a float is annotated, as PEP 484 has it.
_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., object]) -> Callable[..., object]:
    """The function with its annotations checked in every call; functions within functions are left as they are.

    Those have no shapes in their annotations (`tests/contract/test_architecture.py`), and are made anew in each call of
    the outer one: wrapping them took a third of the time of a location.
    """
    return function if "<locals>" in function.__qualname__ else _beartyped(function)
