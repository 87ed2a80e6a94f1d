"""The command line: one module for each command, named as the command."""

import sys

from geomfeat.cli import (
    analyze,
    compare,
    demo,
    extract,
    forecast,
    lab,
    measures,
    monitor,
    movement,
    relate,
    report,
    sweep,
    validate,
)
from geomfeat.cli._app import BAD_INPUT, app

__all__ = [
    "analyze", "app", "compare", "demo", "extract", "forecast", "lab", "main", "measures", "monitor", "movement",
    "relate", "report", "sweep", "validate",
]  # fmt: skip


def main() -> None:
    """Entry point of the `geomfeat` console script. An unexpected error is one line; with --debug, a traceback."""
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        message = " ".join(str(error).split())[:300]
        sys.stderr.write(
            f"geomfeat: unexpected {type(error).__name__}: {message}. This is a bug in geomfeat: please report it, "
            "with the output of the same command with --debug\n"
        )
        sys.exit(BAD_INPUT)
