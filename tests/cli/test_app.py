"""The frame of every command."""

from __future__ import annotations

import logging
import operator
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result

import geomfeat
from geomfeat.cli._app import command
from geomfeat.errors import BadInput
from tests.warm_process import start_script

Run = Callable[..., Result]


def test_help_is_there_and_light() -> None:
    """Asking for help must not wait for torch."""
    code = (
        "import sys\nfrom geomfeat.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch'\nassert 'pandas' not in sys.modules, 'pandas'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("analyze", "extract", "measures", "report", "demo"))


@pytest.mark.parametrize("name", ["analyze", "extract", "measures", "report", "demo"])
def test_every_command_has_help(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.output


def test_an_error_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, command(debug=False):
        raise BadInput("first line\n  second line")
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == "geomfeat: first line second line\n"


def test_a_path_that_cannot_be_used_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(typer.Exit) as stopped, command(debug=False):
        (tmp_path / "file" / "out").mkdir()
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == f"geomfeat: '{tmp_path}/file/out' cannot be used: Not a directory\n"


def test_an_interruption_says_how_to_resume_with_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, command(debug=False, resume="Run it again."):
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err.strip() == "geomfeat: interrupted. Run it again."


def test_termination_is_an_interruption_with_code_143_and_is_as_before_afterwards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as stopped, command(debug=False, resume="Run it again."):
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 143
    assert capsys.readouterr().err.strip() == "geomfeat: ended by SIGTERM. Run it again."
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_in_a_thread_leaves_signals_alone() -> None:
    found: list[object] = []

    def work() -> None:
        with command(debug=False):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_bug_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomfeat.registry.get", operator.index)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        run("measures", "stable_rank")


@pytest.mark.parametrize("debug", [False, True])
def test_the_console_tells_a_bug_in_one_line_unless_asked_for_the_traceback(debug: bool, tmp_path: Path) -> None:
    words = ["geomfeat", "measures", "x", *["--debug"] * debug]
    code = (
        "import operator, sys, geomfeat.registry\nfrom geomfeat.cli import main\n"
        f"geomfeat.registry.get = operator.index\nsys.argv = {words}\nmain()"
    )
    (tmp_path / "console.py").write_text(code, encoding="utf-8")
    done = start_script(tmp_path / "console.py", tmp_path).finished(timeout=120)
    assert done.returncode == (1 if debug else 2)
    assert ("Traceback" in done.stderr) == debug
    assert ("geomfeat: unexpected TypeError" in done.stderr) != debug


def test_an_error_of_the_users_own_code_is_reported_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, command(debug=False):
        raise KeyError("layer9")
    assert stopped.value.exit_code == 2
    output = capsys.readouterr().err
    assert output.startswith(f"geomfeat: {__file__}, line ")
    assert output.endswith("failed: KeyError: 'layer9'; --debug shows its traceback\n")


def test_code_that_ends_the_program_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, command(debug=False):
        sys.exit(0)
    assert stopped.value.exit_code == 2
    assert "ended the program by sys.exit(0)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 GB")])
def test_a_lack_of_memory_comes_with_what_to_do(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    with pytest.raises(typer.Exit) as stopped, command(debug=False):
        raise error
    assert stopped.value.exit_code == 2
    output = capsys.readouterr().err
    assert output.startswith("geomfeat: out of memory")
    assert "use fewer samples (--n)" in output


def test_the_version_is_reported(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"geomfeat {geomfeat.__version__}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["analyse"], ["no such command 'analyse'", "Did you mean 'analyze'", "see geomfeat --help"]),
        (["extract", "--no-such"], ["no such option: --no-such", "see geomfeat extract --help"]),
        (["extract", "--data", "digits"], ["--model is missing: give hf:FOLDER"]),
        (["lab", "--seed", "9" * 23], ["'--seed'", "too large"]),
        (["lab", "--seed", "soon"], ["'--seed'"]),
        (["report", ""], ["'FOLDER...'", "it is empty"]),
        (["extract", "--model", "a:b", "--data", "digits", "--store", ""], ["'--store'", "it is empty"]),
        (["extract", "--model", "a:b", "--data", "digits", "--npz="], ["'--npz'", "it is empty"]),
    ],
)
def test_words_that_cannot_be_understood_are_reported_in_one_line(
    run: Run, words: list[str], message: list[str]
) -> None:
    result = run(*words)
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("geomfeat: ")
    assert all(part in line for part in message), line


@pytest.mark.parametrize("word", ["²", "1_0", "1.5", "-1", "0", "many"])
def test_a_projection_is_a_number_of_features(run: Run, word: str) -> None:
    result = run("extract", "--model", "a:b", "--data", "digits", "--npz", "x.npz", "--project", word)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"geomfeat: --project {word!r}: use ")


def test_no_words_at_all_show_the_help(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "analyze" in result.stdout


@pytest.mark.parametrize("debug", [False, True])
def test_the_log_shows_tracebacks_only_when_asked(capsys: pytest.CaptureFixture[str], debug: bool) -> None:
    with command(debug):
        try:
            raise RuntimeError("deep")
        except RuntimeError:
            logging.getLogger("geomfeat.study").warning("measure failed", exc_info=True)
        logging.getLogger("geomfeat.study").debug("detail")
    output = capsys.readouterr().err
    assert "geomfeat: WARNING: measure failed" in output
    assert ("Traceback" in output) == debug
    assert ("detail" in output) == debug


def test_logging_is_as_before_afterwards() -> None:
    logger = logging.getLogger("geomfeat")
    before = (logger.level, list(logger.handlers))
    with command(debug=True):
        assert len(logger.handlers) == len(before[1]) + 1
    assert (logger.level, logger.handlers) == before


def test_paths_of_installed_packages_work_as_models(run: Run) -> None:
    result = run("extract", "--model", "geomfeat.models.mlp:mlp", "--data", "digits", "--list")
    assert result.exit_code == 0, result.stderr
    assert Path.cwd().exists()
    assert "hidden, with weights" in result.stdout


def in_shell(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, whose parent is no shell that typer could ask."""
    code = "import sys; from geomfeat.cli import main; sys.argv[0] = 'geomfeat'; main()"
    given = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **environment}
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=given)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed_for_a_shell(shell: str, tmp_path: Path) -> None:
    shown = in_shell("--show-completion", shell)
    assert shown.returncode == 0, shown.stderr
    assert "_GEOMFEAT_COMPLETE=complete_" in shown.stdout
    made = in_shell("--install-completion", shell, HOME=str(tmp_path))
    assert made.returncode == 0, made.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_GEOMFEAT_COMPLETE" in path.read_text(encoding="utf-8") for path in files)


def test_completion_gives_the_commands_and_their_options() -> None:
    words = {"_GEOMFEAT_COMPLETE": "complete_bash", "COMP_WORDS": "geomfeat me", "COMP_CWORD": "1"}
    assert in_shell(**words).stdout.split() == ["measures"]
    words |= {"COMP_WORDS": "geomfeat measures --mark", "COMP_CWORD": "2"}
    assert in_shell(**words).stdout.split() == ["--markdown"]
