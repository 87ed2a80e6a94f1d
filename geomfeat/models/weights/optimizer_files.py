"""What trained a network, from a file: an optimizer's state, a checkpoint that holds one, or rates by pattern.

`.json` holds {parameter pattern: rate}. What `torch.save` wrote, read without pickled code, is the state_dict() of an
optimizer, or a checkpoint that holds one: of Lightning ("optimizer_states"), torchvision and timm ("optimizer"), or
under another of the usual names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.models.weights.file_formats import torch_content, why_unreadable
from geomfeat.models.weights.other_files import what_it_is
from geomfeat.storage.owned_files import as_path

HOLDERS = ("optimizer", "optimizer_state_dict", "optim", "optimizer_states")
REMEDY = "give what torch.save(optimizer.state_dict(), 'optimizer.pt') writes, or {pattern: rate} in a .json file"
SHOWN = 8  # names listed in a message


def read_optimizer(path: str | Path) -> Mapping[Any, Any]:
    """An optimizer's state dict ("param_groups", "state"), or {pattern: rate}, as a file holds it.

    Raises BadInput for a file that is missing, cannot be read, or holds no optimizer, or several.
    """
    path = as_path(path, "optimizer")
    if not path.is_file():
        kind = "it is a folder: name the file in it, often optimizer.pt" if path.is_dir() else "no such file"
        raise BadInput(f"optimizer {str(path)!r}: {kind}")
    return _rates(path) if path.suffix == ".json" else _state(path)


def _rates(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise BadInput(f"optimizer {str(path)!r} is not JSON ({cause}): write {{pattern: rate}}") from cause
    if not isinstance(content, dict) or not content or "param_groups" in content:
        kind = type(content).__name__ if content else f"empty {type(content).__name__}"
        raise BadInput(f"optimizer {str(path)!r} holds a JSON {kind}, not rates: write {{pattern: rate}}")
    return content


def _state(path: Path) -> Mapping[Any, Any]:
    try:
        content = torch_content(path)
    except Exception as cause:
        known = what_it_is(path).partition(":")[0]
        why = f"it is {known}" if known else f"{why_unreadable(path, cause)}; truncated, corrupt or of another kind"
        raise BadInput(f"cannot read optimizer {str(path)!r}: {why}; {REMEDY}") from cause
    found = _held(content)
    if not found:
        names = list(map(str, content)) if isinstance(content, Mapping) else []
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        there = f"only {', '.join(names[:SHOWN])}{more}"[:300] if names else f"a {type(content).__name__}"
        raise BadInput(f"optimizer {str(path)!r} holds no optimizer, {there}: {REMEDY}")
    if len(found) > 1:
        raise BadInput(
            f"optimizer {str(path)!r} holds several optimizers, {', '.join(found)}: save the one that trained this "
            "network, as torch.save(checkpoint[NAME], 'optimizer.pt')"
        )
    return next(iter(found.values()))


def _held(content: Any) -> dict[str, Mapping[Any, Any]]:
    """The states of optimizers in what a file holds, by where they are; those under a usual name alone, if any are."""
    if _is_state(content):
        return {"": content}
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, Any] = {}
    for name, value in content.items():
        parts = {f"{name}[{i}]": part for i, part in enumerate(value)} if isinstance(value, list | tuple) else {}
        found |= {where: part for where, part in ({str(name): value} | parts).items() if _is_state(part)}
    return {where: part for where, part in found.items() if where.partition("[")[0] in HOLDERS} or found


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and "param_groups" in value
