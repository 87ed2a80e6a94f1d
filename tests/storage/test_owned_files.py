"""Files on disk: whole or not at all, never over the user's, and a full disk is reported with the file's name."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from geomfeat.errors import BadInput, GeomfeatError, OutputExists, WriteFailed
from geomfeat.storage.owned_files import (
    ENDS,
    MARK,
    as_path,
    is_own,
    json_text,
    make_folder,
    remove_own,
    replace_file,
    replace_page,
    replace_picture,
    writing,
)
from tests.warm_process import run_code


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


@pytest.mark.parametrize("path", ["", " ", b"", "a\0b"])
def test_an_empty_path_names_nothing(path: object) -> None:
    with pytest.raises(BadInput, match=r"store=.* names nothing: give a path, '\.' for the current folder"):
        as_path(path, "store")


def test_other_things_are_no_paths() -> None:
    with pytest.raises(BadInput, match=r"must be a path \(str or pathlib.Path\), got int"):
        as_path(3)
    assert as_path(Path(".")) == Path(".")
    assert as_path("a/b") == Path("a/b")


def test_a_file_without_the_mark_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("mine")
    with pytest.raises(OutputExists, match=r"a\.json was not written by geomfeat.*remove it yourself"):
        replace_file(path, text("other"))
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_with_the_mark_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for value in (1, 2):
        replace_file(path, text(json_text({"value": value})))
        assert is_own(path)
    assert '"value": 2' in path.read_text()


@pytest.mark.parametrize("size", [0, 10, ENDS - 3, ENDS + 5, 2 * ENDS - 7, 3 * ENDS])
@pytest.mark.parametrize("at_end", [True, False])
def test_the_mark_is_found_at_either_end(tmp_path: Path, size: int, at_end: bool) -> None:
    path, filler = tmp_path / "a.bin", b"x" * size
    path.write_bytes(filler + MARK.encode() if at_end else MARK.encode() + filler)
    assert is_own(path)
    path.write_bytes(filler)
    assert not is_own(path)


@pytest.mark.parametrize("name", ["page.html", "page", "page.htm", "a.svg", "a.pdf"])
def test_an_edited_page_or_picture_is_the_users(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write = replace_page if name.startswith("page") else lambda p, t: replace_picture(p, t.encode())
    write(path, "<p>found</p>")
    assert is_own(path)
    write(path, "<p>found again</p>")
    edited = path.read_text().replace("found", "found, as I think")
    path.write_text(edited)
    with pytest.raises(OutputExists, match="was changed"):
        write(path, "<p>new</p>")
    assert path.read_text() == edited


def test_a_page_that_only_names_geomfeat_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "notes.html"
    path.write_text(f"<p>notes on geomfeat and its {MARK}</p>")
    assert not is_own(path)


def test_what_is_no_plain_file_is_the_users(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "link.html").symlink_to(tmp_path / "nothing")
    for name in ("pipe.html", "link.html"):
        with pytest.raises(OutputExists, match=f"{name} was not written by geomfeat"):
            replace_page(tmp_path / name, "<p>")


def test_a_name_that_no_file_system_takes_is_reported() -> None:
    with pytest.raises(BadInput, match=r"out='runs/aaa.*has a name of more than 255 bytes: shorten it"):
        as_path("runs/" + "a" * 300, "out")


def test_a_folder_in_the_place_of_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputExists, match=r"a\.json is a folder"):
        replace_file(tmp_path / "a.json", text("x"))


def test_a_file_in_the_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(BadInput, match="a is a file: name a folder"):
        make_folder(tmp_path / "a" / "b" / "c")
    assert make_folder(tmp_path / "x" / "y").is_dir()


@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, "No space left on device"), OSError("pipe broke")])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path, raised: OSError) -> None:
    path = tmp_path / "a.json"
    path.write_text(json_text({"old": 1}))

    def half(draft: Path) -> None:
        draft.write_text("ha")
        raise raised

    with pytest.raises(WriteFailed, match=r"a\.json cannot be written: (No space left|pipe broke)") as caught:
        replace_file(path, half)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, GeomfeatError)
    assert caught.value.filename == str(path)
    assert '"old": 1' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_behind_another_error_is_found(tmp_path: Path) -> None:
    hidden = ValueError("cannot close the archive")
    hidden.__context__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(WriteFailed, match="No space left"), writing(tmp_path):
        raise hidden
    with pytest.raises(ValueError, match="a bug"), writing(tmp_path):
        raise ValueError("a bug")


LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd
from geomfeat.storage.npz_files import write_arrays
from geomfeat.storage.owned_files import replace_file
from geomfeat.storage.atomic import write_parquet
folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
x = rng.standard_normal((200, 200))
writers = {"a.npz": lambda p: write_arrays(p, {"x": x}), "a.parquet": lambda p: write_parquet(p, pd.DataFrame(x)),
           "a.bin": lambda p: p.write_bytes(x.tobytes())}
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
for name, write in writers.items():
    try:
        replace_file(folder / name, write)
    except OSError as error:
        sys.stdout.write(f"{type(error).__name__} {error}\\n")
"""


def test_every_kind_of_file_tells_that_it_may_not_grow(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    output = run_code(LIMIT, tmp_path, folder).stdout.splitlines()
    assert [line.split()[0] for line in output] == ["WriteFailed"] * 3
    for line, name in zip(output, ("a.npz", "a.parquet", "a.bin"), strict=True):
        assert f"{name} cannot be written" in line
    assert list(folder.iterdir()) == []


def test_threads_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    path, errors = tmp_path / "a.json", []
    barrier = threading.Barrier(8)

    def write(draft: Path, i: int) -> None:
        draft.write_text(json_text({"value": [i] * 1000}))
        barrier.wait(timeout=30)

    def work(i: int) -> None:
        try:
            replace_file(path, lambda draft: write(draft, i))
        except BaseException as error:  # noqa: BLE001 - message below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert is_own(path)
    assert list(tmp_path.iterdir()) == [path]


def test_only_folders_of_our_files_are_removed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "parts")
    (folder / "a.npz").write_text("ours")
    (folder / ".a.npz.0123456789abcdef.part").write_text("half")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"notes\.txt was not written by geomfeat"):
        remove_own(folder, lambda path: path.suffix == ".npz")
    assert len(list(folder.iterdir())) == 3
    (folder / "notes.txt").unlink()
    (folder / "deep").mkdir()
    with pytest.raises(OutputExists, match="deep was not written by geomfeat"):
        remove_own(folder, lambda path: True)
    (folder / "deep").rmdir()
    remove_own(folder, lambda path: path.suffix == ".npz")
    assert not folder.exists()
