"""The command line. A user of Python never needs it, and a user of it never needs Python."""

import sys

from geomfeat.cli import analyze, compare, demo, extract, lab, measures, relate, report, sweep, validate
from geomfeat.cli._app import BAD_INPUT, app

__all__ = [
    "analyze", "app", "compare", "demo", "extract", "lab", "main", "measures", "relate", "report", "sweep", "validate",
]  # fmt: skip


def main() -> None:
    """Entry point of the `geomfeat` console script; an error that nobody foresaw is a line too, but with --debug."""
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        told = " ".join(str(error).split())[:300]
        sys.stderr.write(
            f"geomfeat: unexpected {type(error).__name__}: {told}. This is a fault of geomfeat: please report it, with "
            "what the same command says with --debug\n"
        )
        sys.exit(BAD_INPUT)
