"""One self-contained HTML page of a training while it runs, and after: where it is, what happened, every number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from geomfeat.charts import figure_of
from geomfeat.charts.paper_style import style
from geomfeat.location.regimes import MEANINGS
from geomfeat.monitoring.folder import PAGE
from geomfeat.monitoring.result import Monitored
from geomfeat.report.content.study_sections import flattened
from geomfeat.report.figures import data_uri
from geomfeat.report.pages.frame import page_path, page_text, save_page
from geomfeat.report.plotly.monitor import monitor_figures, numbered

NOW = {
    "richness": "demand R", "movement": "movement M", "excess": "excess E", "kernel_demand": "kernel demand κ",
    "kernel_change": "change of the kernel", "weight_change": "change of the weights", "loss": "loss",
    "probe_loss": "loss of the probes", "held_out_loss": "held-out loss", "rate": "learning rate",
}  # fmt: skip
IN_DECADES = ("richness", "movement", "excess", "kernel_demand")


def write_monitor_page(
    record: Monitored, path: str | Path, *, settings: Mapping[str, Any] | None = None
) -> Path:  # fmt: skip
    """Write the page of a training to `path`; returns the path.

    Args:
        record: see `load_monitored`. settings: of the monitor, to be listed.

    Raises BadInput for a path that is a folder, OutputExists for a file that geomfeat did not write.
    """
    path = page_path(path, PAGE)
    return save_page(render(record, settings), path)


def render(record: Monitored, settings: Mapping[str, Any] | None = None, *, live: str = "") -> str:
    """The page as text. `live`: the state of the rows, for a page that asks its server whether there are others."""
    figures, own = monitor_figures(record), record.network
    return page_text(
        "monitor.html.j2",
        figures,
        static=_stills(record) if figures else {},
        title=f"Training {record.name}".strip(),
        figures=figures,
        now=_now(record),
        regime="" if own.empty else str(own.iloc[-1]["regime"]),
        meanings=MEANINGS,
        step=None if own.empty else int(own.iloc[-1]["step"]),
        count=len(own),
        cost=_cost(record),
        events=[(number, step, record.events.iloc[i]["text"]) for i, (step, number) in enumerate(numbered(record))],
        notes=[*record.notes, *dict.fromkeys(str(n) for n in own["note"] if n)],
        settings=flattened(dict(settings or {})),
        live=live,
    )


def _now(record: Monitored) -> list[tuple[str, str]]:
    """(name, value) of the last row."""
    own = record.network
    if own.empty:
        return []
    last, found = own.iloc[-1], []
    for name, words in NOW.items():
        value = float(last[name]) if name in own else math.nan
        if math.isfinite(value):
            shown = f"{value:+.2f} decades" if name in IN_DECADES else f"{value:.3g}"
            found.append((words, shown.replace("-", "−")))
    return found


def _cost(record: Monitored) -> str:
    """What measuring took of the training time, in all sessions, without the first measurement of each."""
    own = record.network
    spent = trained = 0.0
    for session in own["session"].unique().tolist():
        timed = pd.DataFrame(own[(own["session"] == session) & (own["seconds"] > 0)])
        spent += sum(timed["seconds"].tolist()[1:])
        trained += max(timed["trained"].tolist(), default=0.0)
    return f"{100 * spent / trained:.1f} %" if trained > 0 else ""


def _stills(record: Monitored) -> dict[str, str]:
    """A still picture of the first figure, for readers without JavaScript; every number is in a table."""
    with style():
        return {"place": data_uri(figure_of(record._chart()))}
