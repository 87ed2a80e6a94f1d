"""Stand-ins for packages that geomfeat imports and a bare machine lacks, so that a check can run there.

jaxtyping's annotations say nothing at run time, tqdm's bars are not shown, and numba's loops run as the Python that
they are.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class _Shaped:
    """`Float[Tensor, "n d"]` is Tensor."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item[0]


def _unchanged(*function: Any, **_: Any) -> Any:
    """A decorator, with or without options, that changes nothing."""
    return function[0] if function and callable(function[0]) else lambda same: same


class _Bar:
    """A progress bar that shows nothing."""

    def __init__(self, iterable: Any = (), **_: Any) -> None:
        self.iterable = iterable

    def __iter__(self) -> Any:
        return iter(self.iterable)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def set_postfix(self, *_: Any, **__: Any) -> None:
        pass


def _attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Names of a package's .pyi, each imported when it is asked for."""
    homes: dict[str, str] = {}
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            home = f"{package}.{node.module}" if node.level else str(node.module)
            homes |= {(alias.asname or alias.name): f"{home}:{alias.name}" for alias in node.names}

    def get(name: str) -> Any:
        if name not in homes:
            return import_module(f"{package}.{name}")
        home, _, own = homes[name].partition(":")
        return getattr(import_module(home), own)

    return get, lambda: list(homes), list(homes)


PARTS: dict[str, dict[str, Any]] = {
    "jaxtyping": dict.fromkeys(("Bool", "Float", "Int", "Shaped", "Num", "Complex"), _Shaped),
    "numba": {"njit": _unchanged, "prange": range},
    "tqdm": {"tqdm": _Bar},
    "tqdm.auto": {"tqdm": _Bar},
    "lazy_loader": {"attach_stub": _attach_stub},
}


def stand_in() -> tuple[str, ...]:
    """Put stand-ins in the place of what cannot be imported; returns the names of those."""
    missing = []
    for name, parts in PARTS.items():
        try:
            import_module(name)
        except ImportError:
            made = ModuleType(name)
            made.__spec__ = ModuleSpec(name, None)  # torch asks whether there is one
            vars(made).update(parts, __path__=[])
            sys.modules[name] = made
            missing.append(name)
    return tuple(missing)
