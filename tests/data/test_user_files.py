"""Data of users that cannot be used: damaged archives, images that are none, factories that misbehave."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput


def patched(path: Path, local: int, central: int, value: int) -> None:
    """A zip file with one byte of each header set, `local` and `central` from its marks."""
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = content.find(mark)
        while at >= 0:
            content[at + place] = value
            at = content.find(mark, at + 4)
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", ["npz:", "cifar10:"])
@pytest.mark.parametrize(("local", "central", "value", "message"), [(6, 8, 1, "encrypted"), (8, 10, 99, "compression")])
def test_archives_that_only_others_can_open_are_named(
    tmp_path: Path, suffix: str, local: int, central: int, value: int, message: str
) -> None:
    np.savez(tmp_path / "mine.npz", x=np.ones((4, 3)))
    patched(tmp_path / "mine.npz", local, central, value)
    with pytest.raises(BadInput, match=message) as refused:
        load_data(f"{suffix}{tmp_path}/mine.npz")
    assert "mine.npz" in str(refused.value)


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(99999999999, 99999999999)", "(-3, 3)", "(3,)"])
def test_a_shape_is_held_against_the_file_before_memory_is_asked_for(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(tmp_path / "mine.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(72))
    with pytest.raises(BadInput, match=r"mine.npz"):
        load_data(f"npz:{tmp_path}/mine.npz")


@pytest.mark.parametrize("shape", [(24, 6), (24,), (24, 5, 5), (24, 2, 3, 4, 5)])
def test_images_that_are_none_are_refused_with_their_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "flat.npz", x_train=np.zeros(shape, "f4"))
    with pytest.raises(BadInput, match=r"flat.npz.*images are \(n, channels, height, width\)"):
        load_data(f"cifar10:{tmp_path}/flat.npz")


def test_what_is_wrong_with_the_arrays_is_reported_with_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3)))
    with pytest.raises(BadInput, match=r"none.npz.*same positive number of samples"):
        load_data(f"npz:{tmp_path}/none.npz")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise OSError('the disk is gone')", "OSError: the disk is gone"),
        ("return {}['x']", "KeyError: 'x'"),
        ("return len(3)", "TypeError: object of type 'int' has no len"),
        ("import sys; sys.exit(0)", r"ended the program by sys.exit\(0\)"),
        ("return make()", "RecursionError"),
        ("return 3", "returned int"),
        ("return None", "returned NoneType"),
        ("import torch; return torch.zeros(4, 3).to_sparse()", "inputs is a sparse tensor"),
        ("import torch; return torch.zeros(4, 3, device='meta')", "without values"),
        ("return {'x': 'words'}", "words|str|numeric"),
    ],
)
def test_a_factory_of_data_that_misbehaves_is_refused_by_name(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(f"def make():\n    {body}\n")
    with pytest.raises(BadInput, match=message) as refused:
        load_data(f"{tmp_path}/mine.py:make")
    assert "mine.py:make" in str(refused.value)


def test_a_home_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no such home folder"):
        load_data("npz:~nobody-of-this-name/x.npz")
