"""The command line. A user of Python never needs it, and a user of it never needs Python."""

from geomfeat.cli import (
    analyzing,
    comparing,
    demonstration,
    extracting,
    lab,
    lookup,
    pages,
    relating,
    sweeping,
    validating,
)
from geomfeat.cli.app import app

__all__ = [
    "analyzing", "app", "comparing", "demonstration", "extracting", "lab", "lookup", "main", "pages", "relating",
    "sweeping", "validating",
]  # fmt: skip


def main() -> None:
    """Entry point of the `geomfeat` console script."""
    app()
