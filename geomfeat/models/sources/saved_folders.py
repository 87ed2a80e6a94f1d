"""Folders that `save_pretrained` or the transformers Trainer wrote: which files hold what, checked before reading.

A half-written or half-copied folder is refused here, by the name of what it lacks. Nothing here needs transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.models.weights.file_formats import INDEX, weights_files
from geomfeat.storage.owned_files import as_path

PREFIX = "hf:"
CONFIG, ADAPTER_CONFIG, MODULES = "config.json", "adapter_config.json", "modules.json"
SAFE = ("model.safetensors", f"model.safetensors{INDEX}")
ADAPTER_SAFE, ADAPTER_PICKLED = "adapter_model.safetensors", "adapter_model.bin"
# Weights in formats that run code or that belong to another library.
OTHER = ("pytorch_model.bin", f"pytorch_model.bin{INDEX}", "tf_model.h5", "flax_model.msgpack")
TOKENIZER = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
SHOWN = 4  # names of folders in a message


def path_of(name: Any, what: str = "model") -> Path:
    """The path that `hf:FOLDER`, or a path, names.

    >>> path_of("hf:runs/bert").as_posix()
    'runs/bert'
    """
    path = as_path(name.removeprefix(PREFIX) if isinstance(name, str) else name, what)
    try:
        # A folder of the user's that begins with "hf:" is written ./hf:...
        return Path(str(path).removeprefix(PREFIX)).expanduser()
    except RuntimeError as cause:
        raise BadInput(f"{what}={str(name)!r}: no such home folder ({cause})") from cause


def config_folder(path: Path) -> Path:
    """The folder with the transformer's config.json: `path` itself, or the one that its modules.json names.

    Raises BadInput for what is no such folder, with the folders in it that are.
    """
    spec = f"{PREFIX}{path}"
    if not path.is_dir():
        kind = "it is a file: name the folder it is in" if path.is_file() else "no such folder"
        raise BadInput(
            f"{spec!r}: {kind}. Nothing is downloaded: save the model once with model.save_pretrained(FOLDER) and "
            "tokenizer.save_pretrained(FOLDER), or name a snapshot folder of the hub's cache"
        )
    if (path / MODULES).is_file():
        path = _transformer_of(path)
    if (path / CONFIG).is_file():
        return path
    inside = [p for p in checkpoint_folders(path) if (p / CONFIG).is_file() or is_adapter(p)]
    if inside:
        names = ", ".join(p.name for p in inside[-SHOWN:])
        raise BadInput(f"{spec!r} holds no {CONFIG}, but its folders {names} do: name one, {PREFIX}{inside[-1]}")
    raise BadInput(
        f"{spec!r} holds no {CONFIG} (there: {_there(path)}): name a folder that model.save_pretrained wrote; if its "
        "writing was interrupted, use an earlier one"
    )


def _transformer_of(folder: Path) -> Path:
    """Where a folder of sentence-transformers holds its network: pooling and normalising come in other folders."""
    listed = read_json(folder / MODULES)
    parts = listed if isinstance(listed, list) else []
    paths = [part.get("path", "") for part in parts if str(part.get("type", "")).endswith("Transformer")]
    if not paths:
        raise BadInput(f"{folder / MODULES} lists no Transformer, whose layers would be measured: name another folder")
    return folder / paths[0]


def safe_weights(folder: Path) -> list[Path]:
    """The .safetensors of a folder, an index first if there are several; BadInput for what is missing or pickled."""
    found = next((folder / name for name in SAFE if (folder / name).is_file()), None)
    if found is not None:
        files = weights_files(found)
        for file in files:
            if file.suffix == ".safetensors":
                shapes_in(file)
        return files
    other = next((folder / name for name in OTHER if (folder / name).is_file()), None)
    if other is None:
        raise BadInput(
            f"'{PREFIX}{folder}' holds no {' or '.join(SAFE)} (there: {_there(folder)}): the folder is half-written or "
            "half-copied; copy it again, or use an earlier checkpoint"
        )
    if not other.name.startswith("pytorch_model.bin"):
        raise BadInput(f"'{PREFIX}{folder}' holds {other.name} alone: save it again from torch, as .safetensors")
    raise BadInput(
        f"'{PREFIX}{folder}' holds {other.name}, a pickle, and no .safetensors: save it again by "
        "model.save_pretrained(FOLDER), or name the file as the weights (--trained, weights=), which is then read "
        "without running code"
    )


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of a .safetensors file, from its header; BadInput for one that is cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as cause:
        raise BadInput(
            f"cannot read weights {str(file)!r} ({file.stat().st_size} bytes; {cause}): the file is half-written or "
            "half-copied; copy it again, or use an earlier checkpoint"
        ) from cause


def is_adapter(path: Path) -> bool:
    """Whether peft wrote a folder, of an adapter alone."""
    return (path / ADAPTER_CONFIG).is_file() and not (path / CONFIG).is_file()


def adapter_weights(folder: Path) -> Path:
    """The .safetensors of an adapter's folder; BadInput for a folder that is none, or lacks it."""
    if not (folder / ADAPTER_CONFIG).is_file():
        kind = f"no {ADAPTER_CONFIG} in it (there: {_there(folder)})" if folder.is_dir() else "no such folder"
        raise BadInput(f"adapter {str(folder)!r}: {kind}; name a folder that peft's model.save_pretrained wrote")
    if (folder / ADAPTER_SAFE).is_file():
        shapes_in(folder / ADAPTER_SAFE)
        return folder / ADAPTER_SAFE
    if (folder / ADAPTER_PICKLED).is_file():
        raise BadInput(
            f"adapter {str(folder)!r} holds {ADAPTER_PICKLED}, a pickle, and no {ADAPTER_SAFE}: save it again by "
            "model.save_pretrained(FOLDER)"
        )
    raise BadInput(
        f"adapter {str(folder)!r} holds no {ADAPTER_SAFE} (there: {_there(folder)}): it is half-written; copy it "
        "again, or use an earlier checkpoint"
    )


def checkpoint_folders(folder: Path) -> list[Path]:
    """The Trainer's checkpoint-N in a folder, by N."""
    number = lambda p: p.name.removeprefix("checkpoint-")  # noqa: E731
    found = [p for p in folder.glob("checkpoint-*") if p.is_dir() and number(p).isdecimal()]
    return sorted(found, key=lambda p: int(number(p)))


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the words of a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZER)


def content_files(path: Path) -> list[Path]:
    """Every file that decides what a saved model or adapter is: of its folder alone, not of checkpoints in it."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    folder = path if is_adapter(path) or not (path / MODULES).is_file() else _transformer_of(path)
    kinds = (".json", ".safetensors", ".txt", ".model")
    return sorted(p for p in folder.glob("*") if p.is_file() and p.suffix in kinds)


def read_json(path: Path) -> Any:
    """The content of a JSON file; BadInput where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise BadInput(f"{path} is not JSON ({cause}): it is half-written or damaged; copy it again") from cause


def _there(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    more = f" and {len(names) - 2 * SHOWN} more" if len(names) > 2 * SHOWN else ""
    return (", ".join(names[: 2 * SHOWN]) or "nothing") + more
