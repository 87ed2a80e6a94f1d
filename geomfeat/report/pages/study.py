"""One self-contained HTML page: the answer first, then every number behind it.

Nothing is fetched: Plotly's JavaScript is embedded once, compressed, and a Content-Security-Policy in the page forbids
the browser to load anything else. Without JavaScript the page still holds every number as a table, and still pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geomfeat.charts import theme as look
from geomfeat.report.content import time_sentences as over_time
from geomfeat.report.content.components import Figure, Key
from geomfeat.report.content.sentences import comparison, left_out, troubles
from geomfeat.report.content.study_sections import answer_table, cards, glossary, settings_table, strips
from geomfeat.report.content.study_view import View, views
from geomfeat.report.content.symbol_paths import symbol_path
from geomfeat.report.pages.frame import page_path, page_text, save_page
from geomfeat.report.plotly.kernel_plane import features_kernel_plane
from geomfeat.report.plotly.location import demand_movement_plane, richness_scale
from geomfeat.report.plotly.maps import cka_matrices, embeddings
from geomfeat.report.plotly.probes import probes_and_ladder
from geomfeat.report.plotly.profiles import profile_figures, whole_network
from geomfeat.report.plotly.spectra import spectra

if TYPE_CHECKING:
    from geomfeat.study import Study


STILL = ("richness_scale", "features_kernel_plane", "demand_movement_plane")


@dataclass(frozen=True)
class Section:
    """A part of the page: an anchor, a title, figures, and what to say where there is nothing to draw.

    `intro` and `keys` say once, for all its figures, how to read them and what their marks are.
    """

    key: str
    title: str
    figures: list[Figure]
    absent: str = ""
    intro: str = ""
    keys: Sequence[Key] = ()


def write_page(studies: Study | Sequence[Study], path: str | Path, *, title: str | None = None) -> Path:
    """Write the page of one study, or of several side by side, to `path`; returns the path.

    The same studies give the same bytes. The file holds about 2 MB of Plotly's compressed script besides the numbers.
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


def render(several: list[View], title: str | None = None) -> str:
    """The page as text."""
    parts = sections(several)
    names, settings = settings_table(several)
    return page_text(
        "page.html.j2",
        [figure for part in parts for figure in part.figures],
        static=still_pictures(several),
        title=title or default_title(several),
        views=several,
        comparison=comparison(several),
        answers=answer_table(several),
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
        symbols={view.index: symbol_path(look.symbol(view.index)) for view in several},
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


def still_pictures(several: list[View]) -> dict[str, str]:
    """Drawing name -> data URI of a still picture, for readers without JavaScript.

    Only of the location: drawing all figures a second time would take longer than the rest of the page tenfold, and
    every number of theirs is in a table.
    """
    if all(view.location is None for view in several):
        return {}
    from geomfeat.report.figures import data_uri, drawings

    made = drawings(several)
    return {name: data_uri(made[name]()) for name in STILL if name in made}
