"""A hundred hostile calls of the command end as they should; `python -m tests.cli.hostile` makes more of them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from geomfeat.cli import app
from tests.cli.hostile import archives, calls, judge
from tests.cli.hostile.calls import Call
from tests.cli.hostile.judge import judged
from tests.cli.hostile.world import build

SEED, BATCHES, SIZE = 7, 4, 25


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole files of every kind that the command reads."""
    return build(tmp_path_factory.mktemp("hostile") / "world")


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_call_ends_in_a_traceback_or_harms_a_file(world: Path, tmp_path: Path, batch: int) -> None:
    faults = []
    for number in range(batch * SIZE, (batch + 1) * SIZE):
        faults += judged(world, tmp_path, SEED, number)[2]
    assert not faults, "\n".join(map(str, faults))


WHOLE = sorted({" ".join(words): words for words, _ in calls.READS if words[0] != "demo"}.values())


@pytest.mark.parametrize("words", WHOLE, ids=lambda words: " ".join(words[:1] + words[-2:]))
def test_the_calls_succeed_before_anything_is_damaged(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_a_call_is_the_same_in_every_run(world: Path, tmp_path: Path) -> None:
    first, second = (judged(world, tmp_path, SEED, 3)[0] for _ in range(2))
    assert first == second


def _end(code: str) -> Result:
    """How a command ends that runs this code."""
    made = typer.Typer()

    @made.command()
    def main() -> None:
        exec(code)

    return CliRunner().invoke(made, [])


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("raise ZeroDivisionError", "traceback"),
        ("import sys; sys.stderr.write('geomfeat: unexpected X. This is a bug in geomfeat: \\n'); sys.exit(2)",
         "last resort"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import sys; sys.exit(2)", "not one sentence"),
        ("import sys; sys.stderr.write('geomfeat: a\\nb\\n'); sys.exit(2)", "not one sentence"),
        ("import sys; sys.stderr.write('geomfeat: it is wrong\\n'); sys.exit(2)", "names neither file nor option"),
    ],
)  # fmt: skip
def test_the_judge_knows_a_bad_end(code: str, what: str) -> None:
    call = Call(("extract",), ("data.npz",), "a test")
    assert [found for found, _ in judge._of_end(call, _end(code), [])] == [what]


def test_the_judge_is_content_with_one_sentence_that_names_the_file() -> None:
    good = "import sys; sys.stderr.write('geomfeat: data.npz is no archive\\n'); sys.exit(2)"
    call = Call(("extract",), ("data.npz",), "a test")
    assert judge._of_end(call, _end(good), []) == []
    assert [found for found, _ in judge._of_end(call, _end(good), ["UserWarning: odd"])] == [
        "warnings besides the sentence"
    ]


def test_the_judge_sees_what_happened_to_files() -> None:
    call = Call(("extract",), ("data.npz",), "a test", may_write=("store",))
    refused = _end("import sys; sys.exit(2)")
    before = {"kept/notes.txt": "1", "data.npz": "2"}
    good = {**before, "store/c": "3"}
    assert judge._of_files(call, refused, before, good) == []
    for after, what in (
        ({**before, "out.npz": "3"}, "refused, but wrote or removed"),
        ({"kept/notes.txt": "1"}, "a foreign file was changed"),
        ({**before, "store/.x.npz.12.part": "3"}, "left half written"),
    ):
        assert what in [found for found, _ in judge._of_files(call, refused, before, after)]


@pytest.mark.parametrize("damage", [d for d in archives.ARCHIVE if d is not archives.other_array])
def test_damaged_archives_are_damaged(tmp_path: Path, damage: archives.Damage) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.ones((24, 6)), index=np.array("[]"))
    before = path.read_bytes()
    damage(path, random.Random(0))
    assert path.read_bytes() != before
