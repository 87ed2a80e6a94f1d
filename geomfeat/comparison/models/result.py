"""What a comparison gives, saved to a folder and back.

On disk: `similarity.parquet`, `layers.parquet`, `matches.parquet`, `profiles.parquet`, `differences.parquet`,
`ranking.parquet` and `courses.parquet` for reading elsewhere, `comparison.npz` with the matrices and maps, and
`comparison.json`, the settings (see `geomfeat.storage.atomic`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from geomfeat.charts import Heat
from geomfeat.comparison.models.area_geometry import COURSE_COLUMNS
from geomfeat.display import PlottableResult, matrix_map
from geomfeat.storage.atomic import SavedFolder, read_parquet, write_parquet
from geomfeat.storage.npz_files import read_arrays, write_arrays
from geomfeat.storage.owned_files import as_path

# Each table with the columns it must have, and their kinds; see `geomfeat.storage.atomic.read_parquet`.
TABLES: dict[str, dict[str, str]] = {
    "layers": {"model": "text", "layer": "text", "depth": "number", "kind": "text", "n": "number", "d": "number"},
    "matches": {"model": "text", "layer": "text", "other": "text", "match": "text", "similarity": "number"},
    "profiles": {"model": "text", "layer": "text", "depth": "number", "measure": "text", "quantity": "text",
                 "value": "number", "stderr": "number", "ok": "flag", "note": "text"},
    "differences": {"model": "text", "layer": "text", "other": "text", "log_difference": "number"},
    "ranking": {"brain": "text", "rank": "number", "model": "text", "layer": "text", "similarity": "number"},
    "courses": {"recording": "text", "area": "text", "model": "text", "layer": "text", "time": "number",
                "similarity": "number", "stderr": "number"},
}  # fmt: skip
ARRAYS = (
    "similarity", "stderr", "model_similarity", "linkage", "order", "layer_map", "model_map", "map_shares", "umap",
    "rdms",
)  # fmt: skip
PAIRS, MATRICES, SETTINGS = "similarity.parquet", "comparison.npz", "comparison.json"
FILES = (PAIRS, *(f"{name}.parquet" for name in TABLES), MATRICES, SETTINGS)
SAVED = SavedFolder("comparison", "compare", FILES, SETTINGS, "Run geomfeat compare again")


@dataclass(frozen=True, eq=False)
class ModelComparison(PlottableResult):
    """M models, of L layers together, on the same n samples.

    Attributes:
        names: of the models, in the order given; brains last.
        layers: model, layer, depth (0 first to 1 last; 0.5 where alone; NaN for areas of recordings), kind, n, d, note:
            one row per layer, in the order of the matrices.
        similarity, stderr: (L, L) between all layers, and jackknife standard errors over samples; NaN where undefined.
        model_similarity: (M, M), see `matching.model_similarity`.
        matches: model, layer, depth, other, match, match_depth, similarity, stderr: for every layer and other model the
            most similar layer there.
        linkage, order: average linkage of the layers that have similarities, by the angle arccos(similarity), in
            scipy's format, and the order (L,) of all layers as its leaves.
        layer_map, model_map: (L, 2) and (M, 2) classical scaling of the angles. map_shares: (2,) what the planes hold.
        umap: (L, 2), or (0, 2) if it was not requested or there are too few layers.
        profiles: one row per number: model, layer, depth, measure, quantity, value, stderr, ok, note, ...
        differences: of capacity between the last layers of each two models, with errors of paired draws; of recordings
            with matched trials, at equal numbers of trials and units (the note says which).
        ranking: one row per brain (or area of a recording) and layer, best first, with the noise ceiling; else empty.
        rdms: (L, n (n - 1) / 2) correlation distances between the rows of each layer, or the matrix that was given, if
            rows are condition means or there are brains; NaN for a layer without; else (0, 0). `settings["conditions"]`
            names the rows.
        courses: of recordings over time: recording, area, model, layer, time (s), similarity, stderr, ceiling_lower,
            ceiling_upper: how similar the geometry of a layer is to that of an area in each time bin.
        settings: everything that made it; `settings["notes"]` qualify it, in sentences.

    `to_frame()`: `pairs()`: one row for each pair of layers.
    """

    names: tuple[str, ...]
    layers: pd.DataFrame
    similarity: np.ndarray
    stderr: np.ndarray
    model_similarity: np.ndarray
    matches: pd.DataFrame
    linkage: np.ndarray
    order: np.ndarray
    layer_map: np.ndarray
    model_map: np.ndarray
    map_shares: np.ndarray
    umap: np.ndarray
    profiles: pd.DataFrame
    differences: pd.DataFrame
    ranking: pd.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    rdms: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    courses: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=list(COURSE_COLUMNS)))

    @property
    def kinds(self) -> dict[str, str]:
        """Model -> "network", "recording", "RDMs" or "brain"."""
        return dict(zip(self.layers["model"], self.layers["kind"], strict=True))

    def pairs(self) -> pd.DataFrame:
        """The similarity matrix as a table: each pair of different layers once."""
        first, second = np.triu_indices(len(self.similarity), 1)
        a, b = (self.layers[["model", "layer", "depth"]].iloc[i].reset_index(drop=True) for i in (first, second))
        both = pd.concat([a.add_suffix("_a"), b.add_suffix("_b")], axis=1)
        return both.assign(similarity=self.similarity[first, second], stderr=self.stderr[first, second])

    def save(self, folder: str | Path) -> Path:
        """Write the comparison to `folder`, making it if needed and replacing one that is there. Returns the folder.

        Raises OutputExists for a file of such a name that geomfeat did not write, WriteFailed for a full disk.
        """
        folder = as_path(folder, "folder")
        tables = {PAIRS: self.pairs(), **{f"{name}.parquet": getattr(self, name) for name in TABLES}}
        writers: dict[str, Callable[[Path], Any]] = {
            name: partial(write_parquet, table=table) for name, table in tables.items()
        }
        writers[MATRICES] = lambda path: write_arrays(path, {name: getattr(self, name) for name in ARRAYS})
        SAVED.write(folder, writers, {"names": list(self.names), **self.settings})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The comparison saved in `folder`; BadInput that names the file when one is missing, truncated or corrupt."""
        folder = as_path(folder, "folder")
        settings = SAVED.open(folder)
        tables = {
            name: SAVED.read(folder / f"{name}.parquet", partial(read_parquet, columns=columns))
            for name, columns in TABLES.items()
        }
        arrays = SAVED.read(folder / MATRICES, partial(_matrices, n_layers=len(tables["layers"])))
        names = tuple(settings.pop("names", dict.fromkeys(tables["layers"]["model"])))
        return cls(names=names, settings=settings, **tables, **arrays)

    def to_html(self, path: str | Path) -> Path:
        """Write the self-contained page of this comparison to `path`; returns the path."""
        from geomfeat.report.pages.comparison import write_comparison  # brings plotly

        return write_comparison(self, path)

    def to_frame(self) -> pd.DataFrame:
        """Each pair of different layers once: model, layer and depth of both, similarity, stderr."""
        return self.pairs()

    def _chart(self) -> Heat:
        return matrix_map("similarity of the models", self.names, self.names, self.model_similarity, "similarity")

    def __str__(self) -> str:
        from geomfeat.report.pages.comparison import answers

        return " ".join([f"{len(self.names)} models, {len(self.layers)} layers.", *answers(self)])


def _matrices(path: Path, n_layers: int) -> dict[str, np.ndarray]:
    """The arrays of a comparison of so many layers; ValueError where one is missing or of another shape."""
    found = read_arrays(path, ARRAYS)
    shapes = {"similarity": (n_layers, n_layers), "stderr": (n_layers, n_layers), "order": (n_layers,),
              "layer_map": (n_layers, 2)}  # fmt: skip
    for name in ARRAYS:
        if name not in found or found[name].shape != shapes.get(name, found[name].shape):
            raise ValueError(f"{name} is missing, or does not fit the {n_layers} layers of layers.parquet")
        if found[name].dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {found[name].dtype}, and numbers belong there")
    return found
