"""Data sets by SPEC, ready for a model, and the cards that describe them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomfeat.data._load_data import load_data
    from geomfeat.data.cards import read_card
    from geomfeat.data.dataset import Dataset

# Loaded at first use: batches of a model's inputs need none of the packages that read tables and cards.
_HOMES = {"Dataset": "dataset", "load_data": "_load_data", "read_card": "cards"}

__all__ = [
    "Dataset",
    "load_data",
    "read_card",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
