"""Figures for papers, drawn with matplotlib: SVG and PDF with text as text, the same bytes for the same studies.

Every function takes one study or several and returns a `matplotlib.figure.Figure`; nothing here touches pyplot, so no
window opens and no figure stays in memory. They show what the page shows, at the width of a printed page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomfeat.charts.paper_style import style
from geomfeat.errors import BadInput, near
from geomfeat.report.content.kernel_plane_data import kernel_marks
from geomfeat.report.content.map_data import PAIRS, embedding_parts, shown_matrix
from geomfeat.report.content.profile_data import profile_entries
from geomfeat.report.content.quantity_labels import GROUPS
from geomfeat.report.content.spectrum_data import shown_spectra
from geomfeat.report.content.study_view import View, views
from geomfeat.report.matplotlib import (
    kernel_plane as drawing_kernel,
    layers as drawing_layers,
    location as drawing_location,
)
from geomfeat.storage.owned_files import MARK, as_path, make_folder, replace_picture, require_own

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geomfeat.study import Study

# Bytes of a drawing for which dots stand in where they are fewer; dots an inch, and across; their colours.
LONG_DRAWING, SCREEN_DPI, ACROSS, COLOURS = 40_000, 110, 1600, 64
FORMATS = ("svg", "pdf", "png")


def richness_scale(studies: Study | Sequence[Study]) -> Figure:
    """Every model on one axis from lazy to rich, with its 90 % interval and its floor. BadInput if none is located."""
    return _drawn("richness_scale", views(studies))


def features_kernel_plane(studies: Study | Sequence[Study]) -> Figure:
    """Every model by features and kernel (decades): demand filled, what happened open, over the regimes.

    BadInput if no model has a kernel demand.
    """
    return _drawn("features_kernel_plane", views(studies))


def demand_movement_plane(studies: Study | Sequence[Study]) -> Figure:
    """Every layer by demand R and movement M (decades), with the regimes. BadInput if no model is located."""
    return _drawn("demand_movement_plane", views(studies))


def layer_profiles(studies: Study | Sequence[Study], group: str = "classes") -> Figure:
    """Small panels of one group of quantities over the layers, with standard errors.

    Args:
        group: "classes", "alignment", "dimension", "labels", "movement" or "other".

    Raises BadInput for an unknown group, or one that the studies hold no number of.
    """
    if group not in {g.key for g in GROUPS}:
        raise BadInput(f"group={group!r} is not a group of quantities; near: {near(group, [g.key for g in GROUPS])}")
    return _drawn(f"layer_profiles:{group}", views(studies))


def cka_matrices(studies: Study | Sequence[Study]) -> Figure:
    """Unbiased linear CKA between layers, within and between initial and trained network. BadInput without any."""
    return _drawn("cka_matrices", views(studies))


def spectra(studies: Study | Sequence[Study]) -> Figure:
    """Share of the variance by rank for up to four layers of every model. BadInput without spectra."""
    return _drawn("spectra", views(studies))


def embedding(studies: Study | Sequence[Study], layer: str | None = None) -> Figure:
    """UMAP of a layer before and after training, by class; of the first embedded layer if none is named."""
    several = views(studies)
    if layer is not None:
        return _drawn(f"embedding:{layer}", several)
    first = next((name for name in drawings(several) if name.startswith("embedding:")), "embedding:")
    return _drawn(first, several)


def save_figures(
    studies: Study | Sequence[Study], folder: str | Path, formats: Sequence[str] = ("svg", "pdf")
) -> list[Path]:
    """Write every figure that the studies have numbers for to `folder`; returns the paths.

    Raises BadInput for an unknown format or an empty list of studies; OutputExists for a file of such a name that
    geomfeat did not write, or that was edited since.
    """
    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise BadInput(f"formats: {unknown[0]!r} is not one of {', '.join(FORMATS)}")
    made = drawings(views(studies))
    folder = as_path(folder, "folder")
    stem = lambda name: "".join(c if c.isalnum() or c in "-_." else "_" for c in name.replace(":", "_"))  # noqa: E731
    paths = {name: [folder / f"{stem(name)}.{form}" for form in formats] for name in made}
    require_own(path for several in paths.values() for path in several)
    make_folder(folder)
    for name, make in made.items():
        figure = make()
        for path, form in zip(paths[name], formats, strict=True):
            replace_picture(path, as_bytes(figure, form))
    return [path for several in paths.values() for path in several]


def drawings(several: list[View]) -> dict[str, Callable[[], Figure]]:
    """Name -> function that draws, for every figure that these studies hold the numbers of."""
    made: dict[str, Callable[[], Figure]] = {}
    if any(v.location is not None for v in several):
        made["richness_scale"] = partial(_styled, drawing_location.richness_scale, several)
        if kernel_marks(several):
            made["features_kernel_plane"] = partial(_styled, drawing_kernel.features_kernel_plane, several)
        made["demand_movement_plane"] = partial(_styled, drawing_location.demand_movement_plane, several)
    chosen = profile_entries(several)
    for group in GROUPS:
        if chosen.get(group.key):
            made[f"layer_profiles:{group.key}"] = partial(
                _styled, drawing_layers.layer_profiles, several, chosen[group.key], group.key
            )
    if any(shown_matrix(v, a, b) is not None for v in several for a, b, _ in PAIRS):
        made["cka_matrices"] = partial(_styled, drawing_layers.cka_matrices, several)
    if any(shown_spectra(v) for v in several):
        made["spectra"] = partial(_styled, drawing_layers.spectra, several)
    for layer in dict.fromkeys(
        name for v in several for at in ("initial", "trained") for name, _ in v.arrays("umap", at)
    ):
        if any(embedding_parts(v, at, layer) is not None for v in several for at in ("initial", "trained")):
            made[f"embedding:{layer}"] = partial(_styled, drawing_layers.embedding, several, layer)
    return made


def _drawn(name: str, several: list[View]) -> Figure:
    made = drawings(several)
    if name not in made:
        raise BadInput(
            f"these studies hold no numbers for {name!r}; they can be drawn as: {', '.join(made) or 'nothing'}"
        )
    return made[name]()


def _styled(draw: Callable[..., Figure], *arguments: object) -> Figure:
    with style():
        return draw(*arguments)


def as_bytes(figure: Figure, form: str, dpi: float | None = None) -> bytes:
    """A figure as a file's content, without a date, so that equal figures are equal files; dpi: default the style's."""
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}, "png": {"Software": MARK}}
    buffer = io.BytesIO()
    with style():
        if form == "pdf":
            figure.savefig(buffer, format=form, metadata=dateless[form], dpi=dpi)
        else:
            _print(figure, form, buffer, dateless[form], dpi)
    return buffer.getvalue()


def _print(figure: Figure, form: str, buffer: io.BytesIO, metadata: dict[str, Any], dpi: float | None) -> None:
    """`figure.savefig`, which first draws all once more for the layout alone; this drawing makes its own."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas, own_dpi = figure.canvas, figure.dpi
    figure.dpi = mpl.rcParams["savefig.dpi"] if dpi is None else dpi  # in a drawing: of pictures within
    try:
        if form == "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
        else:
            FigureCanvasAgg(figure).print_png(buffer, metadata=metadata)
    finally:
        figure.dpi = own_dpi
        figure.set_canvas(canvas)


def data_uri(figure: Figure) -> str:
    """A figure as a data URI, shown by an <img> without a request: SVG, or PNG where many marks make that shorter."""
    drawn, dpi = as_bytes(figure, "svg"), min(SCREEN_DPI, ACROSS / figure.get_figwidth())
    if len(drawn) > LONG_DRAWING and len(dots := _few_colours(as_bytes(figure, "png", dpi))) < len(drawn):
        return "data:image/png;base64," + base64.b64encode(dots).decode()
    return "data:image/svg+xml;base64," + base64.b64encode(drawn).decode()


def _few_colours(dots: bytes) -> bytes:
    """A picture of dots with a short palette, which takes a quarter of the bytes and looks the same."""
    from PIL import Image  # comes with matplotlib

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(dots)) as picture:
        few = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
