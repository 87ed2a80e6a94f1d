"""`geomfeat extract`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

from geomfeat.activations import ActivationStore, load_npz
from tests.cli.conftest import N
from tests.study.small import digits, model_at

Run = Callable[..., Result]


@pytest.fixture
def extract(run: Run) -> Run:
    def invoke(*words: object) -> Result:
        common = ["--model", "net.py:make", "--trained", "final.safetensors", "--data", "npz:digits.npz", "--quiet"]
        return run("extract", *common, *words)

    return invoke


def expected(layer: int) -> torch.Tensor:
    with torch.no_grad():
        return model_at(2)[: layer + 1](digits(N)[0])  # type: ignore[index]


def test_layers_are_listed_with_shapes_and_hidden_ones_marked(files: Path, extract: Run) -> None:
    result = extract("--list")
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert rows["1"].split()[1:4] == ["Linear", "16", "16"]
    assert [name for name, line in rows.items() if "hidden, with weights" in line] == ["1", "3"]


def test_features_go_to_an_npz_that_reads_back(files: Path, extract: Run) -> None:
    result = extract("--npz", "features.npz", "--n", 0, "--layers", "3", "--layers", "type:ReLU")
    assert result.exit_code == 0, result.stderr
    reps = load_npz("features.npz")
    assert list(reps) == ["2", "3", "4"]
    torch.testing.assert_close(reps["4"].x, expected(4))
    assert reps["4"].labels is not None
    assert torch.equal(reps["4"].labels, digits(N)[1])


def test_the_device_that_auto_takes_is_printed(files: Path, extract: Run) -> None:
    result = extract("--npz", "features.npz", "--n", 0, "--device", "auto")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("device: cuda" if torch.cuda.is_available() else "device: cpu")
    assert "device" not in extract("--npz", "others.npz", "--device", "cpu").stderr


def test_features_stream_to_a_store_under_the_name_of_the_checkpoint(files: Path, extract: Run) -> None:
    for _ in range(2):  # the second time everything is there
        result = extract("--store", "store", "--n", 0, "--checkpoint", "end")
        assert result.exit_code == 0, result.stderr
    store = ActivationStore("store", "end")
    assert {"1", "3"} <= set(store.layers())
    np.testing.assert_allclose(store.read("3"), expected(3).numpy(), rtol=1e-5, atol=1e-6)


def test_projection_and_reduction_are_taken(files: Path, extract: Run) -> None:
    assert extract("--npz", "f.npz", "--project", 5, "--reduce", "mean").exit_code == 0
    assert {rep.d for rep in load_npz("f.npz").values()} == {5}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["--npz FILE or --store DIR"]),
        (["--npz", "a.npz", "--store", "b"], ["no destination (or two)"]),
        (["--npz", "a.npz", "--layers", "fc1"], ["no layer matches 'fc1'"]),
        (["--npz", "a.npz", "--split", "test"], ["no test split"]),
        (["--npz", "a.npz", "--reduce", "adaptiv(2)"], ["adaptiv"]),
    ],
)
def test_bad_options_are_reported_and_nothing_is_written(
    files: Path, extract: Run, words: list[str], said: list[str]
) -> None:
    before = {p.name for p in files.iterdir()}
    result = extract(*words)
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert all(word in line for word in said), line
    assert {p.name for p in files.iterdir()} - {"__pycache__"} == before


def test_a_file_that_is_there_is_replaced_only_with_force(files: Path, extract: Run) -> None:
    Path("features.npz").write_text("mine")
    refused = extract("--npz", "features.npz")
    assert refused.exit_code == 2
    assert "features.npz was not written by geomfeat" in refused.stderr
    assert extract("--npz", "features.npz", "--force").exit_code == 2
    assert Path("features.npz").read_text() == "mine"
    assert extract("--npz", "own.npz").exit_code == 0
    refused = extract("--npz", "own.npz")
    assert refused.exit_code == 2
    assert "'own.npz' exists" in refused.stderr
    assert extract("--npz", "own.npz", "--force").exit_code == 0
    assert set(load_npz("own.npz")) == {"1", "3"}


def test_a_store_leaves_files_of_the_users_alone(files: Path, extract: Run) -> None:
    mine = Path("store/trained/1/notes.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    refused = extract("--store", "store")
    assert refused.exit_code == 2
    assert f"{mine} was not written by geomfeat" in refused.stderr
    assert mine.read_text() == "mine"
    mine.unlink()
    assert extract("--store", "store").exit_code == 0


@pytest.mark.parametrize("words", [("--store", ""), ("--store=",), ("--npz", ""), ("--trained", "")])
def test_an_empty_path_is_refused_and_nothing_is_written(files: Path, extract: Run, words: tuple[str, ...]) -> None:
    before = sorted(Path().rglob("*"))
    refused = extract(*words)
    assert refused.exit_code == 2
    assert words[0].rstrip("=") in refused.stderr
    assert sorted(Path().rglob("*")) == before
