"""One self-contained HTML page: the answer first, then every number behind it.

Nothing is fetched: Plotly's JavaScript is embedded once, and a Content-Security-Policy in the page forbids the browser
to load anything else. Without JavaScript the page still holds every number as a table, and still pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomfeat._version import __version__
from geomfeat.charts import theme as look
from geomfeat.errors import BadInput
from geomfeat.report.content import time_sentences as over_time
from geomfeat.report.content.components import Figure, Panel, clean
from geomfeat.report.content.sentences import comparison, left_out, troubles
from geomfeat.report.content.study_sections import cards, glossary, settings_table, strips
from geomfeat.report.content.study_view import View, views
from geomfeat.report.plotly.kernel_plane import features_kernel_plane
from geomfeat.report.plotly.location import demand_movement_plane, richness_scale
from geomfeat.report.plotly.maps import cka_matrices, embeddings
from geomfeat.report.plotly.probes import probes_and_ladder
from geomfeat.report.plotly.profiles import profile_figures, whole_network
from geomfeat.report.plotly.spectra import spectra
from geomfeat.storage.owned_files import as_path, make_folder, replace_page, require_own

if TYPE_CHECKING:
    from geomfeat.study import Study


STILL = ("richness_scale", "features_kernel_plane", "demand_movement_plane")


@dataclass(frozen=True)
class Section:
    """A part of the page: an anchor, a title, figures, and what to say where there is nothing to draw."""

    key: str
    title: str
    figures: list[Figure]
    absent: str = ""


def write_page(studies: Study | Sequence[Study], path: str | Path, *, title: str | None = None) -> Path:
    """Write the page of one study, or of several side by side, to `path`; returns the path.

    The same studies give the same bytes. The file holds about 4.8 MB of Plotly's JavaScript besides the numbers.
    Studies of recordings have a page of their own. Raises BadInput when there are no studies, two of one name, or some
    of recordings and some of networks; OutputExists for a file that geomfeat did not write,
    or a page that was edited since.
    """
    from geomfeat.report.pages.recordings import of_recordings, write_recordings  # uses this module

    several = views(studies)
    if of_recordings([view.study for view in several]):
        return write_recordings(several, path, title)
    path = page_path(path)
    return save_page(render(several, title), path)


def page_path(path: str | Path, name: str = "report.html") -> Path:
    """The path of a page that may be written: BadInput for a folder; OutputExists for a file of the user's."""
    path = as_path(path)
    if path.is_dir():
        raise BadInput(f"path={str(path)!r} is a folder: name the file, e.g. {str(path / name)!r}")
    require_own([path])
    return path


def save_page(text: str, path: Path) -> Path:
    """Write a page whole, with its seal; returns its path."""
    make_folder(path.parent)
    replace_page(path, text)
    return path


def render(several: list[View], title: str | None = None) -> str:
    """The page as text."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    parts = sections(several)
    figures = [figure for part in parts for figure in part.figures]
    specs = {id(panel): spec_json(panel) for figure in figures for panel in figure.panels}
    plotly = get_plotlyjs()
    templates = environment()
    names, settings = settings_table(several)
    data_size = sum(map(len, specs.values()))
    return templates.get_template("page.html.j2").render(
        title=title or default_title(several),
        views=several,
        comparison=comparison(several),
        cards=cards(several),
        sections=parts,
        strips=strips(several),
        whole=whole_network(several),
        courses=over_time.sentences(several),
        course_numbers=over_time.numbers(several),
        rests_on=over_time.RESTS_ON,
        failures=troubles(several, failed=True),
        remarks=troubles(several, failed=False),
        left_out=left_out(several),
        setting_names=names,
        settings=settings,
        glossary=glossary(several),
        tints=look.REGIME_TINTS,
        symbols={view.index: symbol_path(view.index) for view in several},
        spec=lambda panel: Markup(specs[id(panel)]),
        static=still_pictures(several),
        plotly=Markup(plotly),
        version=__version__,
        size=f"{(len(plotly) + data_size) / 1e6:.1f} MB, of which {len(plotly) / 1e6:.1f} MB draw the plots",
    )


def sections(several: list[View]) -> list[Section]:
    """The sections that draw, in the order of the page."""
    listed = {figure.key: figure for figure in profile_figures(several)}
    movement = [listed.pop("movement")] if "movement" in listed else []
    found = lambda *figures: [f for f in figures if f is not None]  # noqa: E731
    timed = [Section("time", "Over time", [])] if over_time.judged(several) else []
    no_kernel = "No model on this page has a kernel demand, so this plot is empty."
    nowhere = "No model on this page could be located, so this plot is empty."
    return [
        Section("scale", "From lazy to rich", found(richness_scale(several), probes_and_ladder(several)), nowhere),
        Section("kernel", "Features and kernel", found(features_kernel_plane(several)), no_kernel),
        Section("plane", "Demand and movement, layer by layer", found(demand_movement_plane(several)), nowhere),
        Section("strip", "Regime of every layer", [], nowhere),
        *timed,
        Section("profiles", "Profiles over layers", list(listed.values()), "No measure of layers was run."),
        Section(
            "cka", "Similarity between layers", found(cka_matrices(several)), "These studies have no CKA matrices."
        ),
        Section("spectra", "Spectra", found(spectra(several)), "These studies have no spectra."),
        Section("umap", "Before and after training", embeddings(several), "No layer was chosen for UMAP."),
        Section(
            "movement", "What moved during training", movement, "No diagnostic compared initial and trained weights."
        ),
    ]


def default_title(several: Sequence[View]) -> str:
    """A title that names the model, or counts them."""
    if len(several) == 1:
        return f"{several[0].name}: between lazy and rich"
    return f"{len(several)} networks between lazy and rich"


def spec_json(panel: Panel) -> str:
    """A panel as JSON that can stand inside a script element: nothing in it can close the element."""
    text = json.dumps(clean({"data": panel.data, "layout": panel.layout}), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def still_pictures(several: list[View]) -> dict[str, str]:
    """Drawing name -> data URI of a still picture, for readers without JavaScript.

    Only of the location: drawing all figures a second time would take longer than the rest of the page tenfold, and
    every number of theirs is in a table.
    """
    if all(view.location is None for view in several):
        return {}
    from geomfeat.report.figures import drawings, svg_data_uri

    made = drawings(several)
    return {name: svg_data_uri(made[name]()) for name in STILL if name in made}


def symbol_path(index: int) -> str:
    """The mark of a model as an SVG path in a box of 16 by 16, for the legend."""
    paths = {
        "circle": "M8 2a6 6 0 1 0 .01 0Z",
        "square": "M3 3h10v10h-10Z",
        "diamond": "M8 1.5 14.5 8 8 14.5 1.5 8Z",
        "triangle-up": "M8 2 14.5 13.5h-13Z",
        "x": "M4 2 8 6 12 2 14 4 10 8 14 12 12 14 8 10 4 14 2 12 6 8 2 4Z",
        "star": "M8 1 10 6 15 6.2 11 9.4 12.4 14.5 8 11.6 3.6 14.5 5 9.4 1 6.2 6 6Z",
        "hexagon": "M8 1.5 13.8 4.8V11.2L8 14.5 2.2 11.2V4.8Z",
    }
    return paths[look.symbol(index)]


def environment() -> Any:
    """The templates of the pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("geomfeat.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
