"""A validation as files: four parquet tables and the families whose data were missing; and the one shipped here."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pandas as pd

from geomfeat.comparison.validation import Validation
from geomfeat.errors import BadInput
from geomfeat.study.saved import replace_file

TABLES = ("runs", "families", "laws", "onsets")
NESTED = ("layers", "weights", "kernel")  # of runs: {layer: [R, M]}
SHIPPED = "validation"  # a folder in the package's data


def save_validation(found: Validation, folder: str | Path) -> list[Path]:
    """Write runs, families, laws and onsets as `folder`/<name>.parquet; returns the paths. Nested numbers as JSON."""
    folder, paths = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        table: pd.DataFrame = getattr(found, name).copy()
        for column in NESTED if name == "runs" else ():
            if column in table:
                table[column] = [json.dumps(v) if isinstance(v, dict) else None for v in table[column]]
        paths.append(folder / f"{name}.parquet")
        replace_file(paths[-1], lambda draft, table=table: table.to_parquet(draft, index=False))
    return paths


def load_validation(folder: str | Path | None = None) -> Validation:
    """The validation in a folder of `geomfeat validate`; None: the campaign that is shipped with the package.

    Raises BadInput for a folder without the four tables.

    >>> len(load_validation().families) >= 30
    True
    """
    if folder is None:
        with as_file(files("geomfeat.data") / SHIPPED) as shipped:
            return load_validation(shipped)
    missing = [f"{name}.parquet" for name in TABLES if not (Path(folder) / f"{name}.parquet").is_file()]
    if missing:
        raise BadInput(f"folder={str(folder)!r} lacks {', '.join(missing)}: name a folder that `validate` has written")
    tables = {name: pd.read_parquet(Path(folder) / f"{name}.parquet") for name in TABLES}
    runs = tables["runs"]
    for column in NESTED:
        if column in runs:
            runs[column] = [_nested(v) for v in runs[column]]
    return Validation(runs, tables["families"], tables["laws"], tables["onsets"])


def _nested(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else None
