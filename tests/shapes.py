"""The checker of shape annotations, which jaxtyping's import hook puts around the pure functions (see pyproject)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped

# An int will do where a float is annotated, as PEP 484 has it.
_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeCheckError))


def install() -> None:
    """Let the hook use `checked`: jaxtyping's own wrapper checks arguments twice, and wraps inner functions too."""
    jaxtyping.jaxtyped = lambda *, typechecker: checked  # type: ignore[assignment]


def checked(what: Any) -> Any:
    """The function with its annotations checked in every call; of a class, the `__init__` of a dataclass.

    Functions within functions are left as they are. They have no shapes in their annotations
    (`tests/contract/test_architecture.py`), and are made anew in each call of the outer one.
    """
    if inspect.isclass(what):
        if "__dataclass_fields__" in vars(what) and isinstance(what.__init__, FunctionType):
            what.__init__ = checked(what.__init__)
        return what
    return what if "<locals>" in what.__qualname__ else _checked(what)


def _checked(function: FunctionType) -> Callable[..., Any]:
    within: Callable[..., Any] | None = None
    shapes = False

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal within, shapes
        if within is None:  # at the first call: a test run calls half of what it imports
            within, shapes = _typed(function)
        if not shapes:
            return within(*args, **kwargs)
        with jaxtyped("context"):  # the names of sizes hold for this call
            return within(*args, **kwargs)

    return call


def _typed(function: FunctionType) -> tuple[Callable[..., Any], bool]:
    """A copy that checks its annotations; and whether these have shapes."""
    hints = {name: _hint(text, function.__globals__) for name, text in function.__annotations__.items()}
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, hints
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return _beartyped(copy), any(map(_has_shapes, hints.values()))


def _hint(text: Any, names: dict[str, Any]) -> Any:
    """What a written annotation names; Any where that is imported for the type checker alone."""

    def bearer() -> None: ...

    bearer.__annotations__ = {"value": text}
    try:
        return get_type_hints(bearer, names, include_extras=True)["value"]
    except NameError:
        return Any


def _has_shapes(hint: Any) -> bool:
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_has_shapes, get_args(hint)))
