"""The checker of shape annotations, which jaxtyping's import hook puts around the pure functions (see pyproject).

A check reads types, precisions and sizes alone. So what has passed once passes again: a call is checked where its
arguments, or what they lead to, have types, precisions or sizes that this function has not had before. Checks of all
calls would take a quarter of the time of the tests of geometry.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Container, Hashable
from contextlib import nullcontext
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped
from torch import Tensor

# An int will do where a float is annotated, as PEP 484 has it.
_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeCheckError))
# Lists, tuples and dictionaries of more are checked anew in every call.
MANY = 64


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
    checker: _Checker | None = None
    passed: set[Hashable] = set()  # forms of arguments, and of arguments with what was returned

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checker
        if checker is None:  # at the first call: a test run calls half of what it imports
            checker = _Checker(function)
        try:
            given: Hashable = tuple([_FORMS[type(value)](value) for value in args])
            if kwargs:
                given = given, *kwargs, *map(_form, kwargs.values())
        except _NoForm:
            return checker(function, args, kwargs)
        if given not in passed:
            result = checker(function, args, kwargs)
            passed.add(given)
            return result
        result = function(*args, **kwargs)
        try:
            both = given, _form(result)
        except _NoForm:
            return checker(lambda *_, **__: result, args, kwargs)
        if both not in passed:
            checker(lambda *_, **__: result, args, kwargs)
            passed.add(both)
        return result

    return call


class _Checker:
    """Calls with every annotation of a function checked, and the names of sizes that hold for this call."""

    def __init__(self, function: FunctionType) -> None:
        hints = {name: _hint(text, function.__globals__) for name, text in function.__annotations__.items()}

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return self.now.body(*args, **kwargs)

        run.__annotations__ = hints
        self.now = threading.local()
        self.run, self.shapes = _beartyped(run), any(map(_has_shapes, hints.values()))

    def __call__(self, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        self.now.body = body
        with jaxtyped("context") if self.shapes else nullcontext():
            return self.run(*args, **kwargs)


class _NoForm(Exception):
    """Of a value, more may be checked than its form says."""


def _form(value: Any) -> Hashable:
    """All of a value that a check reads: its type, the precision and sizes of an array, these of what a list holds."""
    return _FORMS[type(value)](value)


class _Forms(dict[type, Callable[[Any], Hashable]]):
    """How to find the form of a value, by its type."""

    def __missing__(self, kind: type) -> Callable[[Any], Hashable]:
        if issubclass(kind, Tensor | np.ndarray):
            form: Callable[[Any], Hashable] = _form_of_array
        elif kind in (str, bool) or issubclass(kind, type):  # an annotation may name the value itself
            form = _form_of_name
        elif issubclass(kind, tuple | list):
            form = _form_of_items
        elif issubclass(kind, dict):
            form = _form_of_dict
        else:
            form = _no_form if issubclass(kind, Container) else type
        return self.setdefault(kind, form)


_FORMS = _Forms()


def _form_of_array(value: Any) -> Hashable:
    return type(value), value.dtype, value.shape


def _form_of_name(value: Any) -> Hashable:
    return type(value), value


def _form_of_items(values: Any) -> Hashable:
    if len(values) > MANY:
        raise _NoForm
    return type(values), *map(_form, values)


def _form_of_dict(values: Any) -> Hashable:
    return type(values), _form_of_items([*values]), _form_of_items([*values.values()])


def _no_form(value: Any) -> Hashable:
    raise _NoForm


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
