"""Arrays in .npz files: what goes in comes out, and every damage is reported before anything is allocated."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from geomfeat.errors import BadInput
from geomfeat.storage.npz_files import archive_note, array_names, read_arrays, write_arrays
from tests.peak_memory import PeakMemory, needs_peaks

ARRAYS = {
    "whole": np.arange(6).reshape(2, 3), "column_first": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "text": np.array(["a", "bc"]), "empty": np.zeros((0, 3)), "scalar": np.array(2.5), "flags": np.array([True, False]),
    "complex": np.ones(3, complex), "dates": np.array(["2020-01-01"], "M8[D]"), "halves": np.ones(3, "f2"),
    "foreign": np.arange(3, dtype=">i4"), "pairs": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS, "a note")
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_kind_of_array_comes_back(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", **ARRAYS)  # type: ignore[operator]
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == array_names(tmp_path / "a.npz") == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].flags.writeable


def test_what_is_written_is_read_by_numpy_and_has_its_note(file: Path) -> None:
    with np.load(file) as loaded:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(loaded[name], array)
    assert archive_note(file) == "a note"
    assert list(read_arrays(file, ["text", "none"])) == ["text"]


def test_a_file_of_another_program_has_no_note(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    assert archive_note(tmp_path / "a.npz") == ""


def member(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", content)
    return path


def header(shape: tuple[int, ...], dtype: str = "<f8", body: int = 80) -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"0" * body


@needs_peaks
@pytest.mark.parametrize("shape", [(10**12,), (2**32, 2**32), (10**12, 0, 10**12), (11,), (-10,), (2, -5)])
def test_a_header_that_announces_more_or_less_than_follows_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = member(tmp_path / "a.npz", header(shape))
    peak = PeakMemory()
    with pytest.raises(BadInput, match=r"a\.npz is damaged or truncated"):
        read_arrays(path)
    assert peak.added < 20, "nothing is allocated for it"


def test_a_directory_that_announces_more_than_the_file_is_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = member(tmp_path / "a.npz", header((10,)), method)
        raw = bytearray(path.read_bytes())
        central = raw.rindex(b"PK\x01\x02")
        raw[central + 24 : central + 28] = struct.pack("<I", 2**32 - 2)
        if method == zipfile.ZIP_STORED:
            raw[central + 20 : central + 24] = struct.pack("<I", 2**32 - 2)
        path.write_bytes(bytes(raw))
        with pytest.raises(BadInput, match="announces 4294967294 bytes"):
            read_arrays(path)


def flagged(raw: bytes, local: int, central: int, value: bytes) -> bytes:
    """The archive with `value` at these offsets of its local and central headers."""
    for mark, at in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        parts = raw.split(mark)
        raw = mark.join([parts[0], *(p[: at - 4] + value + p[at - 4 + len(value) :] for p in parts[1:])])
    return raw


def test_an_encrypted_archive_is_reported_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").write_bytes(flagged((tmp_path / "a.npz").read_bytes(), 6, 8, b"\x01\x00"))
    with pytest.raises(BadInput, match=r"array 'x' of .*a\.npz' is encrypted: unpack the archive with its password"):
        read_arrays(tmp_path / "a.npz")


def test_an_unknown_compression_is_reported_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").write_bytes(flagged((tmp_path / "a.npz").read_bytes(), 8, 10, b"\x63\x00"))
    with pytest.raises(BadInput, match=r"array 'x' of .*a\.npz' has the unknown compression 99"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rarer_compressions_are_read(tmp_path: Path, method: int) -> None:
    content = io.BytesIO()
    np.save(content, np.arange(5))
    path = member(tmp_path / "a.npz", content.getvalue(), method)
    np.testing.assert_array_equal(read_arrays(path)["x"], np.arange(5))


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(BadInput, match="holds Python objects"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"x" * 100, b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + b"0" * 90, header((10,))[:60],
     header((10,), "|O"), header((10,), "no type"), header((3,)).replace(b"'shape'", b"'shapf'")],
)  # fmt: skip
def test_members_that_are_no_arrays_are_reported(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match=r"a\.npz"):
        read_arrays(member(tmp_path / "a.npz", content))


def test_a_single_array_and_a_missing_file_are_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(BadInput, match=r"is a single array: save it with np\.savez"):
        read_arrays(tmp_path / "a.npy")
    with pytest.raises(BadInput, match="no such file"):
        array_names(tmp_path / "none.npz")


def test_random_damage_is_reported_or_does_no_harm(file: Path) -> None:
    whole, draw, message = file.read_bytes(), random.Random(0), 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(bytes(content[: draw.choice([len(content), draw.randrange(len(content))])]))
        try:
            read_arrays(file)
        except BadInput:
            message += 1
    assert message > 100
