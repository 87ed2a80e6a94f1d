"""Ways to damage any file: cut, emptied, filled with something else, or replaced by what is no file at all."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.hostile.archives import ARCHIVE
from tests.cli.hostile.sweeps import YAML

Damage = Callable[[Path, random.Random], None]


def gone(path: Path, _: random.Random) -> None:
    path.unlink()


def emptied(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def longer(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(50))


def flipped(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 3, 20])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def junk(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(300))


def junk_after_magic(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[:8] + chance.randbytes(300))


def words(path: Path, _: random.Random) -> None:
    path.write_text("<html>404 not found</html>\n")


def latin(path: Path, _: random.Random) -> None:
    path.write_bytes(b"caf\xe9: [1, 2]\n")


def folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def dangling(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere/at/all")


def device(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def pointer(path: Path, _: random.Random) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")


ANY: list[Damage] = [
    gone,
    emptied,
    cut,
    cut,
    longer,
    flipped,
    flipped,
    junk,
    junk_after_magic,
    words,
    latin,
    folder,
    loop,
    dangling,
    device,
    pointer,
]


def nested(path: Path, chance: random.Random) -> None:
    path.write_text(chance.choice(["[", '{"a":', '{"files":{"x":']) * 200_000)


def nested_and_closed(path: Path, _: random.Random) -> None:
    path.write_text('{"plan": ' + "[" * 100_000 + "]" * 100_000 + "}")


def other_json(path: Path, chance: random.Random) -> None:
    path.write_text(chance.choice(["[]", "{}", "null", "3", '"text"', "NaN", "[[[]]]", '{"": null}', "1" * 6000]))


def one_value(path: Path, chance: random.Random) -> None:
    """Another type or size in one place of a JSON file."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return other_json(path, chance)
    place = content
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.7:
            place = place[key]
            continue
        kind = chance.randrange(3)
        if kind == 0:
            del place[key]
        else:
            place[key] = chance.choice(
                [None, -1, 0, 10**12, 10**30, 1.5, True, "", "text", "../../x", [], {}, [[1]], {"a": 1}, float("nan")]
            )
        break
    path.write_text(json.dumps(content))


JSON: list[Damage] = [nested, nested_and_closed, other_json, one_value, one_value, one_value, one_value]


def long_header(path: Path, chance: random.Random) -> None:
    size = chance.choice([2**63, 2**40, 10**8, 5])
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])


def header_of(path: Path, chance: random.Random) -> None:
    """A safetensors file whose header says something else."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    name = chance.choice(names)
    kind = chance.randrange(5)
    if kind == 0:
        header[name]["shape"] = [10**12, 10**6]
    elif kind == 1:
        header[name]["dtype"] = chance.choice(["F8_E5M2", "I64", "BOOL", "C64", "X9", 3])
    elif kind == 2:
        header[name]["data_offsets"] = [0, 2**60]
    elif kind == 3:
        header = {f"renamed.{key}": value for key, value in header.items() if key != "__metadata__"}
    else:
        del header[name]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def not_a_number(path: Path, _: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[-4:] = struct.pack("<f", float("nan"))
    path.write_bytes(content)


SAFETENSORS: list[Damage] = [long_header, header_of, header_of, not_a_number, nested]


def with_code(path: Path, _: random.Random) -> None:
    """A pickle that would run code."""
    import pickle

    path.write_bytes(pickle.dumps({"x": print}))


def other_object(path: Path, chance: random.Random) -> None:
    import torch
    from torch import nn

    meta = torch.zeros(3, device="meta")
    made = chance.choice(
        [
            3,
            None,
            "text",
            [],
            {},
            {"a": 1},
            {"0.weight": 3},
            {1: torch.zeros(3)},
            torch.zeros(3),
            {"0.weight": meta},
            {"0.weight": torch.zeros(8, 6).to_sparse()},
            {"0.weight": torch.zeros(8, 6, dtype=torch.complex64)},
            {"state_dict": {"model": {}}},
            nn.Linear(6, 8),
            {"0.weight": torch.full((8, 6), float("inf"))},
        ]
    )
    torch.save(made, path)


PT: list[Damage] = [with_code, other_object, other_object, other_object]


def other_schema(path: Path, chance: random.Random) -> None:
    """A readable parquet file of another table."""
    import pandas as pd

    table = pd.read_parquet(path)
    kind = chance.randrange(6)
    if kind == 0:
        table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    elif kind == 1 and len(table.columns):
        table = table.drop(columns=[chance.choice(list(table.columns))])
    elif kind == 2 and len(table.columns):
        name = chance.choice(list(table.columns))
        table[name] = [None] * len(table)
    elif kind == 3 and len(table.columns):
        name = chance.choice(list(table.columns))
        table[name] = [f"text {i}" for i in range(len(table))]
    elif kind == 4:
        table = table.iloc[:0]
    else:
        table = table.rename(columns=str.upper)
    table.to_parquet(path, index=False)


PARQUET: list[Damage] = [other_schema, other_schema, other_schema]


BY_SUFFIX = {
    ".npz": ARCHIVE,
    ".json": JSON,
    ".jsonl": JSON,
    ".safetensors": SAFETENSORS,
    ".pt": PT,
    ".parquet": PARQUET,
    ".yaml": YAML,
}


def damages_of(path: Path) -> list[Damage]:
    """All that can be done to a file: what suits its kind as often as what suits any."""
    own = BY_SUFFIX.get(path.suffix, [])
    return [*ANY, *own, *own] if own else ANY


def sealed(folder: Path) -> None:
    """Sums of a saved folder made to fit its files again, as whoever tampers with it would."""
    for marker in folder.glob("*.json"):
        try:
            content = json.loads(marker.read_text())
            sums = content["files"]
            for name in sums:
                found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                sums[name] = [(folder / name).stat().st_size, found] if isinstance(sums[name], list) else found
            marker.write_text(json.dumps(content))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue


def swapped(runs: Path, chance: random.Random) -> None:
    """One run's folder at another one's address."""
    a, b = chance.sample(sorted(runs.iterdir()), 2)
    shutil.rmtree(a)
    shutil.copytree(b, a)
