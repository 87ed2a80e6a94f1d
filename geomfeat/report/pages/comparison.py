"""One self-contained HTML page of a comparison of models; like the page of a study, it loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomfeat.charts import theme as look
from geomfeat.geometry.manifolds.capacity_floor import AT_FLOOR, at_floor
from geomfeat.report.content.components import Table, grid, number_cell, text_cell
from geomfeat.report.content.number_format import MISSING, number, with_error
from geomfeat.report.content.study_sections import flattened
from geomfeat.report.content.symbol_paths import symbol_path
from geomfeat.report.pages.frame import page_path, page_text, save_page
from geomfeat.report.pages.study import Section
from geomfeat.report.plotly.brain import brain_figures, course_figures
from geomfeat.report.plotly.depth import matches_figure, profile_figures
from geomfeat.report.plotly.rdm_maps import rdm_figures
from geomfeat.report.plotly.similarity import layers_figure, maps_figure, models_figure

if TYPE_CHECKING:
    from geomfeat.comparison.models.result import ModelComparison


def write_comparison(found: ModelComparison, path: str | Path, *, title: str | None = None) -> Path:
    """Write the page of a comparison to `path`; returns the path. The same comparison gives the same bytes.

    Raises BadInput for a path that is a folder.
    """
    path = page_path(path, "comparison.html")
    text = render(found, title)
    return save_page(text, path)


def render(found: ModelComparison, title: str | None = None) -> str:
    """The page as text."""
    parts = sections(found)
    settings = {k: v for k, v in found.settings.items() if k not in ("notes", "clusters", "recordings", "areas")}
    return page_text(
        "comparison.html.j2",
        [figure for part in parts for figure in part.figures],
        title=title or default_title(found),
        lead=lead(found),
        models=[(i, name, look.colour(i), symbol_path(look.symbol(i))) for i, name in enumerate(found.names)],
        answers=answers(found),
        compared=compared_table(found),
        recorded=recorded_table(found),
        differences=differences_table(found),
        sections=parts,
        failures=failures(found),
        notes=list(found.settings.get("notes", [])),
        left_out=dict(found.settings.get("left_out") or {}),
        settings=flattened(settings),
    )


def default_title(found: ModelComparison) -> str:
    """A title that counts the models and the recordings."""
    recorded = len(found.settings.get("recordings", {}))
    models = len(found.names) - recorded
    counts = ((models, "model"), (recorded, "recording"))
    parts = [f"{n} {word}s" if n > 1 else f"one {word}" for n, word in counts if n]
    words = f"{' and '.join(parts)} on the same {'conditions' if by_condition(found) else 'samples'}"
    return words[0].upper() + words[1:]


def by_condition(found: ModelComparison) -> str:
    """What the rows of a comparison with recordings are ("means of 8 conditions"); "" for samples."""
    return str(found.settings.get("rows") or "")


def lead(found: ModelComparison) -> str:
    """What the page shows, in one sentence."""
    if rows := by_condition(found):
        return (
            "How similar these models and recordings are, as wholes and by layers and areas, by the geometry of their "
            f"responses to the same conditions. Rows are {rows}."
        )
    return (
        "How similar these models are, as a whole and layer by layer, by the geometry of their responses to the same "
        "samples; and how that geometry changes from input to output."
    )


def sections(found: ModelComparison) -> list[Section]:
    """The sections that draw, in the order of the page: of brains and areas first what compares them with layers."""
    areas = has_areas(found)
    ranked = Section("brain", "Likeness to areas" if areas else "Likeness to brains", brain_figures(found),
                     "No brain data were given.")  # fmt: skip
    matrices, courses = rdm_figures(found), course_figures(found)
    compared = [
        *([ranked] if len(found.ranking) or not areas else []),
        *([Section("rdms", "Dissimilarity matrices", matrices, "")] if matrices else []),
        *([Section("time", "Likeness over time", courses, "")] if courses else []),
    ]
    every = [
        Section("models", "Recordings and models as wholes" if areas else "Model by model", [models_figure(found)]),
        Section("layers", "Areas and layers" if areas else "Layer by layer", [layers_figure(found)]),
        Section("map", "Map of areas and layers" if areas else "Map of layers", [maps_figure(found)]),
        Section("matches", "Most similar areas and layers" if areas else "Best-matching layers",
                [matches_figure(found)]),
        Section("profiles", "Measures of areas and layers" if areas else "Profiles over relative depth",
                profile_figures(found), "No profiles were requested: name measures of layers."),
    ]  # fmt: skip
    return [*compared, *every] if areas else [*every, *compared]


def has_areas(found: ModelComparison) -> bool:
    """Whether a model is a recording of areas, which have no depth."""
    return bool(found.layers["depth"].isna().any())


def answers(found: ModelComparison) -> list[str]:
    """What was found, in sentences."""
    sentences = []
    values = found.model_similarity.copy()
    pairs = [(values[i, j], a, b) for i, a in enumerate(found.names) for j, b in enumerate(found.names) if i < j]
    known = sorted((p for p in pairs if p[0] == p[0]), reverse=True)
    if known:
        high, low = known[0], known[-1]
        if len(found.names) == 2:
            sentences.append(f"The similarity of {high[1]} and {high[2]}, as wholes, is {number(high[0])}.")
        else:
            sentences.append(f"The most similar models are {high[1]} and {high[2]} ({number(high[0])}).")
        if len(known) > 1:
            sentences.append(f"The least similar are {low[1]} and {low[2]} ({number(low[0])}).")
    ranking: Any = found.ranking
    for brain, rows in ranking.groupby("brain", sort=False):
        best = rows[rows["ok"] & (rows["layer"] != rows["model"])].head(1).to_dict("records")
        for r in best:
            ceiling = f"noise ceiling {number(r['ceiling_lower'])} to {number(r['ceiling_upper'])}".replace("-", "−")
            known_ceiling = f"; {ceiling}" if r["ceiling_lower"] == r["ceiling_lower"] else ""
            value = with_error(r["similarity"], r["stderr"])
            word = "layer" if r["depth"] == r["depth"] else "area"
            sentences.append(
                f"The {word} most similar to {brain} is {r['layer']} of {r['model']} ({value}{known_ceiling})."
            )
    sentences += _beginnings(found)
    return sentences


def _beginnings(found: ModelComparison) -> list[str]:
    """From when on each area resembles a layer, by the cluster test."""
    by_area: dict[tuple[str, str], list[float]] = {}
    for one in found.settings.get("clusters", ()):
        by_area.setdefault((one["recording"], one["area"]), []).append(one["start"])
    timed = dict.fromkeys(zip(found.courses["recording"], found.courses["area"], strict=True))
    begun = [f"{one[1]} of {one[0]} at {min(by_area[one]):.3g} s" for one in timed if one in by_area]
    return [f"Likeness to a layer begins in {', in '.join(begun)} (to a bin or two)."] if begun else []


def recorded_table(found: ModelComparison) -> Table | None:
    """What each area was recorded with: units, trials, groups, signal to noise, and how rows were matched."""
    rows = []
    matching = by_condition(found)
    for name, facts in found.settings.get("recordings", {}).items():
        counts = sorted(facts["trials_per_condition"].values())
        span = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        for area, units in facts["units_by_area"].items():
            cells = [
                text_cell(units), text_cell(facts["trials"]), text_cell(len(counts)), text_cell(span),
                text_cell(facts["errors_over"]), number_cell(facts["signal_to_noise"][area]),
                text_cell(facts["time"].replace("-", "−")), text_cell(matching),
            ]  # fmt: skip
            rows.append((area if len(found.settings["recordings"]) == 1 else f"{name}: {area}", cells))
    heads = ("area", "units", "trials", "conditions", "trials of each", "grouped by", "signal to noise", "time",
             "compared by")  # fmt: skip
    return grid(heads, rows) if rows else None


def compared_table(found: ModelComparison) -> Table:
    """The models with what they are and how many layers they have."""
    rows = []
    for name in found.names:
        mine: Any = found.layers[found.layers["model"] == name]
        widths = [int(d) for d in mine["d"].dropna()]
        span = " to ".join(str(d) for d in sorted({min(widths), max(widths)})) if widths else MISSING
        first, last = mine["layer"].iloc[0], mine["layer"].iloc[-1]
        ends = first if len(mine) == 1 else f"{first} to {last}" if mine["depth"].notna().all() else _shortened(
            mine["layer"].tolist()
        )  # fmt: skip
        kind = mine["kind"].iloc[0]
        # Features of a network that were given are no recording of units, where there is one beside them.
        kind = "features" if has_areas(found) and kind == "recording" and mine["depth"].notna().all() else kind
        cells = [kind, len(mine), ends, span]
        rows.append((name, [text_cell(cell) for cell in cells]))
    words = ("layers or areas", "which", "features or units") if by_condition(found) else (
        "layers", "from, to", "features"
    )  # fmt: skip
    return grid(("model", "kind", *words), rows)


def differences_table(found: ModelComparison) -> Table | None:
    """Differences of capacity between last layers, from the draws that all models share."""
    rows = [
        (
            f"{r['other']} against {r['model']}",
            [
                text_cell(f"{r['other_layer']}, {r['layer']}"),
                text_cell(AT_FLOOR, "", r["note"]) if at_floor(r["note"])
                else number_cell(r["log_difference"], r["stderr"]),
                number_cell(r["stderr_unpaired"]),
            ],
        )
        for r in found.differences.to_dict("records")
    ]  # fmt: skip
    columns = (
        "models",
        "areas or last layers" if has_areas(found) else "last layers",
        "log of the ratio of capacities",
        "its error, were draws and samples not shared",
    )
    return grid(columns, rows) if rows else None


def failures(found: ModelComparison) -> list[tuple[str, str]]:
    """(what, why) of every number that failed, equal reasons together."""
    reasons: dict[str, list[str]] = {}
    profiles: Any = found.profiles
    ranking: Any = found.ranking
    for r in profiles[~profiles["ok"]].to_dict("records"):
        reasons.setdefault(str(r["note"]), []).append(f"{r['quantity']} of {r['model']} {r['layer']}")
    for r in ranking[~ranking["ok"].astype(bool)].to_dict("records"):
        reasons.setdefault(str(r["note"]), []).append(f"{r['brain']}: {r['model']} {r['layer']}")
    return [(_shortened(what), why) for why, what in reasons.items()]


def _shortened(what: list[str], most: int = 6) -> str:
    return ", ".join(what[:most]) + (f" and {len(what) - most} more" if len(what) > most else "")
