"""A disk that is full: one sentence that names the file, exit code 2, and nothing half written."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run, geomfeat, write_files

# What is held to here is files, not the pictures within pages, which need not be printed.
pytestmark = pytest.mark.usefixtures("unprinted")
MODEL = ["--model", "net.py:make", "--trained", "final.safetensors", "--data", "npz:digits.npz", "--quiet"]
ANALYZE = ["analyze", *MODEL, "--initial", "init.safetensors", "--measures", "stable_rank", "--umap-layer", "none",
           "--probes", "8", "--out"]  # fmt: skip
COMPARE = ["compare", "a=net.py:make@init.safetensors", "b=net.py:make@final.safetensors", "--data", "npz:digits.npz",
           "--measures", "stable_rank", "--quiet", "--out"]  # fmt: skip


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk with so much room; the system's error is of the same kind."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, made once."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_files(folder)
        assert geomfeat(*ANALYZE, "study").exit_code == 0
    return folder / "study"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["extract", *MODEL, "--npz", "new/features.npz"], "features.npz"),
        (["extract", *MODEL, "--store", "new"], "new"),
        ([*ANALYZE, "new"], "new"),
        ([*COMPARE, "new"], "new"),
        (["report", "study", "--out", "new/page.html"], "page.html"),
        (["report", "study", "--figures", "new"], "new"),
    ],
    ids=lambda part: " ".join(part[:1] + part[-2:]) if isinstance(part, list) else "",
)
def test_the_file_is_named_and_nothing_is_half_written(
    files: Path, study: Path, run: Run, words: list[str], named: str
) -> None:
    shutil.copytree(study, files / "study")
    before = listing(files)
    for size in (0, 700, 2000):
        with room_for(size):
            done = run(*words)
        assert done.exit_code == 2, done.output
        [line] = [line for line in done.stderr.splitlines() if line.strip()]
        assert line.startswith("geomfeat: ")
        assert named in line or "report.html" in line
        after = listing(files)
        assert {name: content for name, content in after.items() if name in before} == before
        left = [name for name in after if name.endswith((".part", ".tmp")) or Path(name).name.startswith(".")]
        assert not left
    again = run(*words)
    assert again.exit_code == 0, again.stderr
