"""A row for every training of the families that are judged by outcomes, kept in a file each."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.comparison.sweeps.task import code_version
from geomfeat.comparison.validation.outcomes.measured import measured
from geomfeat.comparison.validation.outcomes.training import Conditions, OutcomeFamily
from geomfeat.errors import GeomfeatError
from geomfeat.storage.atomic import read_json
from geomfeat.storage.owned_files import MADE_BY, json_text, make_folder, replace_file

FORMAT = 1  # of the rows; increase it when families or what is measured of them change
FOLDER = "outcomes"


def outcome_rows(
    families: Sequence[OutcomeFamily], folder: Path, *, seeds: int, progress: bool = True
) -> list[dict[str, Any]]:
    """One row per training: family, kind, conditions (JSON), seed, version and what `measured` gives, or failed: why.

    Args:
        folder: rows are kept in `folder`/outcomes, and made again by another version of the code.
        seeds: how many initial weights for each of the conditions.
    """
    plan = [
        (family, conditions, seed) for family in families for conditions in family.conditions for seed in range(seeds)
    ]
    bar = tqdm(plan, desc="outcomes", disable=not progress)
    return [_row(family, conditions, seed, folder / FOLDER) for family, conditions, seed in bar]


def _row(family: OutcomeFamily, conditions: Conditions, seed: int, folder: Path) -> dict[str, Any]:
    version = f"{code_version()}.{FORMAT}"
    text = json.dumps({"family": family.name, **conditions, "seed": seed}, sort_keys=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    if path.is_file():
        with suppress(ValueError):  # truncated: trained again
            kept = read_json(path)
            if kept.get("version") == version and kept.pop("key", None) == text:
                return {name: _number(value) for name, value in kept.items() if name != MADE_BY}
    about = {
        "family": family.name, "kind": family.kind, "conditions": json.dumps(dict(conditions)), "seed": seed,
        "version": version,
    }  # fmt: skip
    with libraries_on_one_thread(), torch.random.fork_rng(devices=[]):
        try:
            found = {**about, **measured(family.train(conditions, seed), seed)}
        except GeomfeatError as error:
            found = {**about, "gap": math.nan, "failed": str(error)}
    make_folder(folder)
    content = json_text({"key": text, **{name: _plain(v) for name, v in found.items()}})
    replace_file(path, lambda draft: draft.write_text(content, encoding="utf-8"), own=True)
    return found


def _plain(value: Any) -> Any:
    """Infinite numbers and NaN as text, which JSON has no numbers for."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
