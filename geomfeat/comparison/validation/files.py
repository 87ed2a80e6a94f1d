"""A validation as parquet tables; and the one shipped here."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pandas as pd

from geomfeat.comparison.validation.campaign import Validation
from geomfeat.comparison.validation.outcomes.judgement import DERIVED
from geomfeat.errors import BadInput
from geomfeat.storage.atomic import DAMAGED, read_parquet, require_columns, write_parquet
from geomfeat.storage.npz_files import first_line
from geomfeat.storage.owned_files import as_path, make_folder, replace_file, require_own

# Each table with the columns it must have where it is not empty; see `geomfeat.storage.atomic.read_parquet`.
TABLES: dict[str, dict[str, str]] = {
    "runs": {"family": "text", "gamma": "number", "seed": "number", "outcome": "text"},
    "families": {"family": "text", "breaks": "text", "runs": "number", "located": "number", "slope": "number"},
    "laws": {"law": "text", "slope": "number", "theory": "number"}, "onsets": {"family": "text"},
    "outcomes": {"family": "text", "kind": "text", "conditions": "text", "seed": "number", "gap": "number"},
}  # fmt: skip
NESTED = ("layers", "weights", "kernel")  # columns of runs that hold {layer: [R, M]}
SHIPPED = "validation"  # a folder in the package's data


def save_validation(found: Validation, folder: str | Path) -> list[Path]:
    """Write the tables, and those of the judgement by outcomes, as `folder`/<name>.parquet; returns the paths.

    Nested numbers are written as JSON. A judgement is not read again by `load_validation`: it follows from the rows.

    Raises OutputExists, before anything is written, for a file of such a name that geomfeat did not write.
    """
    folder = make_folder(as_path(folder, "folder"))
    tables: dict[str, pd.DataFrame] = {name: getattr(found, name).copy() for name in TABLES}
    if found.by_outcome is not None:
        tables |= {name: getattr(found.by_outcome, name) for name in DERIVED}
    paths = [folder / f"{name}.parquet" for name in tables]
    require_own(paths)
    for (name, table), path in zip(tables.items(), paths, strict=True):
        for column in NESTED if name == "runs" else ():
            if column in table:
                table[column] = [json.dumps(v) if isinstance(v, dict) else None for v in table[column]]
        replace_file(path, lambda draft, table=table: write_parquet(draft, table))
    return paths


def load_validation(folder: str | Path | None = None) -> Validation:
    """The validation in a folder of `geomfeat validate`; None: the campaign that is shipped with the package.

    Raises BadInput for a folder without the tables, and for one that is damaged or holds something else.

    >>> len(load_validation().families) >= 30
    True
    """
    if folder is None:
        with as_file(files("geomfeat.data") / SHIPPED) as shipped:
            return load_validation(shipped)
    folder = as_path(folder, "folder")
    missing = [f"{name}.parquet" for name in TABLES if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise BadInput(f"folder={str(folder)!r} lacks {', '.join(missing)}: name a folder that `validate` has written")
    tables = {}
    for name, columns in TABLES.items():
        path = folder / f"{name}.parquet"
        try:
            tables[name] = read_parquet(path, {})
            if len(tables[name]):
                require_columns(tables[name], columns)
            if name == "runs":
                for column in NESTED:
                    if column in tables[name]:
                        tables[name][column] = [_nested(v) for v in tables[name][column]]
        except DAMAGED as cause:
            raise BadInput(
                f"{path} is truncated or corrupt, or not a table of a validation ({first_line(cause)}): run geomfeat "
                "validate again"
            ) from cause
    return Validation(**tables)


def _nested(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else None
