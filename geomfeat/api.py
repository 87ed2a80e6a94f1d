"""The notebook surface: one call from a trained network to a table, a location and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geomfeat.comparison.models import ModelComparison as Comparison, compare
from geomfeat.study import Study, Study as Results, analyze, analyze_recording, over_time, trajectories

__all__ = [
    "Comparison", "Results", "analyze", "analyze_recording", "compare", "compare_page", "over_time", "trajectories",
]  # fmt: skip


def compare_page(studies: Study | Sequence[Study], path: str | Path, *, title: str | None = None) -> Path:
    """One self-contained HTML page of one study, or of several side by side; returns the path.

    Raises BadInput for no studies, or two of one name.
    """
    from geomfeat.report.pages import write_page  # brings plotly

    return write_page(studies, path, title=title)
