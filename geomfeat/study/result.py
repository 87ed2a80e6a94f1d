"""What a study gives: the tidy table, the location and the arrays behind the pictures; saved to a folder and back.

On disk four files: `results.parquet`, `location.json`, `arrays.npz`, `settings.json` (see `geomfeat.storage.atomic`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from geomfeat.charts import Heat, Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.location.result import Location
from geomfeat.storage.atomic import SavedFolder, read_json, read_parquet, write_parquet
from geomfeat.storage.npz_files import read_arrays, write_arrays
from geomfeat.storage.owned_files import as_path, json_text
from geomfeat.study.table import COLUMNS
from geomfeat.study.time_courses.course import TimeCourse
from geomfeat.study.time_courses.study_rows import OVER_TIME, course_in

TABLE, LOCATION, ARRAYS, SETTINGS = "results.parquet", "location.json", "arrays.npz", "settings.json"
FILES = (TABLE, LOCATION, ARRAYS, SETTINGS)
SAVED = SavedFolder(
    "study", "analyze", FILES, SETTINGS,
    "Run the same geomfeat analyze command again to resume",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Study(PlottableResult):
    """The measured geometry of one model.

    Attributes:
        name: of the model; also the table's `run`.
        table: one row per number (columns: see `geomfeat.study.table`). A failure is a row with ok False and a note.
        location: where the model sits between lazy and rich; None if it could not be computed (the table says why).
        arrays: "cka/<at>/<at>" (L, L) unbiased linear CKA between layers, "spectrum/<at>/<layer>" eigenvalues of the
            covariance (descending), "umap/<at>/<layer>" (n, 2), "umap/labels" (n,); <at> is "initial" or "trained".
        settings: everything that made it; `settings["layers"]` names the rows of the matrices.

    `to_frame()`: `table`. The picture is that of the location; of a recording, that of the capacity of its areas.
    """

    name: str
    table: pd.DataFrame
    location: Location | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the study to `folder`, making it if needed, and replacing a study that is there. Returns the folder.

        Raises OutputExists for a file of such a name that geomfeat did not write, WriteFailed for a full disk.
        """
        folder = as_path(folder, "folder")
        # Without a location the object holds the mark alone.
        location = json_text({} if self.location is None else json.loads(self.location.to_json()), indent=2)
        writers = {
            TABLE: lambda path: write_parquet(path, self.table),
            LOCATION: lambda path: path.write_text(location, encoding="utf-8"),
            ARRAYS: lambda path: write_arrays(path, self.arrays),
        }
        SAVED.write(folder, writers, {"name": self.name, **self.settings})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The study saved in `folder`; BadInput that names the file when one is missing, truncated or corrupt."""
        folder = as_path(folder, "folder")
        settings = SAVED.open(folder)
        table = SAVED.read(folder / TABLE, partial(read_parquet, columns=COLUMNS))
        location = SAVED.read(folder / LOCATION, _location)
        arrays = SAVED.read(folder / ARRAYS, _arrays)
        return cls(str(settings.pop("name", folder.name)), table, location, arrays, settings)

    def to_html(self, path: str | Path) -> Path:
        """Write the self-contained page of this study to `path`; returns the path. Of several: `compare_page`."""
        from geomfeat.report.pages import write_page  # brings plotly

        return write_page([self], path)

    def to_frame(self) -> pd.DataFrame:
        """The table: one row per number."""
        return self.table.copy()

    @property
    def course(self) -> TimeCourse | None:
        """The rows of a recording's time bins as a `TimeCourse` (without what paired errors need), or None."""
        return course_in(self.table, self.name)

    @property
    def is_recording(self) -> bool:
        """Whether it is of a recording (`analyze_recording`), which has areas in place of layers and no location."""
        return "recording" in self.settings

    def _chart(self) -> Plot | Heat:
        if self.is_recording:
            return self._areas_chart()
        if self.location is None:
            raise BadInput(f"{self.name!r} was not located, so there is nothing to draw: see .table, or write the page")
        return self.location._chart()

    def _areas_chart(self) -> Plot:
        """Capacity of every area, or the first quantity that there is."""
        table: Any = self.table
        rows = table[table["ok"] & (table["layer_b"] == "") & (table["at"] != OVER_TIME)]
        if not len(rows):
            raise BadInput(f"{self.name!r} holds no number of an area that can be drawn: see .table")
        capacity = rows[(rows["measure"] == "capacity") & (rows["quantity"] == "capacity")]
        rows = capacity if len(capacity) else rows[rows["quantity"] == rows["quantity"].iloc[0]]
        quantity = str(rows["quantity"].iloc[0]).replace("_", " ")
        return line_chart(self.name, "area", quantity, range(len(rows)), rows["value"], rows["stderr"],
                          names=rows["layer"].tolist())  # fmt: skip

    def __str__(self) -> str:
        failed = self.table["ok"].tolist().count(False)
        text = f"{len(self.table)} numbers of {self.table['measure'].nunique()} measures, {failed} failed"
        if self.is_recording:
            facts = self.settings["recording"]
            areas = ", ".join(f"{area} ({count})" for area, count in facts["units_by_area"].items())
            return f"{self.name}: {text}; recording of {facts['trials']} trials, units by area: {areas}"
        return f"{self.name}: {text}; {self.location or 'not located'}"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a study; ValueError for one that holds no numbers, or has other axes than its name says."""
    found = read_arrays(path)
    axes = {"cka": 2, "spectrum": 1, "umap": 2}
    for name, array in found.items():
        wanted = 1 if name == "umap/labels" else axes.get(name.partition("/")[0], array.ndim)
        if array.dtype.kind not in "biuf" or array.ndim != wanted:
            raise ValueError(f"{name} holds {array.dtype} of shape {array.shape}, not numbers on {wanted} axes")
    return found


def _location(path: Path) -> Location | None:
    place = read_json(path)
    return Location.from_json(json.dumps(place)) if place else None
