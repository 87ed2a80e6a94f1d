"""What a file holds that cannot be read as weights, by its bytes and the names in its pickle; runs none of its code."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SCANNED = 2**22  # bytes of a pickle that are searched
PICKLES = 6  # torch's older format is that many pickles in a row
SAVE_STATE = "save the state dict alone, torch.save(model.state_dict(), 'weights.pt')"
# Modules of what a state dict of tensors needs, and what many checkpoints hold besides.
PART_OF_MODULE = "_modules"  # an attribute of every torch.nn.Module
PLAIN = ("torch", "torch._utils", "torch.serialization", "torch.storage", "collections", "builtins", "__builtin__")
HEADS = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the file: run 'git lfs pull'"),
    (b"\x89HDF", "an HDF5 file (Keras): only weights of torch are read; convert it to .safetensors"),
    (b"<", "a web page in place of the file: download it again"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"\x93NUMPY", "a numpy array: save tensors by name, torch.save({'name': torch.from_numpy(array)}, 'weights.pt')"),
)  # fmt: skip


def what_it_is(path: Path) -> str:
    """What a file that torch refuses holds, and what to do; "" if that is unknown (truncated, or corrupt)."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            found = next((words for start, words in HEADS if head.startswith(start)), "")
            if found:
                return found
            if zipfile.is_zipfile(path):
                return _in_archive(path)
            file.seek(0)
            return _by_names(set(_names_in(file)))
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, EOFError):
        return ""


def _in_archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            return (
                "a TorchScript program: save the weights in it alone, "
                "torch.save(torch.jit.load(path).state_dict(), 'weights.pt')"
            )
        if names and all(name.endswith(".npy") for name in names):
            return (
                "numpy arrays (.npz): save them as tensors, "
                "torch.save({k: torch.from_numpy(v) for k, v in numpy.load(path).items()}, 'weights.pt')"
            )
        pickled = next((name for name in names if name.endswith("data.pkl")), None)
        if pickled is None:
            return ""
        with archive.open(pickled) as file:
            return _by_names(set(_names_in(file)))  # type: ignore[arg-type]


def _names_in(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that the pickles in a file ask for; up to where they end, or are damaged."""
    recent: list[str] = []
    for _ in range(PICKLES):
        try:
            for opcode, argument, position in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    yield module, name
                elif opcode.name == "STACK_GLOBAL" and len(recent) > 1:
                    yield recent[-2], recent[-1]
                elif isinstance(argument, str):
                    if argument == PART_OF_MODULE:
                        yield "", argument
                    recent = [*recent[-1:], argument]
                if (position or 0) > SCANNED:
                    return
        except Exception:  # noqa: BLE001  # damaged in one of many ways; what was found so far stands
            return


def _by_names(names: set[tuple[str, str]]) -> str:
    whole = ("", PART_OF_MODULE) in names
    code = sorted(f"{m}.{n}" for m, n in names if m and m not in PLAIN and not m.startswith(("numpy", "_codecs")))
    if whole and code:
        own = next((name for name in code if not name.startswith("torch.")), code[0])
        return (
            f"a whole pickled module (of {own}), which holds more than tensors and would run code when it is read: in "
            "the program that wrote it, save the state dict alone, "
            "torch.save(torch.load(path, weights_only=False).state_dict(), 'weights.pt')"
        )
    if any(module.startswith("numpy") and name in ("_reconstruct", "_frombuffer") for module, name in names):
        return (
            "numpy arrays in a pickle, and holds more than tensors: in the program that wrote it, save them as "
            "tensors, torch.save({k: torch.from_numpy(v) for k, v in state.items()}, 'weights.pt')"
        )
    if code:
        return f"a pickle of {', '.join(code[:3])}, and holds more than tensors, which would run code: {SAVE_STATE}"
    return ""
