"""Tensors from the files in which trainings are saved, without pickled code.

Read are `.safetensors`; what `torch.save` wrote (`.pt`, `.pth`, `.ckpt`, `.bin`, `.tar`), with `weights_only=True`; a
folder that `save_pretrained` or the transformers Trainer wrote; and the index of weights in several files. Layouts:
Lightning's checkpoint ("state_dict"), torchvision's references ("model", "model_ema"), timm ("state_dict",
"state_dict_ema"), DeepSpeed ("module"), transformers (`model.safetensors`, `pytorch_model.bin`, `*.index.json`).
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.weights.names import fits
from geomfeat.models.weights.other_files import what_it_is
from geomfeat.storage.owned_files import as_path

logger = logging.getLogger(__name__)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # escapes of terminals, which torch writes into its messages
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
INDEX = ".index.json"
# Within a folder, the first that is there, as transformers and diffusers look for them.
IN_FOLDER = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json",
)  # fmt: skip
# Where a checkpoint holds the weights among other things: the trained weights first, then their running averages.
OWN = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema", "averaged")
DEEPEST = 6  # mappings within mappings in which weights are looked for
# What a checkpoint holds besides weights, and where there may be tensors too.
ASIDE = ("optimizer", "optim", "scheduler", "scaler", "rng", "state", "callbacks", "loops", "args", "hyper", "config")


def weights_files(path: str | Path) -> list[Path]:
    """The files that hold the weights that a path names, in order: one, or an index and the files it lists.

    Raises BadInput for a missing path, a folder without weights, and an index that cannot be read or lists
    files that are not there.
    """
    path = as_path(path, "weights")
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise BadInput(f"no such weights file: {str(path)!r}")
    if path.name.endswith(INDEX):
        return [path, *dict.fromkeys(path.parent / name for name in _weight_map(path).values())]
    if path.suffix not in SUFFIXES:
        raise BadInput(
            f"weights {str(path)!r} must be one of {', '.join(SUFFIXES)}, a folder of save_pretrained, or its index: "
            "convert with save_weights"
        )
    return [path]


def read_weights(path: str | Path, own: Collection[str] = ()) -> dict[str, Tensor]:
    """Tensors by name from a file or folder of weights, on the CPU.

    Where a checkpoint holds several sets, at any depth, those that fit the names `own` of a model are taken before
    others, the trained weights before their running average, and the log says which.

    Raises BadInput for what is missing, truncated, corrupt, of another kind, without tensors, or holds NaN.
    """
    first, *parts = weights_files(path)
    if not parts:
        state = _one(first, own)
    else:
        state = {name: value for part in parts for name, value in _one(part, own).items()}
        lost = [name for name in _weight_map(first) if name not in state]
        if lost:
            raise BadInput(
                f"{first} lists {lost[0]!r} in {_weight_map(first)[lost[0]]}, which does not hold it: copy it again"
            )
    for name, value in state.items():
        _require_finite(name, value, path)
    return state


def _require_finite(name: str, value: Tensor, path: str | Path) -> None:
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        kind = "without values (on the meta device)" if value.is_meta else "sparse or quantised"
        raise BadInput(f"tensor {name!r} in {str(path)!r} is {kind}: save plain tensors")
    if not (value.is_floating_point() or value.is_complex()):
        return
    wide = value.float() if value.is_floating_point() and value.element_size() == 1 else value
    bad = int((~torch.isfinite(wide)).sum())
    if bad:
        raise BadInput(
            f"tensor {name!r} in {str(path)!r} holds {bad} NaN or infinite of {value.numel()} values: "
            "the file is damaged or training diverged; use an earlier checkpoint"
        )


def _in_folder(folder: Path) -> Path:
    for name in IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    if len(found) == 1:
        return found[0]
    there = ", ".join(p.name for p in found[:8]) or "none"
    inside = _folders_with_weights(folder)
    if inside and not found:
        raise BadInput(
            f"weights {str(folder)!r} holds no weights itself, but its folders {', '.join(p.name for p in inside[:8])} "
            f"do: name one of them, e.g. {str(inside[-1])!r}"
        )
    raise BadInput(
        f"weights {str(folder)!r} is a folder with none of {', '.join(IN_FOLDER[:4])}: name the file (weights there: "
        f"{there})"
    )


def _folders_with_weights(folder: Path) -> list[Path]:
    """Folders inside, such as the Trainer's checkpoint-100, that hold a file of weights; by their number."""
    inside = [p for p in folder.iterdir() if p.is_dir() and any((p / name).is_file() for name in IN_FOLDER)]
    number = lambda p: int(end) if (end := p.name.rpartition("-")[2]).isdecimal() else -1  # noqa: E731
    return sorted(inside, key=lambda p: (number(p), p.name))


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file of an index; BadInput where it is damaged, or names a file that is not in its folder."""
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        found = {str(name): str(file) for name, file in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise BadInput(
            f"{index} is not an index of weights ({type(cause).__name__}: {cause}): copy it again"
        ) from cause
    for file in dict.fromkeys(found.values()):
        if Path(file).name != file or Path(file).suffix not in SUFFIXES:
            raise BadInput(
                f"{index} lists {file!r}, which is not a weights file in the same folder: copy the folder again"
            )
        if not (index.parent / file).is_file():
            raise BadInput(f"{index} lists {file}, which is missing: copy the whole folder")
    if not found:
        raise BadInput(f"{index} lists no weights: copy it again")
    return found


def _one(path: Path, own: Collection[str]) -> dict[str, Tensor]:
    """The state dict in one file."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch_content(path)
    except Exception as cause:
        known = what_it_is(path)
        if known:
            raise BadInput(f"cannot read weights {str(path)!r}: it is {known}") from cause
        raise BadInput(
            f"cannot read weights {str(path)!r} ({why_unreadable(path, cause)}): "
            "the file is truncated or corrupt, or holds more than tensors; copy it again, or save the state dict alone"
        ) from cause
    return _chosen(content, path, own)


