"""Representations in an .npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geomfeat.activations import ExtractOptions, extract, load_npz, save_npz
from geomfeat.errors import BadInput, OutputExists
from geomfeat.types import Representation
from tests.activations.zoo import lstm


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    model, x = lstm()
    reps = dict(extract(model, x, labels=torch.arange(6), progress=False, options=ExtractOptions(with_outputs=True)))
    reps["a/b c"] = Representation(torch.ones(2, 3, dtype=torch.float64), layer="other", meta={"f": len})
    file = save_npz(tmp_path / "deep" / "reps", reps)
    assert file == tmp_path / "deep" / "reps.npz"
    again = load_npz(file)
    assert list(again) == list(reps)
    for key, rep in reps.items():
        assert torch.equal(again[key].x, rep.x)
        assert again[key].x.dtype == rep.x.dtype
        assert again[key].layer == rep.layer
        for field in ("labels", "outputs"):
            mine, theirs = getattr(again[key], field), getattr(rep, field)
            assert (mine is None and theirs is None) or torch.equal(mine, theirs)
    assert again["rnn[0]"].meta["shape"] == [5, 4]
    assert again["a/b c"].meta == {"f": str(len)}
    assert [p.name for p in file.parent.iterdir()] == ["reps.npz"]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_files_are_reported(tmp_path: Path, keep: float) -> None:
    file = save_npz(tmp_path / "x.npz", {"fc": Representation(torch.randn(20, 30), layer="fc")})
    data = file.read_bytes()
    file.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(BadInput, match=r"x\.npz is damaged or truncated.*save_npz"):
        load_npz(file)


def test_other_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(BadInput, match=r"not written by save_npz: it holds \['x'\]"):
        load_npz(tmp_path / "other.npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(BadInput, match="is a single array"):
        load_npz(tmp_path / "one.npy")
    pickled = np.empty(1, dtype=object)
    np.savez(tmp_path / "pickled.npz", index=pickled)
    with pytest.raises(BadInput, match="holds Python objects"):
        load_npz(tmp_path / "pickled.npz")


def test_arguments_in_the_wrong_order_are_reported_the_right_one(tmp_path: Path) -> None:
    reps = {"fc": Representation(torch.ones(2, 3), layer="fc")}
    with pytest.raises(BadInput, match=r"save_npz\(path, layers\) takes the file first.*got dict and"):
        save_npz(reps, tmp_path / "x.npz")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"for one layer give \{'fc': it\}"):
        save_npz(tmp_path / "x.npz", reps["fc"])  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    reps = {"fc": Representation(torch.eye(3), layer="fc")}
    np.savez(tmp_path / "mine.npz", x=np.ones(3))
    before = (tmp_path / "mine.npz").read_bytes()
    with pytest.raises(OutputExists, match=r"mine\.npz was not written by geomfeat"):
        save_npz(tmp_path / "mine.npz", reps)
    assert (tmp_path / "mine.npz").read_bytes() == before
    for _ in range(2):
        save_npz(tmp_path / "own.npz", reps)
    with pytest.raises(BadInput, match="names nothing"):
        save_npz("", reps)


@pytest.mark.parametrize(
    "index", ["[" * 100_000, "3", "[3]", '[{"key": "fc"}]', '[{"key": ["fc"], "layer": "fc", "meta": {}}]',
              '[{"key": "fc", "layer": "fc", "meta": 3}]', '[{"key": "none", "layer": "fc", "meta": {}}]'],
)  # fmt: skip
def test_an_index_that_does_not_fit_is_reported(tmp_path: Path, index: str) -> None:
    np.savez(tmp_path / "a.npz", **{"x:fc": np.ones((3, 2)), "index": np.array(index)})
    with pytest.raises(BadInput, match=r"a\.npz is damaged or truncated .*write it again with save_npz"):
        load_npz(tmp_path / "a.npz")


def test_an_array_that_is_no_features_names_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"x:fc": np.array("text"), "index": '[{"key": "fc", "layer": "fc", "meta": {}}]'})
    with pytest.raises(BadInput, match=r"a\.npz"):
        load_npz(tmp_path / "a.npz")


def test_names_of_classes_and_groups_come_out(tmp_path: Path) -> None:
    model, x = lstm()
    names, groups = ["b", "a", "c"] * 2, ["s1", "s0"] * 3
    reps = dict(extract(model, x, labels=names, groups=groups, progress=False))
    again = load_npz(save_npz(tmp_path / "named", reps))
    for key, rep in again.items():
        assert rep.classes == reps[key].classes == ("a", "b", "c")
        assert rep.labels.tolist() == [1, 0, 2] * 2
        assert rep.groups.tolist() == [1, 0] * 3
