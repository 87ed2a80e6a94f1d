"""The folder in which a hostile call starts: every kind of file that the command reads, each of them whole."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

from geomfeat.cli import app
from geomfeat.models.weights.checkpoints import save_weights
from tests.cli.hostile import user_code

SWEEP = {
    "width": 8,
    "depth": 2,
    "sigma": [0.5, 1.0],
    "eta": [0.05, 0.1],
    "seeds": 1,
    "train": {"n": 30, "target_loss": 0.5, "max_steps": 60, "snapshots": 1},
    "measure": {"measures": ["stable_rank"], "location": {"n_probes": 8, "n_bootstrap": 5}, "n": 20},
}
TINY = {**SWEEP, "sigma": 1.0, "eta": 0.1, "measure": {**SWEEP["measure"], "location": False}}
NET = ["--model", "net.py:make", "--trained", "end.safetensors"]
DATA = ["--data", "npz:data.npz"]
ANALYZE = [
    "analyze",
    *NET,
    "--initial",
    "start.safetensors",
    *DATA,
    "--out",
    "study",
    "--quiet",
    "--measures",
    "stable_rank",
    "--umap-layer",
    "none",
    "--probes",
    "8",
]


def build(folder: Path) -> Path:
    """Fill `folder`: files of a user, and folders that the command itself wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    with inside(folder):
        _code()
        _arrays()
        _weights()
        for words in (
            ANALYZE,
            ["extract", *NET, *DATA, "--npz", "features.npz", "--quiet"],
            ["extract", *NET, *DATA, "--npz", "ordered.npz", "--quiet", "--n", "0"],
            ["extract", *NET, *DATA, "--store", "store", "--quiet"],
            [
                "compare",
                "a=features.npz",
                "b=net.py:make@start.safetensors",
                *DATA,
                "--out",
                "comparison",
                "--measures",
                "stable_rank",
                "--quiet",
            ],
            ["sweep", "sweep.yaml", "--out", "sweep", "--quiet"],
        ):
            done = CliRunner().invoke(app, words, catch_exceptions=False)
            if done.exit_code:
                raise RuntimeError(f"{words}: {done.output}")
    return folder


def _code() -> None:
    Path("net.py").write_text(user_code.NETWORKS)
    Path("dat.py").write_text(user_code.DATA)
    Path("read.py").write_text(user_code.READOUTS)
    for name, text in user_code.BROKEN.items():
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    Path("sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    Path("kept").mkdir()
    Path("kept/notes.txt").write_text("mine")


def _arrays() -> None:
    stream = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 6, generator=stream).numpy(), np.arange(24) % 3
    np.savez_compressed("data.npz", x=x, y=y, x_test=x[:9], y_test=y[:9])
    square = np.abs(np.random.default_rng(0).normal(size=(24, 24)))
    square = square + square.T
    np.fill_diagonal(square, 0)
    rows, columns = np.triu_indices(24, 1)
    subjects = np.stack([square[rows, columns] + i for i in range(4)])
    np.savez_compressed("rdm.npz", rdm_area=square, rdm_brain=subjects)
    Path("cifar").mkdir()
    images = np.random.default_rng(1).integers(0, 255, (24, 3, 6, 6), dtype=np.uint8)
    np.savez_compressed("cifar/images.npz", x_train=images, y_train=y)


def _weights() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    for name in ("start", "steps/step_10", "steps/step_20", "end"):
        save_weights(net, f"{name}.safetensors")
        torch.save(net.state_dict(), f"{Path(name).name}.pt")
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), "adam.pt")
    Path("rates.json").write_text(json.dumps({"*": 0.1, "2.*": 0.2}))
    import pandas as pd

    from geomfeat.location.reference_ladder import Ladder

    rungs = pd.DataFrame({"gamma": [0.1, 1.0, 10.0], "richness": [-1.0, 0.0, 1.0], "converged": True})
    Ladder(rungs, 0.05, ("0",), 8).save("ladder.json")


@contextmanager
def inside(folder: Path) -> Any:
    """The current folder for a while."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
