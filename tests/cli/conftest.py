"""Files as a user has them: a model in a Python file, weights before, during and after training, and data."""

from __future__ import annotations

from collections.abc import Callable
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


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.py, init/final.safetensors, steps/step_20.safetensors and digits.npz."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    save_weights(model_at(0), tmp_path / "init.safetensors")
    save_weights(model_at(1), tmp_path / "steps" / "step_20.safetensors")
    save_weights(model_at(2), tmp_path / "final.safetensors")
    x, y = digits(N)
    np.savez(tmp_path / "digits.npz", x=x.numpy(), y=y.numpy())
    return tmp_path


@pytest.fixture
def run() -> Run:
    """`geomfeat` with these words, in this process; an unexpected exception passes through."""

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)

    return invoke


@pytest.fixture
def analyze(run: Run) -> Run:
    """`geomfeat analyze` of the trained network with cheap measures and small probes, and these further words."""

    def invoke(*words: object, initial: bool = True, data: str = "npz:digits.npz", out: str = "out") -> Result:
        common = ["--model", "net.py:make", "--trained", "final.safetensors", "--data", data, "--out", out]
        cheap = [] if "--measures" in words else ["--measures", "stable_rank", "--measures", "nc1"]
        plane = [] if "--umap-layer" in words else ["--umap-layer", "none"]
        before = ["--initial", "init.safetensors"] if initial else []
        return run("analyze", *common, *before, *cheap, *plane, "--probes", PROBES, "--quiet", *words)

    return invoke
