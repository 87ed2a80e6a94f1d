"""Errors that name the argument, its value and the remedy.

Every error that the library raises on purpose derives from `GeomfeatError`; any other error is a bug.
They are `ValueError`s too, where the cause is a bad value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class GeomfeatError(Exception):
    """Base of every error that geomfeat raises on purpose."""


class BadInput(GeomfeatError, ValueError):
    """An argument cannot be used; the message says which, why and what to do."""


class LayerNotFound(BadInput):
    """No module of the model matches a layer pattern."""


class LayerDidNotFire(BadInput):
    """A selected module was never called in a forward pass, so it has no activations."""


class CheckpointMismatch(BadInput):
    """A checkpoint does not fit the model."""


class OutputExists(GeomfeatError):
    """The output folder holds results of other settings."""


class WriteFailed(GeomfeatError, OSError):
    """A file could not be written: the disk is full or read-only, or access is denied. The old file is unchanged."""

    def __str__(self) -> str:
        return (
            f"{self.filename} cannot be written: {self.strerror}. Existing files are unchanged: free some space or "
            "choose another place, then run the same again"
        )


class OutOfMemory(GeomfeatError):
    """A computation does not fit into memory, even in the smallest chunks; the message says what would fit."""


class RankLost(GeomfeatError, RuntimeError):
    """Another process of the group has ended or hangs; the message says which. What was written to disk stays."""


def require_kind(value: Any, kind: type, name: str) -> None:
    """BadInput for an argument that is of another class, as options that came as a mapping.

    >>> require_kind(1, int, "steps")
    """
    if not isinstance(value, kind):
        raise BadInput(f"{name} is a {type(value).__name__}: give {kind.__name__}(...)")


def near(name: str, known: Iterable[str], most: int = 5) -> str:
    """The known names that look like `name`, for "did you mean" in error messages.

    >>> near("layr1", ["layer1", "layer2", "head"])
    'layer1, layer2'
    """
    known = list(known)
    found = difflib.get_close_matches(name, known, n=most, cutoff=0.4) or known[:most]
    return ", ".join(found)
