"""Files on disk: written atomically, and never over a file that geomfeat did not write.

Every file that geomfeat writes carries a mark in its content (see `is_own`), so it is recognised wherever it is moved.
A file without it is the user's: it is neither overwritten nor removed, and the call raises an error that names it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geomfeat.errors import BadInput, GeomfeatError, OutputExists, WriteFailed

MARK = "geomfeat-output/1"
MADE_BY = "made_by"  # the key of the mark in JSON, in the header of .safetensors and in the schema of tables
LONGEST = 255  # bytes of a name, on common file systems
ENDS = 2**16  # bytes at both ends of a file among which its mark stands
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
SEALED = (".html", ".svg", ".pdf")  # formats that people edit by hand: the mark holds the sum of all before it
_COMMENT = {".html": "\n<!-- {} -->\n", ".svg": "\n<!-- {} -->\n", ".pdf": "\n%{}\n"}
_SEAL = re.compile(rb"\n(?:<!-- |%)" + MARK.encode() + rb" ([0-9a-f]{64})(?: -->)?\n\Z")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.part")


def as_path(path: Any, what: str = "path") -> Path:
    """The path that an argument names; BadInput for an empty one, which would stand for the current folder.

    >>> as_path("runs/a").name
    'a'
    """
    try:
        text = os.fspath(path)
    except TypeError as cause:
        raise BadInput(f"{what} must be a path (str or pathlib.Path), got {type(path).__name__}") from cause
    text = os.fsdecode(text)
    if not text.strip() or "\0" in text:
        raise BadInput(f"{what}={text!r} names nothing: give a path, '.' for the current folder")
    if any(len(os.fsencode(part)) > LONGEST for part in Path(text).parts):
        raise BadInput(f"{what}={text[:40]!r}... has a name of more than {LONGEST} bytes: shorten it")
    return Path(text)


def is_own(path: Path) -> bool:
    """Whether a file's content shows that geomfeat wrote it: by a seal in pages and pictures, else by a mark.

    A page or picture that was edited since has a broken seal, so it counts as the user's.
    """
    with path.open("rb") as file:
        first = file.read(ENDS)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(len(first), size - ENDS))
        ends = first + file.read()
        seal = _SEAL.search(ends[-200:])
        if seal is None:
            return path.suffix not in SEALED and MARK.encode() in ends
        file.seek(0)
        before = file.read(size - (seal.end() - seal.start()))
        return hashlib.sha256(before).hexdigest().encode() == seal[1]


def require_own(paths: Iterable[Path]) -> None:
    """OutputExists that names the first of these paths with a file that geomfeat did not write."""
    for path in paths:
        if path.is_dir():
            raise OutputExists(f"{path} is a folder where a file is to be written: choose another name, or move it")
        if (path.exists() or path.is_symlink()) and not (path.is_file() and is_own(path)):
            raise OutputExists(
                f"{path} was not written by geomfeat, or was changed or damaged since, so it is not replaced: "
                "choose another name, or remove it yourself"
            )


def replace_file(path: Path, write: Callable[[Path], Any], *, own: bool = False) -> None:
    """Write a file whole or not at all: `write` fills another name in the same folder, which then takes its place.

    Args:
        own: the place is geomfeat's by its name, as within a run's folder; else the file there must carry the mark.

    Raises OutputExists for a file of the user's; WriteFailed that names the path where the disk is full or read-only.
    The old file stays in both cases.
    """
    if not own:
        require_own([path])
    temporary = temporary_for(path)
    with writing(path):
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_for(path: Path) -> Path:
    """A name next to a file that no other call has, in this process or another."""
    return path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:16]}.part")


def replace_page(path: Path, text: str) -> None:
    """Write an HTML page with its seal, atomically, under any name; see `replace_file`."""
    replace_file(path, lambda draft: draft.write_bytes(sealed(text.encode(), ".html")))


def replace_picture(path: Path, content: bytes) -> None:
    """Write a picture with the seal of its format, whole or not at all; see `replace_file`."""
    replace_file(path, lambda draft: draft.write_bytes(sealed(content, path.suffix)))


def sealed(content: bytes, suffix: str) -> bytes:
    """The content of a page or picture with the seal by which `is_own` knows it; other formats as they are.

    >>> sealed(b"<p>", ".html")[:26]
    b'<p>\\n<!-- geomfeat-output/1'
    """
    if suffix not in SEALED:
        return content
    return content + _COMMENT[suffix].format(f"{MARK} {hashlib.sha256(content).hexdigest()}").encode()


def marked(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the mark in front."""
    return {MADE_BY: MARK, **value}


def json_text(value: Mapping[str, Any], **options: Any) -> str:
    """A JSON object as text that carries the mark."""
    return json.dumps(marked(value), **options)


def make_folder(folder: Path) -> Path:
    """The folder, made if missing; BadInput if a file is in its place, WriteFailed if it cannot be made."""
    with writing(folder):
        for part in (folder, *folder.parents):
            if part.exists():
                if not part.is_dir():
                    raise BadInput(f"{part} is a file: name a folder")
                break
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove_own(folder: Path, is_ours: Callable[[Path], bool]) -> None:
    """Remove a folder of geomfeat's with what is in it; OutputExists, and nothing is removed, where a file is not ours.

    Temporary files of an interrupted write count as ours.
    """
    require_ours(folder, is_ours)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def require_ours(folder: Path, is_ours: Callable[[Path], bool]) -> None:
    """OutputExists that names the first entry of a folder that is not a file of ours."""
    for path in sorted(folder.iterdir()):
        ours = path.is_file() and not path.is_symlink() and (is_temporary(path) or is_ours(path))
        if not ours:
            raise OutputExists(
                f"{path} was not written by geomfeat, and {folder} is to be replaced: move it elsewhere, and run the "
                "same again"
            )


def is_temporary(path: Path) -> bool:
    """Whether a file is what an interrupted `replace_file` has left."""
    return _TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, every error of the operating system becomes a WriteFailed that names the path."""
    try:
        yield
    except GeomfeatError:
        raise
    except Exception as error:
        cause = error if isinstance(error, OSError) else _full_disk_behind(error)
        if cause is None:
            raise
        why = cause.strerror or str(cause) or type(cause).__name__
        raise WriteFailed(cause.errno or errno.EIO, why, str(path)) from error


def _full_disk_behind(error: BaseException) -> OSError | None:
    """The full disk that an error hides: archives that cannot be closed there raise an error of another kind."""
    behind = error.__cause__ or error.__context__
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in FULL:
            return behind
        behind = behind.__cause__ or behind.__context__
    return None
