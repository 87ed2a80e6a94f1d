"""Arrays in `.npz` files, without pickle: sizes are checked before memory is allocated, and damage is reported."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.storage.owned_files import MARK

# What readers of zip archives, array headers, JSON and tables raise for content that is damaged or made to harm.
UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, MemoryError,
    OverflowError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError,
)  # fmt: skip
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
MOST_DEFLATED = 1032  # times smaller at best: a deflated length-distance pair of 2 bits encodes 258 bytes
REMEDY = "save plain arrays with np.savez(file, name=array)"
HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
}  # fmt: skip


def first_line(cause: BaseException) -> str:
    """The message of an error, in one line; its type if it has none."""
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


def array_names(path: str | Path, remedy: str = REMEDY) -> list[str]:
    """Names of the arrays of an `.npz`; BadInput for a file that is missing or no archive."""
    with _opened(path, remedy) as archive:
        return [_name(info) for info in archive.infolist()]


def read_arrays(path: str | Path, names: Sequence[str] | None = None, remedy: str = REMEDY) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` by name, in the file's order: all of them, or those of `names`.

    Raises BadInput that names the file, and the array, for a file that is missing, truncated, no archive, encrypted or
    of an unknown compression, for arrays of Python objects, and for a header that announces more than the file holds.
    """
    with _opened(path, remedy) as archive:
        wanted = [info for info in archive.infolist() if names is None or _name(info) in names]
        return {_name(info): _array(archive, info, path) for info in wanted}


def archive_note(path: str | Path) -> str:
    """What `write_arrays` noted in a file; "" where there is none."""
    with _opened(path) as archive:
        mark, _, note = archive.comment.decode("utf-8", errors="replace").partition(" ")
        return note if mark == MARK else ""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], note: str = "") -> None:
    """A compressed `.npz` of numeric arrays at exactly this path, with the mark of geomfeat and a short note."""
    # As savez_compressed does, which before numpy 2.1 stores allow_pickle= as one more array.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        archive.comment = f"{MARK} {note}".encode()


class _opened:
    """An archive that is open for reading; errors inside name the file."""

    def __init__(self, path: str | Path, remedy: str = REMEDY) -> None:
        self.path, self.remedy = Path(path), remedy

    def __enter__(self) -> zipfile.ZipFile:
        if not self.path.is_file():
            raise BadInput(f"no such file: {str(self.path)!r}")
        try:
            with self.path.open("rb") as file:
                if file.read(6) == b"\x93NUMPY":
                    raise BadInput(f"{str(self.path)!r} is a single array: save it with np.savez(file, name=array)")
            self.archive = zipfile.ZipFile(self.path)
        except UNREADABLE as cause:
            raise self._damaged(cause) from cause
        return self.archive

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.archive.close()
        if isinstance(error, UNREADABLE):
            raise self._damaged(error) from error

    def _damaged(self, cause: BaseException) -> BadInput:
        if isinstance(cause, BadInput):
            return cause
        return BadInput(
            f"{self.path} is damaged or truncated, or no readable .npz ({first_line(cause)}): copy it again, or "
            f"{self.remedy}"
        )


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str | Path) -> np.ndarray:
    where = f"array {_name(info)!r} of {str(path)!r}"
    if info.flag_bits & 0x1:
        raise BadInput(f"{where} is encrypted: unpack the archive with its password, and save it again without one")
    if info.compress_type not in METHODS:
        raise BadInput(f"{where} has the unknown compression {info.compress_type}: save it again with np.savez")
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MOST_DEFLATED}.get(info.compress_type, math.inf)
    there = min(info.compress_size, Path(path).stat().st_size)
    if info.compress_size > there or info.file_size > most * there + 2**16:
        raise ValueError(f"{_name(info)} announces {info.file_size} bytes, and at most {there} are there, compressed")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise BadInput(f"{where} has the format {version} of numpy: save it again with plain number types")
        with warnings.catch_warnings():  # Python's parser warns about a header that is refused next
            warnings.simplefilter("ignore")
            shape, column_first, dtype = HEADERS[version](member)
        if dtype.hasobject:
            raise BadInput(f"{where} holds Python objects, which are not read: save plain arrays")
        expected, held = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
        if expected != held or any(size < 0 for size in shape):
            raise ValueError(
                f"the header of {_name(info)} announces {shape} {dtype}, {expected} bytes, and {held} follow"
            )
        try:
            array = np.empty(math.prod(shape), dtype)
        except MemoryError as cause:
            raise BadInput(f"{where} needs {expected} bytes, more than there is memory: save fewer samples") from cause
        _fill(array, member)
    return array.reshape(shape, order="F" if column_first else "C")


def _fill(array: np.ndarray, member: IO[bytes]) -> None:
    """Read an array's bytes, checked against the archive's sum; EOFError where there are fewer."""
    if array.nbytes:
        view = memoryview(array.view(np.uint8).data)
        done = 0
        while done < len(view):
            got = member.readinto(view[done : done + 2**24])  # type: ignore[attr-defined]
            if not got:
                raise EOFError(f"it ends after {done} of {len(view)} bytes")
            done += got
    if member.read(1):
        raise ValueError("more bytes follow than its header announces")
