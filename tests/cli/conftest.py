"""Files as a user has them: a model in a Python file, weights before, during and after training, and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from geomfeat.cli import app
from geomfeat.models.weights.checkpoints import save_weights
from tests.study.small import digits, model_at

NET = """
from torch import nn


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))


def broken():
    raise RuntimeError("no such network")
"""

N, PROBES = 30, 8
Run = Callable[..., Result]


def write_files(folder: Path) -> None:
    """net.py, init/final.safetensors, steps/step_20.safetensors and digits.npz."""
    (folder / "net.py").write_text(NET)
    save_weights(model_at(0), folder / "init.safetensors")
    save_weights(model_at(1), folder / "steps" / "step_20.safetensors")
    save_weights(model_at(2), folder / "final.safetensors")
    x, y = digits(N)
    np.savez(folder / "digits.npz", x=x.numpy(), y=y.numpy())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what `write_files` writes."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    return tmp_path


def geomfeat(*words: object) -> Result:
    """`geomfeat` with these words, in this process; an unexpected exception passes through."""
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


@pytest.fixture
def run() -> Run:
    """See `geomfeat` above."""
    return geomfeat


@pytest.fixture(scope="module")
def unprinted() -> Iterator[None]:
    """Still pictures of pages are drawn but not printed, which would take as long as the rest of a page fourfold.

    The tests of reports look at them, and hostile calls of the command print theirs.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("figures", "pages.forecast", "pages.lab", "pages.sweep_common"):
            patch.setattr(f"geomfeat.report.{module}.data_uri", lambda figure: "data:image/svg+xml,")
        yield


@pytest.fixture
def analyze(run: Run, unprinted: None) -> Run:
    """`geomfeat analyze` of the trained network with cheap measures and small probes, and these further words."""

    def invoke(*words: object, initial: bool = True, data: str = "npz:digits.npz", out: str = "out") -> Result:
        common = ["--model", "net.py:make", "--trained", "final.safetensors", "--data", data, "--out", out]
        cheap = [] if "--measures" in words else ["--measures", "stable_rank", "--measures", "nc1"]
        plane = [] if "--umap-layer" in words else ["--umap-layer", "none"]
        before = ["--initial", "init.safetensors"] if initial else []
        return run("analyze", *common, *before, *cheap, *plane, "--probes", PROBES, "--quiet", *words)

    return invoke
