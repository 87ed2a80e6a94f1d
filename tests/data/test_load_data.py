"""Data by SPEC: the embedded sets, users' files, balance, and every kind of input that cannot be used."""

from __future__ import annotations

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close

from geomfeat.data._load_data import load_data
from geomfeat.data.builtin import read_idx
from geomfeat.data.dataset import Dataset, as_features, balanced_order
from geomfeat.errors import BadInput


def test_digits_are_split_once_standardised_and_complete():
    data = load_data("digits")
    assert data.inputs.shape == (1400, 1, 8, 8)
    assert data.test_inputs.shape == (397, 1, 8, 8)
    assert float(data.inputs.mean()) == pytest.approx(0, abs=1e-5)
    assert float(data.inputs.std()) == pytest.approx(1, abs=1e-4)
    both = torch.cat([data.inputs, data.test_inputs]).flatten(1)
    assert len(both.unique(dim=0)) == 1797
    assert data.test_labels.bincount().tolist() == [40] * 7 + [39] * 3
    again = load_data("digits", seed=5)
    assert torch.equal(again.inputs, data.inputs)


def test_digits_are_the_digits():
    from sklearn.datasets import load_digits

    raw = load_digits(return_X_y=True)
    data = load_data("digits")
    want = {row.tobytes(): int(c) for row, c in zip(raw[0].astype(np.uint8), raw[1], strict=True)}
    pixels = (data.test_inputs.flatten(1) * 0.3758 + 0.3047) * 16
    for row, label in zip(pixels.round().to(torch.uint8).numpy(), data.test_labels.tolist(), strict=True):
        assert want[row.tobytes()] == label


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 99))
def test_every_prefix_of_the_order_is_as_balanced_as_can_be(classes, seed):
    labels = torch.tensor(classes)
    order = balanced_order(labels, len(labels), seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    left = labels.bincount(minlength=5)
    for n in range(1, len(labels) + 1):
        counts = labels[order[:n]].bincount(minlength=5)
        short = counts < counts.max() - 1
        assert torch.equal(counts[short], left[short])


def test_subsamples_nest_and_depend_on_the_seed():
    small, large = load_data("digits", n=50), load_data("digits", n=200)
    assert torch.equal(small.inputs, large.inputs[:50])
    assert small.labels.bincount().tolist() == [5] * 10
    assert not torch.equal(small.inputs, load_data("digits", n=50, seed=1).inputs)


def test_splits():
    data = load_data("digits")
    test = load_data("digits", split="test")
    assert torch.equal(test.inputs, data.test_inputs)
    assert test.test_inputs is None
    assert load_data("digits", split="train").test_inputs is None


def test_npz_images_bytes_and_names(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["b", "a", "b", "a", "c", "c"]))
    data = load_data(f"npz:{tmp_path / 'a.npz'}")
    assert data.inputs.shape == (6, 3, 5, 4)
    assert_close(data.inputs, torch.tensor(x).permute(0, 3, 1, 2) / 255)
    assert data.labels.tolist() == [1, 0, 1, 0, 2, 2]
    assert data.classes == ("a", "b", "c")
    np.savez(tmp_path / "b.npz", x=np.arange(12.0).reshape(4, 3))
    plain = load_data(f"npz:{tmp_path / 'b.npz'}", n=2)
    assert plain.labels is None
    assert plain.inputs.dtype == torch.get_default_dtype()


def test_token_ids_stay_integers():
    ids = as_features({"input_ids": np.array([[1, 2], [3, 4]], np.int32), "mask": np.array([[True, False]] * 2)})
    assert ids["input_ids"].dtype == torch.int64
    assert ids["mask"].dtype == torch.bool


def write_named(path, **arrays):
    np.savez(path, x=np.zeros((4, 2)), **arrays)
    return load_data(f"npz:{path}")


def test_names_of_test_labels_are_numbered_as_those_of_the_training_labels(tmp_path):
    data = write_named(
        tmp_path / "named.npz", y=np.array(["cat", "ant", "dog", "dog"]), x_test=np.zeros((2, 2)),
        y_test=np.array(["dog", "cat"]),
    )  # fmt: skip
    assert data.classes == ("ant", "cat", "dog")
    assert data.labels.tolist() == [1, 0, 2, 2]
    assert data.test_labels.tolist() == [2, 1]


def test_classes_of_a_file_say_how_its_names_are_numbered(tmp_path):
    names = np.array(["cat", "ant", "cat", "ant"])
    data = write_named(tmp_path / "ordered.npz", y=names, classes=np.array(["dog", "cat", "ant"]))
    assert data.labels.tolist() == [1, 2, 1, 2]
    with pytest.raises(BadInput, match=r"y of .* holds 'ant', which is none of the classes dog, cat"):
        write_named(tmp_path / "odd.npz", y=names, classes=np.array(["dog", "cat"]))