def torch_content(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU; raises whatever torch does where it is something else, or would run code."""
    # Warnings are of the protocol of a file that is read or refused in any case.
    with torch.serialization.safe_globals(_plain_values()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def why_unreadable(path: Path, cause: Exception) -> str:
    """Size of a file, and the first line of what torch said about it."""
    first = (_COLOUR.sub("", str(cause)).splitlines() or [""])[0][:200]
    return f"{path.stat().st_size} bytes; {type(cause).__name__}: {first}"


def _plain_values() -> list[Any]:
    """What many trainings save with their weights, and that holds values only: options, and numbers of numpy."""
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8", "?")]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *kinds, *names]


def _chosen(content: Any, path: Path, own: Collection[str]) -> dict[str, Tensor]:
    """The state dict among what a checkpoint holds; BadInput for none, or for several without a name that decides."""
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise BadInput(f"weights {str(path)!r} holds a {kind}, not a state dict: save model.state_dict()")
    sets = _state_dicts(content, own)
    if not sets:
        if "param_groups" in content:
            raise BadInput(f"weights {str(path)!r} is an optimizer's state, without weights: name the model's file")
        raise BadInput(f"weights {str(path)!r} holds no tensors by name: it holds {', '.join(map(str, content))[:200]}")
    ranked = _ranked(sets, own)
    if not ranked and len(sets) > 1:
        raise BadInput(
            f"weights {str(path)!r} holds several sets: {', '.join(sets)}; save the one that is meant, as "
            "torch.save(checkpoint[NAME], 'weights.pt')"
        )
    taken = ranked[0] if ranked else next(iter(sets))
    others = [name for name in sets if name != taken]
    if others:
        logger.warning("weights %s: %r is taken; the file also holds %s", path, taken, ", ".join(others))
    elif taken:
        logger.info("weights %s: %r is taken", path, taken)
    return sets[taken]


def _ranked(sets: Mapping[str, Mapping[str, Tensor]], own: Collection[str]) -> list[str]:
    """Names of the sets that may be the weights, best first."""
    known = [name for name in ("", *OWN, *AVERAGES) if name in sets]
    fitting = [name for name in (*known, *(n for n in sets if n not in known)) if fits(sets[name], own)]
    return fitting if len(fitting) == 1 or (fitting and fitting[0] in known) else known


def _state_dicts(
    content: Mapping[Any, Any], own: Collection[str], depth: int = DEEPEST
) -> dict[str, dict[str, Tensor]]:
    """Name -> state dict of each set of weights; "" for the checkpoint itself, where its values are the tensors."""
    named = {str(k): v.detach() for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    sets: dict[str, dict[str, Tensor]] = {}
    for key, value in content.items():
        known = key in OWN or key in AVERAGES or (key == "state" and "param_groups" not in content)
        if depth and isinstance(value, Mapping) and (known or not str(key).lower().startswith(ASIDE)):
            inner = _state_dicts(value, own, depth - 1)
            best = next(iter([*_ranked(inner, own), *inner]), None)
            if best is not None:
                sets[str(key)] = inner[best]
    # Tensors next to a set of weights belong to it, as a loss or a step does; alone they are the weights.
    if named and (not sets or any("." in name for name in named)):
        sets[""] = named
    return sets
