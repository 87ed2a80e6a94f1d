"""One self-contained HTML page of recordings: areas, trials and units in place of layers, samples and features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomfeat.charts import theme as look
from geomfeat.errors import BadInput
from geomfeat.report.content.components import Cell, Table, grid, text_cell
from geomfeat.report.content.number_format import MISSING, number
from geomfeat.report.content.sentences import left_out, troubles
from geomfeat.report.content.study_sections import glossary, settings_table
from geomfeat.report.content.study_view import View
from geomfeat.report.content.symbol_paths import symbol_path
from geomfeat.report.pages.frame import page_path, page_text, save_page
from geomfeat.report.pages.study import Section
from geomfeat.report.plotly.areas import READING, area_figures, area_keys, area_matrices, area_spectra
from geomfeat.report.plotly.time_courses import time_figures

if TYPE_CHECKING:
    from geomfeat.study import Study


MOST_SIDE_BY_SIDE = 3  # recordings
FACTS = (
    "trials", "conditions", "trials of each", "units", "areas (units, signal to noise)", "time", "trials are",
    "trials are grouped by",
)  # fmt: skip


def of_recordings(studies: Sequence[Study]) -> bool:
    """Whether studies are of recordings; BadInput where some are and some are of networks."""
    recorded = [study.is_recording for study in studies]
    if any(recorded) and not all(recorded):
        one, other = studies[recorded.index(True)].name, studies[recorded.index(False)].name
        raise BadInput(
            f"studies: {one!r} is of a recording and {other!r} of a network: compare them with geomfeat.compare, "
            "or write a page for each"
        )
    return all(recorded) and bool(recorded)


def write_recordings(several: list[View], path: str | Path, title: str | None) -> Path:
    """Write the page of the studies of recordings to `path`; returns the path."""
    path = page_path(path)
    return save_page(render(several, title), path)


def render(several: list[View], title: str | None) -> str:
    """The page as text."""
    parts = sections(several)
    names, settings = settings_table(several)
    return page_text(
        "recording.html.j2",
        [figure for part in parts for figure in part.figures],
        title=title or default_title(several),
        models=[(v.index, v.name, v.colour, symbol_path(look.symbol(v.index))) for v in several],
        recorded=recorded_table(several),
        counts=[trials_table(v) for v in several],
        notes=[(v.name, v.study.settings["recording"]["notes"]) for v in several],
        sections=parts,
        failures=troubles(several, failed=True),
        remarks=troubles(several, failed=False),
        left_out=left_out(several),
        setting_names=names,
        settings=settings,
        glossary=glossary(several, location=False),
    )


def default_title(several: Sequence[View]) -> str:
    """A title that names the recording, or counts them."""
    if len(several) == 1:
        return f"{several[0].name}: the geometry of a recording"
    return f"The geometry of {len(several)} recordings"


def sections(several: list[View]) -> list[Section]:
    """The sections that draw, in the order of the page."""
    timed, measured = time_figures(several), area_figures(several)
    return [
        Section("areas", "Measures of each area", measured, "No measure of areas was run.", READING,
                area_keys(measured)),
        Section(
            "cka", "Similarity between areas", area_matrices(several),
            "There is no pair of areas, or CKA was not among the measures.",
        ),
        Section("spectra", "Spectra", area_spectra(several), "There are no spectra."),
        *([Section("time", "Over time", timed, "")] if timed else []),
    ]  # fmt: skip


def recorded_table(several: Sequence[View]) -> Table:
    """What each recording holds: a row for each, or of few recordings a row for each fact, which is narrower."""
    facts = [_facts_of(view) for view in several]
    if len(several) > MOST_SIDE_BY_SIDE:
        return grid(("recording", *FACTS), [(v.name, cells) for v, cells in zip(several, facts, strict=True)])
    return grid(("", *(view.name for view in several)), list(zip(FACTS, zip(*facts, strict=True), strict=True)))


def _facts_of(view: View) -> list[Cell]:
    facts = view.study.settings["recording"]
    noise = facts.get("signal_to_noise", {})
    areas = ", ".join(f"{area} ({n}, {_shown(noise.get(area))})" for area, n in facts["units_by_area"].items())
    kind = "pseudo-population" if facts["pseudo_population"] else "recorded together"
    cells: list[Any] = [
        facts["trials"], len(facts["trials_per_condition"]), _span(facts), facts["units"], areas,
        facts["time"].replace("-", "−"),        kind, facts["errors_over"],
    ]  # fmt: skip
    return [text_cell(cell) for cell in cells]


def _span(facts: Any) -> str:
    counts = sorted(facts["trials_per_condition"].values())
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def _shown(ratio: float | None) -> str:
    return MISSING if ratio is None else number(ratio).replace("-", "−")


def trials_table(view: View) -> Table:
    """How many trials each condition has."""
    counts: Counter[str] = Counter(view.study.settings["recording"]["trials_per_condition"])
    rows = [(str(name), [text_cell(count)]) for name, count in counts.items()]
    return grid(("condition", "trials"), rows, f"{view.name}: trials of each condition")
