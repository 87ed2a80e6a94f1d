"""A factory may return batches: Dataset, DataLoader, iterator, or a pair of these; read once, with what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput

FACTORY = """
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

X = torch.arange(24.0).reshape(12, 2)
Y = torch.arange(12) % 3

class Folder(Dataset):
    classes = ["ant", "bee", "cat"]
    def __len__(self): return 12
    def __getitem__(self, i): return X[i], int(Y[i])

class Broken(Folder):
    def __getitem__(self, i): raise OSError("disk is gone")

def dataset(): return TensorDataset(X, Y)
def loader(): return DataLoader(TensorDataset(X, Y), batch_size=5)
def iterator(): return iter([(X[:7], Y[:7]), (X[7:], Y[7:])])
def generator():
    yield X[:4], Y[:4]
    yield X[4:], Y[4:]
def named(): return Folder()
def named_loader(): return DataLoader(Folder(), batch_size=5)
def pair(): return loader(), DataLoader(TensorDataset(X[:4], Y[:4]))
def values(): return DataLoader(TensorDataset(X, X.sin()), batch_size=5)
def values_as_arrays(): return X, X[:, 0].sin()
def bare(): return DataLoader(X, batch_size=5)
def broken(): return Broken()
def empty(): return DataLoader([])
"""


@pytest.fixture
def spec(tmp_path: Path):
    (tmp_path / "mine.py").write_text(FACTORY, encoding="utf-8")
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


@pytest.mark.parametrize("name", ["dataset", "loader", "iterator", "generator", "named", "named_loader", "pair"])
def test_batches_are_read_in_order_with_their_labels(spec, name: str) -> None:
    data = load_data(spec(name))
    assert torch.equal(data.inputs, torch.arange(24.0).reshape(12, 2))
    assert torch.equal(data.labels, torch.arange(12) % 3)
    assert data.classes == (("ant", "bee", "cat") if "named" in name else ())
    assert (data.test_labels is not None) == (name == "pair")
    if name == "pair":
        assert data.test_labels.tolist() == [0, 1, 2, 0]


def test_names_of_classes_go_with_the_labels(spec) -> None:
    known = load_data(spec("named"), n=6).known
    assert known.classes == ("ant", "bee", "cat")
    assert sorted(known.codes.tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.filterwarnings("ignore")
def test_values_are_targets(spec) -> None:
    x = torch.arange(24.0).reshape(12, 2)
    data = load_data(spec("values"))
    assert data.labels is None
    torch.testing.assert_close(data.known, x.sin())
    torch.testing.assert_close(load_data(spec("values_as_arrays")).known, x[:, :1].sin())
    assert load_data(spec("bare")).known is None


def test_values_in_a_file_are_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.standard_normal((9, 3)),
        "y": rng.standard_normal(9),
        "x_test": np.ones((2, 3)),
        "y_test": [1, 2],
    }
    np.savez(tmp_path / "a.npz", **arrays)
    data = load_data(f"npz:{tmp_path / 'a.npz'}")
    assert data.labels is None
    assert data.targets.shape == (9, 1)
    assert data.test_targets.tolist() == [[1.0], [2.0]]
    assert data.subsample(4).targets.shape == (4, 1)


@pytest.mark.parametrize(("name", "why"), [("broken", "read: OSError: disk is gone"), ("empty", "without samples")])
def test_batches_that_cannot_be_read_are_refused_by_name(spec, name: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"mine.py:{name}.*{why}"):
        load_data(spec(name))
