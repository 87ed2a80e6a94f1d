"""Dissimilarity matrices from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import rdm
from geomfeat.geometry.rsa.files import load_rdms
from tests.comparison.planted import layer
from tests.shared_data import shared


@pytest.fixture
def file(tmp_path: Path) -> Path:
    one = rdm(layer(0), dissimilarity="correlation")
    np.savez(
        tmp_path / "brain.npz", rdm_it=one.vectors[0], rdm_it_subjects=one.vectors.repeat(3, 1),
        rdm_square=one.matrices[0], rdm_several=one.matrices.repeat(2, 1, 1), images=np.zeros((3, 2)),
    )  # fmt: skip
    return tmp_path / "brain.npz"


def test_every_form_is_read_and_subjects_go_before_their_mean(file: Path) -> None:
    found = load_rdms(file)
    assert {name: rdms.n_rdms for name, rdms in found.items()} == {"it": 3, "square": 1, "several": 2}
    for rdms in found.values():
        torch.testing.assert_close(rdms.vectors[-1], rdm(layer(0), dissimilarity="correlation").vectors[0])
        assert rdms.dissimilarity == "correlation"
    assert found["it"].names == ("it 1", "it 2", "it 3")


def test_keys_choose(file: Path) -> None:
    assert {name: rdms.n_rdms for name, rdms in load_rdms(file, ["rdm_it", "square"]).items()} == {"it": 1, "square": 1}
    with pytest.raises(BadInput, match="no 'rdm_squares'; near: rdm_square"):
        load_rdms(file, ["squares"])


def test_files_that_hold_none_are_reported(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "odd.npz", rdm_a=np.zeros(4))
    (tmp_path / "torn.npz").write_bytes(b"PK not a zip")
    for name, message in (
        ("other.npz", "no array named rdm_<name>: it holds x"), ("odd.npz", "rdm_a of .*4 values are not an upper"),
        ("torn.npz", "no readable .npz"), ("none.npz", "no such file"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=message):
            load_rdms(tmp_path / name)


def test_the_92_objects() -> None:
    found = load_rdms(shared("data/it-92-objects.npz"))
    assert {name: rdms.n_rdms for name, rdms in found.items()} == {
        "monkey_it": 1, "human_it": 8, "v1_model": 1, "hmax": 1,
    }  # fmt: skip
    assert found["human_it"].n_conditions == 92


@pytest.mark.parametrize("pairs", [3, 6, 10])
def test_as_many_subjects_as_pairs_are_subjects_unless_the_array_is_a_dissimilarity_matrix(
    tmp_path: Path, pairs: int
) -> None:
    values = np.random.default_rng(pairs).random((pairs, pairs))
    full = values + values.T
    np.fill_diagonal(full, 0)
    gaps = values.copy()
    gaps[0, 1] = np.nan
    np.savez(tmp_path / "a.npz", rdm_subjects=values, rdm_matrix=full, rdm_gaps=gaps)
    found = load_rdms(tmp_path / "a.npz")
    several = (pairs, {3: 3, 6: 4, 10: 5}[pairs])
    assert {name: (rdms.n_rdms, rdms.n_conditions) for name, rdms in found.items()} == {
        "subjects": several, "matrix": (1, pairs), "gaps": several,
    }  # fmt: skip
    np.testing.assert_array_equal(found["subjects"].vectors, values)


def test_a_square_array_that_is_neither_is_refused_as_a_matrix(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rdm_a=np.random.default_rng(0).random((5, 5)))
    with pytest.raises(BadInput, match=r"rdm_a of .*symmetric"):
        load_rdms(tmp_path / "a.npz")
