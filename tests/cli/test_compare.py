"""`geomfeat compare`: networks, recordings and matrices from files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result

from geomfeat.activations import extract, load_npz, save_npz
from geomfeat.comparison.models.result import FILES
from geomfeat.geometry.rsa import rdm
from tests.study.small import digits, model_at

Run = Callable[..., Result]
NETWORKS = ("end=net.py:make@final.safetensors", "start=net.py:make@init.safetensors")


@pytest.fixture
def compare(run: Run) -> Run:
    """`geomfeat compare` with these words, one cheap measure and few samples."""

    def invoke(*words: object, data: str | None = "npz:digits.npz", out: str = "out") -> Result:
        cheap = [] if "--measures" in words else ["--measures", "stable_rank"]
        given = [] if data is None else ["--data", data]
        return run("compare", *words, *given, *cheap, "--out", out, "--quiet")

    return invoke


@pytest.fixture
def brain(files: Path) -> Path:
    """Matrices of the second layer of the trained network, as of two subjects, and of the pixels."""
    inputs, _ = digits(30)
    seen = extract(model_at(2), inputs, layers="3", progress=False)["3"].x
    noise = [torch.from_numpy(np.random.default_rng(i).standard_normal(seen.shape)) for i in range(2)]
    noisy = [rdm(seen + 0.2 * e, dissimilarity="correlation") for e in noise]
    subjects = np.concatenate([r.vectors.numpy() for r in noisy])
    pixels = rdm(inputs.flatten(1), dissimilarity="correlation").vectors[0].numpy()
    np.savez(files / "brain.npz", rdm_it_subjects=subjects, rdm_it=subjects.mean(0), rdm_pixels=pixels)
    return files / "brain.npz"


def test_two_networks_a_control_and_a_brain(files: Path, brain: Path, compare: Run) -> None:
    words = (*NETWORKS, "pixels=brain.npz:pixels", "--brain", "brain.npz:it_subjects", "--layers", "leaf", "--boot", 20)
    result = compare(*words, "--layers", "start=type:Linear")
    assert result.exit_code == 0, result.stderr
    assert "The layer most similar to it is 3 of end" in result.stdout
    assert "page: out/comparison.html" in result.stdout
    assert {p.name for p in Path("out").iterdir()} == {*FILES, "comparison.html"}
    ranking = pd.read_parquet("out/ranking.parquet")
    assert ranking.iloc[0][["model", "layer"]].tolist() == ["end", "3"]
    layers = pd.read_parquet("out/layers.parquet")
    assert layers.groupby("model", sort=False)["kind"].first().to_dict() == {
        "end": "network", "start": "network", "pixels": "RDMs", "it": "brain",
    }  # fmt: skip
    assert json.loads(Path("out/comparison.json").read_text())["dataset"]["name"]


def test_the_same_request_is_not_computed_again_and_another_is_refused(files: Path, compare: Run) -> None:
    assert compare(*NETWORKS).exit_code == 0
    before = Path("out/comparison.html").stat().st_mtime_ns
    again = compare(*NETWORKS)
    assert again.exit_code == 0
    assert "nothing was computed" in again.stdout
    other = compare(*NETWORKS, "--seed", 1)
    assert other.exit_code == 2
    assert "other settings, first seed: 0 there, 1 now" in other.stderr
    assert Path("out/comparison.html").stat().st_mtime_ns == before
    assert compare(*NETWORKS, "--seed", 1, "--force").exit_code == 0
    assert json.loads(Path("out/comparison.json").read_text())["seed"] == 1


def test_other_weights_under_the_same_name_are_another_request(files: Path, compare: Run) -> None:
    assert compare(*NETWORKS).exit_code == 0
    Path("final.safetensors").write_bytes(Path("steps/step_20.safetensors").read_bytes())
    assert "other settings, first models" in compare(*NETWORKS).stderr


def test_recordings_need_no_data_and_meet_networks_on_the_same_samples(files: Path, run: Run, compare: Run) -> None:
    common = ("--data", "npz:digits.npz", "--quiet")
    taken = run("extract", "--model", "net.py:make", "--trained", "final.safetensors", *common, "--npz", "end.npz")
    assert taken.exit_code == 0, taken.stderr
    alone = compare("end.npz", "copy=end.npz", data=None)
    assert alone.exit_code == 0, alone.stderr
    assert np.load("out/comparison.npz")["model_similarity"].min() > 1 - 1e-6
    beside = compare("recorded=end.npz", NETWORKS[0], out="beside")
    assert beside.exit_code == 0, beside.stderr
    assert np.load("beside/comparison.npz")["model_similarity"].min() > 1 - 1e-6


def test_recordings_of_other_samples_are_refused_and_nothing_is_written(files: Path, run: Run, compare: Run) -> None:
    common = ("--model", "net.py:make", "--data", "npz:digits.npz", "--quiet")
    assert run("extract", *common, "--n", 20, "--npz", "few.npz").exit_code == 0
    assert run("extract", *common, "--n", 0, "--npz", "ordered.npz").exit_code == 0
    few, ordered = compare("few.npz", NETWORKS[0]), compare("ordered.npz", NETWORKS[0])
    assert few.exit_code == ordered.exit_code == 2
    assert "30 samples, layer" in few.stderr
    assert "has 20" in few.stderr
    assert "of other samples, or in another order" in ordered.stderr
    assert not Path("out").exists()


BAD = [
    (("net.py:make",), "one is given, and a comparison needs two or more"),
    (("net.py:make", "net.py:make"), "two models are named 'make'; give each a name"),
    (("a=net.py:make@none.safetensors", "net.py:make"), "no such file: 'none.safetensors'"),
    (("a=net.py:make@net.py", "net.py:make"), "must be one of .safetensors, .pt, .pth"),
    (("a=none.npz", "net.py:make"), "no such file: 'none.npz'"),
    (("digits.npz", "net.py:make"), "was not written by save_npz"),
    (("a=", "net.py:make"), "MODEL 'a=' is empty"),
    (("net", "net.py:make"), "'net' is neither"),
    ((*NETWORKS, "--brain", "none.npz"), "--brain 'none.npz': no such file"),
    ((*NETWORKS, "--brain", "digits.npz"), "holds no array named rdm_<name>"),
    ((*NETWORKS, "--measures", "nonsense"), "no measure 'nonsense'"),
    ((*NETWORKS, "--similarity", "cka"), "similarity='cka'"),
    ((*NETWORKS, "--layers", "end=nowhere"), "no layer matches 'nowhere'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_compared_is_reported_in_one_line(
    files: Path, compare: Run, words: tuple[str, ...], message: str
) -> None:
    result = compare(*words)
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert message in line
    assert not Path("out").exists()


def test_networks_need_data_and_matrices_all_of_it(files: Path, brain: Path, compare: Run) -> None:
    assert "--data is missing: 'end' is a network" in compare(*NETWORKS, data=None).stderr
    assert "leave out --n" in compare(*NETWORKS, "--brain", "brain.npz", "--n", 10).stderr


def test_a_recording_with_a_layer_of_any_name_is_read(files: Path, compare: Run) -> None:
    save_npz("end.npz", extract(model_at(2), digits(30)[0], layers=["1", "3"], progress=False))
    assert list(load_npz("end.npz")) == ["1", "3"]
    assert compare("end.npz", "other=end.npz", data=None).exit_code == 0


@pytest.mark.parametrize("name", ["comparison.html", *FILES])
def test_a_file_of_the_users_is_never_replaced(files: Path, compare: Run, name: str) -> None:
    Path("out").mkdir()
    Path("out", name).write_text("mine")
    for words in ((), ("--force",)):
        refused = compare(*NETWORKS, *words)
        assert refused.exit_code == 2
        assert name in refused.stderr
        assert [(p.name, p.read_text()) for p in Path("out").iterdir()] == [(name, "mine")]
