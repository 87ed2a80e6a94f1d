"""The command line application, its log and its error messages. Imports nothing slow, so that --help is quick."""

from __future__ import annotations

import logging
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geomfeat._version import __version__
from geomfeat.errors import GeomfeatError

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
REMEDY = "use fewer samples (--n), fewer layers (--layers), or a smaller --batch-size"
# click's class for every error of usage (unknown option, wrong type); typer does not export it.
UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # type: ignore[assignment]


class OneSentence(TyperGroup):
    """The commands. An error of usage is reported in one line, as every other error is."""

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command that the arguments name, and end the program with its exit code."""
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, *rest, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name or "geomfeat", *rest, standalone_mode=False, **extra)
        except UsageError as error:
            about = getattr(error, "ctx", None)
            path = "geomfeat" if about is None else about.command_path
            message = " ".join(error.format_message().split()).rstrip(".")
            typer.echo(f"geomfeat: {message[:1].lower()}{message[1:]}; see {path} --help", err=True)
            sys.exit(BAD_INPUT)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="geomfeat",
    cls=OneSentence,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"geomfeat {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def geomfeat(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Most memory that the command may take for its work, such as '4 GB': it works in smaller blocks, and "
            "refuses what does not fit. Default: what is free.",
        ),
    ] = None,
) -> None:
    """Measure the geometry of what a neural network has learned, and where it sits between lazy and rich."""
    if max_memory is not None:
        from geomfeat.errors import BadInput
        from geomfeat.memory import memory_limit

        try:
            context.with_resource(memory_limit(max_memory))
        except BadInput as error:
            raise typer.BadParameter(str(error), param_hint="--max-memory") from error
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(BAD_INPUT)


class _OneLine(logging.Formatter):
    """Level and message; the traceback only with `traceback`."""

    def __init__(self, traceback: bool) -> None:
        super().__init__("geomfeat: %(levelname)s: %(message)s")
        self.traceback = traceback

    def formatException(self, ei: object) -> str:
        return super().formatException(ei) if self.traceback else ""  # type: ignore[arg-type]

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler may have cached the traceback
        return super().format(record).rstrip("\n")


class Terminated(KeyboardInterrupt):
    """The system asked the program to end, as a batch system does before it takes a job's machine away."""


@contextmanager
def termination_as_interruption() -> Iterator[None]:
    """Within, SIGTERM ends the work as Ctrl-C does: what is half written is removed, what is finished stays."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # no other thread may set what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def command(debug: bool, resume: str = "") -> Iterator[None]:
    """The frame of every command: a log on stderr, errors in one line with exit code 2, Ctrl-C with 130, SIGTERM 143.

    `resume` is the line printed after an interruption. With `debug`, tracebacks are shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(debug))
    logger = logging.getLogger("geomfeat")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        with termination_as_interruption():
            yield
    except (typer.Exit, typer.Abort, BrokenPipeError):  # a closed pipe is no error: `head` closes it after ten lines
        raise
    except (Exception, SystemExit) as error:
        message = refusal(error)
        if message is None:
            raise
        if debug:
            logger.error("refused", exc_info=True)
        typer.echo(f"geomfeat: {' '.join(message.split())}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as error:
        ended = isinstance(error, Terminated)
        typer.echo(f"\ngeomfeat: {'ended by SIGTERM' if ended else 'interrupted'}. {resume}".rstrip(), err=True)
        raise typer.Exit(TERMINATED if ended else INTERRUPTED) from None
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def refusal(error: BaseException) -> str | None:
    """The message for an error in the input, a file, memory or the user's code; None for any other error (a bug).

    >>> refusal(FileNotFoundError(2, "No such file or directory", "a.npz"))
    "'a.npz' cannot be used: No such file or directory"
    >>> refusal(ZeroDivisionError()) is None
    True
    """
    if isinstance(error, GeomfeatError):
        return str(error)
    first = (str(error).strip().splitlines() or [""])[0]
    if _out_of_memory(error):
        return f"out of memory{f' ({first})' if first else ''}: {REMEDY}"
    place = user_line(error)
    if isinstance(error, SystemExit):
        return f"{place or 'the code of the model or the data'} ended the program by sys.exit({error.code!r})"
    if isinstance(error, OSError) and error.filename is not None:
        why = "it is a file, and a folder is needed" if isinstance(error, FileExistsError) else error.strerror
        return f"{str(error.filename)!r} cannot be used: {why or error}"
    if place is not None:
        return f"{place} failed: {type(error).__name__}: {first}; --debug shows its traceback"
    return (error.strerror or str(error)) if isinstance(error, OSError) else None


def user_line(error: BaseException) -> str | None:
    """File and line of the user's code in which an error was raised; None where no such code was running."""
    others = [str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))]
    found, step = None, error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if os.path.isfile(file) and not os.path.realpath(file).startswith(tuple(map(os.path.realpath, others))):
            found = f"{file}, line {step.tb_lineno},"
        step = step.tb_next
    return found


def _out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from geomfeat.memory import is_out_of_memory

    return is_out_of_memory(error)
