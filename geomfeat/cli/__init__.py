"""The command line. A user of Python never needs it, and a user of it never needs Python."""

import sys

from geomfeat.cli import analyze as analyzing
from geomfeat.cli import compare as comparing
from geomfeat.cli import demo as demonstration
from geomfeat.cli import extract as extracting
from geomfeat.cli import lab
from geomfeat.cli import measures as lookup
from geomfeat.cli import relate as relating
from geomfeat.cli import report as pages
from geomfeat.cli import sweep as sweeping
from geomfeat.cli import validate as validating
from geomfeat.cli._app import BAD_INPUT, app

__all__ = [
    "analyzing", "app", "comparing", "demonstration", "extracting", "lab", "lookup", "main", "pages", "relating",
    "sweeping", "validating",
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