def test_groups_of_a_file_follow_their_samples(tmp_path):
    data = write_named(
        tmp_path / "grouped.npz", y=np.arange(4) % 2, groups=np.array(["s2", "s1", "s2", "s1"]),
        x_test=np.zeros((2, 2)), y_test=[0, 1], groups_test=[7, 8],
    )  # fmt: skip
    assert data.groups.tolist() == [1, 0, 1, 0]
    assert data.testing().groups.tolist() == [7, 8]
    small = data.subsample(2)
    assert small.groups.tolist() == [1 - int(label) for label in small.labels]
    with pytest.raises(BadInput, match="groups of 'short' has 3 entries, but there are 4 samples"):
        write_named(tmp_path / "short.npz", groups=[1, 2, 3])


def test_a_missing_label_of_a_file_is_counted(tmp_path):
    with pytest.raises(BadInput, match=r"1 of 4 y of .*holes\.npz are missing"):
        write_named(tmp_path / "holes.npz", y=np.array(["a", "b", np.nan, "a"]))


def python2_pickle(content):
    """The bytes that Python 2 wrote for the published batches (protocol 2, byte strings, numpy's old module name)."""
    data = content[b"data"]
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"M" + struct.pack("<H", data.shape[0]) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
    raw = b"T" + struct.pack("<I", data.nbytes) + data.tobytes()
    array = empty + b"(K\x01" + shape + kind + b"\x89" + raw + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([v]) for v in content[b"labels"]) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + labels + b"u."


def python3_pickle(content):
    """The same content written again by today's Python and numpy."""
    return pickle.dumps(content, protocol=2)


def write_batches(folder, encode=python2_pickle):
    rng = np.random.default_rng(1)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        (folder / name).write_bytes(encode({b"data": data, b"labels": list(range(10)) * 2}))


def test_cifar_python_batches(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    write_batches(folder)
    data = load_data(f"cifar10:{tmp_path}")
    assert data.inputs.shape == (100, 3, 32, 32)
    assert data.test_inputs.shape == (20, 3, 32, 32)
    assert data.labels.bincount().tolist() == [10] * 10
    assert data.classes[9] == "truck"
    assert_close(data.inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    first = np.random.default_rng(1).integers(0, 256, (20, 3072), dtype=np.uint8)
    image = torch.tensor(first[0].reshape(3, 32, 32) / 255.0)
    assert np.corrcoef(image[1].flatten(), data.inputs[0, 1].flatten())[0, 1] == pytest.approx(1, abs=1e-6)


def test_batches_written_again_are_the_same(tmp_path):
    for name, encode in (("old", python2_pickle), ("new", python3_pickle)):
        (tmp_path / name).mkdir()
        write_batches(tmp_path / name, encode)
    old, new = load_data(f"cifar10:{tmp_path / 'old'}"), load_data(f"cifar10:{tmp_path / 'new'}")
    assert torch.equal(old.inputs, new.inputs)
    assert torch.equal(old.test_labels, new.test_labels)


class Evil:
    """What a malicious batch would hold: a call."""

    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('pwned').touch()",))


def test_a_batch_that_wants_to_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_batches(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}, protocol=2))
    with pytest.raises(BadInput, match="eval"):
        load_data(f"cifar10:{tmp_path}")
    assert not (tmp_path / "pwned").exists()


def test_a_truncated_batch_is_named(tmp_path):
    write_batches(tmp_path)
    path = tmp_path / "data_batch_3"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadInput, match="data_batch_3"):
        load_data(f"cifar10:{tmp_path}")


def test_cifar_as_one_npz(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "c.npz", x_train=x, y_train=np.arange(20) % 10, x_test=x[:5], y_test=np.arange(5))
    for path in (tmp_path, tmp_path / "c.npz"):
        data = load_data(f"cifar10:{path}")
        assert data.inputs.shape == (20, 3, 32, 32)
        assert data.test_inputs.shape == (5, 3, 32, 32)
        assert torch.equal(data.inputs[:5], data.test_inputs)
    np.savez(tmp_path / "d.npz", x=x)
    with pytest.raises(BadInput, match="2 found"):
        load_data(f"cifar10:{tmp_path}")


