"""What a study gives: the tidy table, the location and the arrays behind the pictures; saved to a folder and back.

On disk four files: `results.parquet`, `location.json`, `arrays.npz`, `settings.json` (see `geomfeat.study.saved`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from geomfeat.diagnostics.location import Location
from geomfeat.study.saved import SavedFolder, load_arrays, save_arrays

TABLE, LOCATION, ARRAYS, SETTINGS = "results.parquet", "location.json", "arrays.npz", "settings.json"
FILES = (TABLE, LOCATION, ARRAYS, SETTINGS)
SAVED = SavedFolder(
    "study", "analyze", FILES, SETTINGS,
    "Run the same geomfeat analyze command again, it goes on where it was interrupted",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Study:
    """The measured geometry of one model.

    Attributes:
        name: of the model; also the table's `run`.
        table: one row per number (columns: see `geomfeat.study.table`). A failure is a row with ok False and a note.
        location: where the model sits between lazy and rich; None where it could not be told (the table says why).
        arrays: "cka/<at>/<at>" (L, L) unbiased linear CKA between layers, "spectrum/<at>/<layer>" eigenvalues of the
            covariance (descending), "umap/<at>/<layer>" (n, 2), "umap/labels" (n,); <at> is "initial" or "trained".
        settings: everything that made it; `settings["layers"]` names the rows of the matrices.
    """

    name: str
    table: pd.DataFrame
    location: Location | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the study to `folder`, making it if needed, and replacing a study that is there. Returns the folder."""
        folder = Path(folder)
        location = "null" if self.location is None else self.location.to_json()
        writers = {
            TABLE: lambda path: self.table.to_parquet(path, index=False),
            LOCATION: lambda path: path.write_text(location, encoding="utf-8"),
            ARRAYS: lambda path: save_arrays(path, self.arrays),
        }
        SAVED.write(folder, writers, {"name": self.name, **self.settings})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The study saved in `folder`; BadInput that names the file when one is missing, truncated or corrupt."""
        folder = Path(folder)
        settings = SAVED.open(folder)
        table = SAVED.read(folder / TABLE, pd.read_parquet)
        text = SAVED.read(folder / LOCATION, lambda path: path.read_text(encoding="utf-8"))
        location = SAVED.read(folder / LOCATION, lambda _: None if text.strip() == "null" else Location.from_json(text))
        arrays = SAVED.read(folder / ARRAYS, load_arrays)
        return cls(str(settings.pop("name", folder.name)), table, location, arrays, settings)
