"""What may happen to a sweep on its way: a full disk, Ctrl-C, a kill, another sweep in the same folder."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from geomfeat.comparison.sweeps._sweep import SweepResult, sweep
from geomfeat.errors import GeomfeatError
from tests.comparison.sweeps_on_disk import Counted, finished, left_over, tiny, wait_for, weights
from tests.warm_process import Running, start_script


def test_a_full_disk_ends_the_sweep_with_what_is_finished(tmp_path: Path, counted: Counted) -> None:
    """A real file system with room for two runs and a half, where it can be mounted."""
    config, disk = tiny(sigma=[0.5, 1.0], width=32), tmp_path / "disk"
    disk.mkdir()
    sweep({**config, "sigma": 0.5, "seeds": 1}, tmp_path / "one", progress=False)
    room = sum(-(-p.stat().st_size // 4096) * 10 for p in tmp_path.glob("one/runs/*/*"))  # kB, of 2.5 runs
    counted.clear()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room + 8}k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(GeomfeatError, match=r"No space left on device. [12] of 4 runs are finished: free"):
            sweep(config, disk, progress=False)
        finished = SweepResult.load(disk)
        there = len(weights(disk)) // 2  # init and trained
        assert finished.outcomes == {"matched": there, "missing": 4 - there}
        assert [p for p in left_over(disk) if p.name != "sweep.json"] == []
        subprocess.run(["mount", "-o", "remount,size=5m", disk], check=True)
        assert sweep(config, disk, progress=False).outcomes == {"matched": 4}
        assert len(counted) <= 5  # the one that could not be written was trained twice
    finally:
        subprocess.run(["umount", disk], check=True)


def started(code: str, folder: Path) -> Running:
    """The code, with folder/out as its argument."""
    (folder / "script.py").write_text(code, encoding="utf-8")
    return start_script(folder / "script.py", folder, folder / "out")


QUOTA = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
import geomfeat as gf
from tests.comparison.sweeps_on_disk import tiny
try:
    gf.sweep(tiny(), sys.argv[1], progress=False)
except gf.GeomfeatError as error:
    sys.exit(str(error))
"""


def test_a_file_that_may_not_grow_is_reported_as_a_full_disk(tmp_path: Path) -> None:
    output = started(QUOTA, tmp_path).finished(timeout=120).stderr
    assert "File too large. 0 of 2 runs are finished: free some space" in output
    assert list((tmp_path / "out" / "runs").iterdir()) == []
    assert left_over(tmp_path / "out") == []


SWEEP = """
import sys
import typer
import geomfeat as gf
from geomfeat.cli._app import command
from tests.comparison.sweeps_on_disk import tiny
try:
    with command(debug=False):
        print(gf.sweep(tiny(seeds=5, train={"target_loss": None, "max_steps": 300}), sys.argv[1], progress=False))
except typer.Exit as end:
    sys.exit(end.exit_code)
"""
FIVE = tiny(seeds=5, train={"target_loss": None, "max_steps": 300})


# How it ends: by Ctrl-C, as a batch system ends a job, or in the middle of anything.
@pytest.mark.parametrize(
    ("how", "code", "words"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGKILL, -9, "")],
)
def test_an_interrupted_sweep_goes_on_where_it_was(
    tmp_path: Path, counted: Counted, how: signal.Signals, code: int, words: str
) -> None:
    going, out = started(SWEEP, tmp_path), tmp_path / "out"
    wait_for(lambda: finished(out) >= 2)
    going.send_signal(how)
    end = going.finished(timeout=60)
    assert end.returncode == code
    assert words in end.stderr
    there = finished(out)
    assert 2 <= there < 5
    if how != signal.SIGKILL:
        assert left_over(out) == []
    found = sweep(FIVE, out, progress=False)
    assert (len(counted), found.outcomes) == (5 - there, {"completed": 5})
    assert left_over(out) == []


def test_two_sweeps_at_once_on_one_folder_make_every_run_once(tmp_path: Path, counted: Counted) -> None:
    other, out = started(SWEEP, tmp_path), tmp_path / "out"
    wait_for(lambda: finished(out) >= 1)
    ours = sweep(FIVE, out, progress=False)
    end = other.finished(timeout=120)
    assert end.stdout.startswith("5 trainings: 5 completed"), end.stderr
    assert ours.outcomes == {"completed": 5}
    assert finished(out) == 5
    assert left_over(out) == []
    assert len(counted) < 5
