"""The command line: the application, its log, and how errors are told. Nothing heavy is imported here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from geomfeat.errors import GeomfeatError

BAD_INPUT, INTERRUPTED = 2, 130


class _Command(TyperCommand):
    """A command that refuses empty paths, which would stand for the current folder: `--out ""` of an unset variable."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at what was typed, since an empty path cannot be told from '.' afterwards."""
        typed = list(args)
        rest = super().parse_args(ctx, args)
        pairs = list(zip(["", *typed], typed, strict=False))
        options = {opt for parameter in self.params for opt in parameter.opts if opt.startswith("-")}
        alone = any(word == "" and before not in options for before, word in pairs)
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            if not any(isinstance(v, Path) for v in (value if isinstance(value, list | tuple) else [value])):
                continue
            named = [opt for opt in parameter.opts if opt.startswith("-")]
            if any((opt, "") in pairs or f"{opt}=" in typed for opt in named) or (alone and not named):
                why = "it is empty: give a path, '.' for the current folder"
                raise typer.BadParameter(why, ctx=ctx, param=parameter)  # type: ignore[arg-type]
        return rest


class _App(typer.Typer):
    """Commands of the class above."""

    def command(self, *args: Any, **options: Any) -> Any:
        """See typer."""
        return super().command(*args, **{"cls": _Command, **options})


app = _App(
    name="geomfeat",
    help="Measure the geometry of what a neural network has learned, and where it sits between lazy and rich.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class _OneLine(logging.Formatter):
    """Level and message; the traceback only where it was asked for."""

    def __init__(self, traceback: bool) -> None:
        super().__init__("geomfeat: %(levelname)s: %(message)s")
        self.traceback = traceback

    def formatException(self, ei: object) -> str:
        return super().formatException(ei) if self.traceback else ""  # type: ignore[arg-type]

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler may have cached the traceback
        return super().format(record).rstrip("\n")


@contextmanager
def command(debug: bool, resume: str = "") -> Iterator[None]:
    """The frame of every command: a log on stderr, errors in one line with exit code 2, Ctrl-C with 130.

    `resume` says how to go on after an interruption. With `debug`, tracebacks are shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(debug))
    logger = logging.getLogger("geomfeat")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        yield
    except GeomfeatError as error:
        if debug:
            logger.error("bad input", exc_info=True)
        typer.echo(f"geomfeat: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except BrokenPipeError:  # whoever reads stdout has enough, as `head` does: click ends quietly
        raise
    except OSError as error:
        if debug:
            logger.error("a file or folder cannot be used", exc_info=True)
        where = "" if error.filename is None else f"{str(error.filename)!r} cannot be used: "
        typer.echo(f"geomfeat: {where}{' '.join((error.strerror or str(error)).split())}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.echo(f"\ngeomfeat: interrupted. {resume}".rstrip(), err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