FACTORY = """
import numpy as np
from geomfeat.data.dataset import Dataset
x, y = np.zeros((4, 3)), np.array([0, 1, 0, 1])
pair = lambda: (x, y)
whole = lambda: Dataset(*pair_of_tensors())
def pair_of_tensors():
    import torch
    return torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])
mapping = lambda: {"x": x, "y": y, "x_test": x[:2], "y_test": y[:2]}
tokens = lambda: ({"input_ids": np.ones((4, 5), int)}, y)
alone = lambda: x
nothing = lambda: None
wrong = lambda: (x, y[:3])
rotten = lambda: (np.full((4, 3), np.nan), y)
needs = lambda k: k
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mydata.py"
    path.write_text(FACTORY)
    return path


@pytest.mark.parametrize("name", ["pair", "whole", "mapping", "tokens", "alone"])
def test_factories(name, source):
    data = load_data(f"{source}:{name}")
    assert data.n == 4
    assert (data.labels is None) == (name == "alone")
    assert (data.test_inputs is not None) == (name == "mapping")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "NoneType"),
        ("wrong", "4 samples"),
        ("rotten", "12 NaN"),
        ("needs", "arguments"),
        ("par", "near: pair"),
    ],
)
def test_factories_that_cannot_be_used(name, words, source):
    with pytest.raises(BadInput, match=words):
        load_data(f"{source}:{name}")


def write_idx(path, array, keep=None):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes())[:keep])


def write_fashion(folder):
    rng = np.random.default_rng(0)
    for part, n in (("train", 30), ("t10k", 10)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 10)


@pytest.mark.parametrize("sub", ["", "fashion-mnist"])
def test_fashion_mnist_from_a_folder(sub, tmp_path, monkeypatch):
    (tmp_path / sub).mkdir(exist_ok=True)
    write_fashion(tmp_path / sub)
    monkeypatch.setenv("GEOMFEAT_DATA", str(tmp_path))
    data = load_data("fashion-mnist", n=20)
    assert data.inputs.shape == (20, 1, 28, 28)
    assert data.labels.bincount().tolist() == [2] * 10
    assert data.test_inputs.shape == (10, 1, 28, 28)


def test_missing_and_damaged_idx_files(tmp_path, monkeypatch):
    monkeypatch.setattr("geomfeat.data.builtin.DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setenv("GEOMFEAT_DATA", str(tmp_path))
    with pytest.raises(BadInput, match="dataset-fashion-mnist"):
        load_data("fashion-mnist")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(path, np.zeros((4, 28, 28), np.uint8), keep=30)
    with pytest.raises(BadInput, match="truncated"):
        load_data("fashion-mnist")
    path.write_bytes(gzip.compress(b"hello"))
    with pytest.raises(BadInput, match="not an IDX"):
        read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 9) + b"abc"))
    with pytest.raises(BadInput, match="holds 3 bytes"):
        read_idx(path)
    path.write_bytes(b"plain")
    with pytest.raises(BadInput, match="not gzip"):
        read_idx(path)


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        ("digts", {}, "near: digits"),
        ("npz:", {}, "names no file"),
        ("npz:nowhere.npz", {}, "no such file: 'nowhere.npz'"),
        ("cifar10:nowhere", {}, "nowhere"),
        ("digits", {"n": 5000}, "n=5000"),
        ("digits", {"n": 0}, "n=0"),
        ("digits", {"split": "val"}, "split='val'"),
        ("nowhere:f", {}, "no module"),
    ],
)
def test_bad_specs_are_named(spec, options, words):
    with pytest.raises(BadInput, match=words):
        load_data(spec, **options)


def test_bad_npz_files_are_named(tmp_path):
    path = tmp_path / "a.npz"

    def refused(words):
        with pytest.raises(BadInput, match=words):
            load_data(f"npz:{path}")

    np.savez(path, x=np.zeros((400, 3)), y=np.zeros(399, int))
    refused("400 samples")
    path.write_bytes(path.read_bytes()[:900])
    refused("truncated")
    path.write_bytes(b"")
    refused("truncated")
    np.savez(path, z=np.zeros(3))
    refused("no 'x'")
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    refused("Python objects")
    np.savez(path, x=np.array([[1.0, np.inf]]))
    refused("1 infinite")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    refused("single array")
    np.savez(path, x=np.zeros((4, 3)))
    with pytest.raises(BadInput, match="no test split"):
        load_data(f"npz:{path}", split="test")


def test_inputs_that_disagree_are_refused():
    with pytest.raises(BadInput, match="same positive number"):
        Dataset((torch.zeros(3, 2), torch.zeros(4, 2)))


def test_a_factory_of_something_else_is_reported(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef make():\n    return nn.Sequential()\n")
    with pytest.raises(BadInput, match=r"net.py:make' returned Sequential; it must return a Dataset, \(x, y\) or x"):
        load_data(f"{tmp_path / 'net.py'}:make")
