"""Output folders and files: one folder holds the results of one request, and nothing is overwritten unasked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geomfeat.errors import BadInput, GeomfeatError, OutputExists

PAGE, PARTS = "report.html", "parts"


def is_finished(out: Path, request: Mapping[str, Any], force: bool) -> bool:
    """Whether `out` holds the complete results of this request; False with `force`, which computes them again.

    Raises OutputExists if it holds results of another request, without `force`; BadInput if `out` is a file.
    """
    from geomfeat.storage.atomic import read_json
    from geomfeat.study.result import FILES, SETTINGS

    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {str(out)!r} is a file: name a folder")
    if force:
        return False
    if not (out / SETTINGS).is_file():
        stray = [name for name in FILES if (out / name).exists()]
        if stray and not (out / PARTS).is_dir():
            raise OutputExists(
                f"--out {str(out)!r} holds {stray[0]} without settings.json, so its origin is unknown: "
                "choose another folder, or --force to replace it"
            )
        return False
    try:
        there = read_json(out / SETTINGS).get("request")
    except (ValueError, OSError) as cause:
        raise OutputExists(
            f"{out / SETTINGS} cannot be read ({cause}): --force replaces the folder's results"
        ) from cause
    if not isinstance(there, dict):
        raise OutputExists(
            f"--out {str(out)!r} holds results made by another program or notebook: "
            "choose another folder, or --force to replace them"
        )
    found = first_difference(there, request)
    if found:
        name, old, new = found
        raise OutputExists(
            f"--out {str(out)!r} holds results with other settings, first {name}: {old} there, {new} now. "
            "Choose another folder, use those settings to resume, or --force to replace them"
        )
    return all((out / name).is_file() for name in FILES)


def require_replaceable(out: Path) -> None:
    """OutputExists where `out` holds a file with the name of a result that geomfeat did not write."""
    from geomfeat.storage.owned_files import require_own
    from geomfeat.study.result import SAVED

    SAVED.require_replaceable(out)
    require_own([out / PAGE])


def require_file(out: Path | None, *endings: str) -> None:
    """BadInput for an --out of another ending; OutputExists for a file that geomfeat did not write."""
    from geomfeat.storage.owned_files import require_own

    if out is not None and out.suffix not in endings:
        raise BadInput(f"--out {str(out)!r}: name a file that ends in {' or '.join(endings)}")
    require_own([] if out is None else [out])


@contextmanager
def replacing(out: Path, force: bool) -> Iterator[None]:
    """With `force`, the work inside starts without the finished parts of `out`, and its results count as unfinished.

    A bad input restores the old parts and settings; after an interruption, the work resumes from the new parts.
    """
    from geomfeat.study.part_cache import remove_parts, require_parts
    from geomfeat.study.result import SETTINGS

    if not force:
        yield
        return
    parts, settings = out / PARTS, out / SETTINGS
    aside = {path: path.with_name(f".{path.name}.replaced") for path in (parts, settings)}
    for folder in (parts, aside[parts]):  # before anything is moved: a file of the user in them must not be deleted
        require_parts(folder)
    remove_parts(aside[parts])
    aside[settings].unlink(missing_ok=True)
    moved = {path: to for path, to in aside.items() if path.exists()}
    for path, to in moved.items():
        path.rename(to)
    try:
        yield
    except GeomfeatError:
        for path, to in moved.items():
            if path == parts:
                remove_parts(path)
            to.replace(path)
        raise
    finally:
        remove_parts(aside[parts])
        aside[settings].unlink(missing_ok=True)


def first_difference(there: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(name, old, new) of the first setting that differs, as JSON; None when all are equal.

    >>> first_difference({"seed": 0, "n": 5}, {"seed": 1, "n": 5})
    ('seed', '0', '1')
    """
    text = lambda value: json.dumps(value, sort_keys=True, default=str)  # noqa: E731
    for name in dict.fromkeys([*now, *there]):
        old, new = text(there.get(name)), text(now.get(name))
        if old != new:
            return name, _short(old), _short(new)
    return None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def numbered_checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> weights file, or folder of save_pretrained, of a folder of checkpoints: the last number in a name is its
    step. Of a run of the transformers Trainer, the checkpoint-N in it alone.

    Raises BadInput for a folder without such files, a half-written checkpoint-N, a name without a number, or a step
    that comes twice.
    """
    from geomfeat.models.sources.saved_folders import ADAPTER_SAFE, checkpoint_folders, path_of
    from geomfeat.models.weights.file_formats import IN_FOLDER, SUFFIXES

    folder = path_of(folder, "--checkpoints")
    if not folder.is_dir():
        raise BadInput(f"--checkpoints {str(folder)!r} is not a folder: name a folder of weights files")
    trainer = checkpoint_folders(folder)
    for path in trainer:
        if not any((path / name).is_file() for name in (*IN_FOLDER, ADAPTER_SAFE)):
            raise BadInput(
                f"--checkpoints: {path.name} in {str(folder)!r} holds no weights, it is half-written: copy it again, "
                "or move it away"
            )
    if trainer:
        return {int(path.name.rpartition("-")[2]): path for path in trainer}
    saved = lambda p: p.is_dir() and any((p / name).is_file() for name in IN_FOLDER)  # noqa: E731
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES or saved(p))
    if not files:
        raise BadInput(f"--checkpoints {str(folder)!r} holds no .safetensors (or {', '.join(SUFFIXES[1:])}) files")
    found: dict[int, Path] = {}
    for path in files:
        numbers = re.findall(r"\d+", path.name if path.is_dir() else path.stem)
        if not numbers:
            raise BadInput(
                f"--checkpoints: {path.name!r} has no step number in its name: rename it, e.g. step_1000.safetensors"
            )
        step = int(numbers[-1])
        if step in found:
            raise BadInput(f"--checkpoints: {found[step].name!r} and {path.name!r} both have step {step}: rename one")
        found[step] = path
    return dict(sorted(found.items()))
