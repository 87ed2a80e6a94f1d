"""Ways to damage an `.npz` file that only a zip archive of arrays knows."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[Path, random.Random], None]


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def _write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)


def _edit(path: Path, chance: random.Random, edit: Callable[[bytes], bytes]) -> None:
    """`edit` one of the arrays' files."""
    members = _members(path)
    name = chance.choice(sorted(members))
    members[name] = edit(members[name])
    _write(path, members)


def _npy(array: np.ndarray, pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=pickle)
    return file.getvalue()


def _with_header(content: bytes, header: str) -> bytes:
    """The bytes of an array under another header."""
    size = int.from_bytes(content[8:10], "little")
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return content[:8] + len(text).to_bytes(2, "little") + text + content[10 + size :]


def _patched(path: Path, local: int, central: int, change: Callable[[bytes], bytes]) -> None:
    """Two bytes of every header of a zip file changed: at `local` and `central` from its marks."""
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = content.find(mark)
        while at >= 0:
            content[at + place : at + place + 2] = change(bytes(content[at + place : at + place + 2]))
            at = content.find(mark, at + 4)
    path.write_bytes(content)


def encrypted(path: Path, _: random.Random) -> None:
    _patched(path, 6, 8, lambda flags: bytes([flags[0] | 1, flags[1]]))


def unknown_method(path: Path, chance: random.Random) -> None:
    method = chance.choice([1, 9, 93, 97, 98, 99, 1000])
    _patched(path, 8, 10, lambda _: method.to_bytes(2, "little"))


def other_method(path: Path, chance: random.Random) -> None:
    _write(path, _members(path), chance.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))


def patched_data(path: Path, _: random.Random) -> None:
    _patched(path, 1, 4, lambda two: two[:1] + b"\xff")


def large_shape(path: Path, chance: random.Random) -> None:
    shape = chance.choice(
        [
            "(1000000000000,)",
            "(24, 1000000000)",
            "(99999999999999999999, 2)",
            "(-1, 6)",
            "(24, -6)",
            "(3000000, 3000000)",
            "(24,)",
            "(2, 3, 4, 5, 6)",
            "(0, 6)",
            "(1e3,)",
            "'x'",
            "(True, 6)",
        ]
    )
    kind = chance.choice(["<f8", "<f4", "|S1000000000", "<i8", "|u1", "<f16"])
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    _edit(path, chance, lambda content: _with_header(content, header))


def odd_header(path: Path, chance: random.Random) -> None:
    header = chance.choice(
        [
            "(" * 3000,
            "[" * 3000 + "]" * 3000,
            "{'descr': '|O', 'fortran_order': False, 'shape': (24,), }",
            "{",
            "1if 2else 3",
            "{'descr': 'x9', 'fortran_order': 3, 'shape': (24,), }",
            "{'shape': (24,)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (24,), }",
            "-" * 4000 + "1",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (), }",
            "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (24,), }",
            "\xff" * 40,
            "{'descr': [" + "('a', " * 900,
        ]
    )
    _edit(path, chance, lambda content: _with_header(content, header))


def other_version(path: Path, chance: random.Random) -> None:
    version = chance.choice([b"\x03\x00", b"\x02\x00", b"\x09\x00", b"\x00\x00"])
    _edit(path, chance, lambda content: content[:6] + version + content[8:])


def no_array(path: Path, chance: random.Random) -> None:
    _edit(
        path, chance, lambda _: chance.choice([b"", b"PK\x03\x04", b"text", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff"])
    )


def cut_array(path: Path, chance: random.Random) -> None:
    _edit(path, chance, lambda content: content[: chance.randrange(len(content))])


def other_array(path: Path, chance: random.Random) -> None:
    """An array of another kind or shape in place of one."""
    stream = np.random.default_rng(chance.randrange(100))
    x = stream.normal(size=(24, 6)).astype("f4")
    made = chance.choice(
        [
            np.array([{}] * 24, object),
            np.full((24, 6), np.nan),
            np.full(24, np.inf),
            x[:, :0],
            x[:0],
            x[:1],
            x[:23],
            x.ravel(),
            np.hstack([x, x]),
            x[..., None, None, None],
            np.array(3),
            np.array(["a"] * 24),
            np.array([b"a"] * 24),
            x + 1j,
            x.astype("f2"),
            x.astype(">f8"),
            x > 0,
            np.zeros(24, "M8[s]"),
            np.zeros((24, 6), "f8") + 1e300,
            np.arange(24) - 9,
            np.arange(24, dtype="u8") + 2**63,
            np.array("{" * 9000),
            np.array('[{"key": 3}]'),
            np.array(json.dumps([[[]]])),
            np.array("[" * 90_000),
            np.asarray(x, "f4", order="F"),
            np.zeros((24, 6), "longdouble"),
            np.zeros((24, 24)),
            -np.ones((24, 24)),
            np.full((2, 24, 24), np.nan),
            np.zeros(276),
            np.zeros((4, 275)),
            np.zeros((0, 276)),
        ]
    )
    _edit(path, chance, lambda _: _npy(made, pickle=made.dtype == object))


def renamed(path: Path, chance: random.Random) -> None:
    members = _members(path)
    name = chance.choice(sorted(members))
    other = chance.choice(
        [" ", "é.npy", "../up.npy", "x", ".npy", "a" * 300 + ".npy", "x.npy", "index.npy", "rdm_.npy", "\n.npy"]
    )
    members = {other if key == name else key: content for key, content in members.items()}
    _write(path, members)


def lost(path: Path, chance: random.Random) -> None:
    members = _members(path)
    del members[chance.choice(sorted(members))]
    _write(path, members)


def index_of(path: Path, chance: random.Random) -> None:
    """Another index in a file of features."""
    members = _members(path)
    entry = {"key": "0", "layer": "0", "meta": {}}
    odd = [
        {**entry, "meta": 3},
        {**entry, "layer": 3},
        {**entry, "key": None},
        {**entry, "meta": {"shape": "x"}},
        {},
        3,
        None,
    ]
    made = chance.choice([[chance.choice(odd)], {}, [], [entry, entry], {"key": 1}, "text", [[entry]]])
    members["index.npy"] = _npy(np.array(json.dumps(made)))
    _write(path, members)


def twice(path: Path, _: random.Random) -> None:
    import warnings

    members = _members(path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            file.writestr(name, content)
            file.writestr(name, content[:-3])


def single(path: Path, _: random.Random) -> None:
    path.write_bytes(_npy(np.zeros((24, 6))))


def pickled(path: Path, _: random.Random) -> None:
    import pickle

    path.write_bytes(pickle.dumps({"x": print}))


ARCHIVE: list[Damage] = [
    encrypted,
    unknown_method,
    other_method,
    patched_data,
    large_shape,
    large_shape,
    large_shape,
    odd_header,
    odd_header,
    other_version,
    no_array,
    cut_array,
    other_array,
    other_array,
    other_array,
    other_array,
    renamed,
    lost,
    index_of,
    twice,
    single,
    pickled,
]
