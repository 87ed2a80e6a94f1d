"""What a plot shows, in words: for readers who hear the page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_LINES = 6  # of which the ends are read out


def described(title: str, data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    """The title, the axes with the range of each, and the first and last number of a few lines.

    >>> line = {"type": "scatter", "x": [1, 2], "y": [0.5, 2.0], "customdata": [["net", "a"], ["net", "b"]]}
    >>> axes = {"xaxis": {"title": {"text": "layer"}}, "yaxis": {"title": {"text": "dimensions"}}}
    >>> described("Rank", [line], axes)
    'Rank: dimensions from 0.5 to 2 over layer. net: 0.5 to 2. All numbers are in the table below.'
    """
    maps = [trace for trace in data if trace.get("type") == "heatmap"]
    parts = [_map(maps[0])] if maps else [_range(data, layout), *_ends(data)]
    return ". ".join([f"{title}: {parts[0]}", *parts[1:], "All numbers are in the table below."])


def _map(trace: Mapping[str, Any]) -> str:
    rows = [_numbers(row) for row in _listed(trace["z"])]
    known = [v for row in rows for v in row if v is not None]
    span = f", from {min(known):.3g} to {max(known):.3g}" if known else ", none of a known number"
    return f"a map of {len(rows)} by {max(map(len, rows), default=0)} cells{span}"


def _range(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    across, up = (html.unescape(str(layout.get(a, {}).get("title", {}).get("text", ""))) for a in ("xaxis", "yaxis"))
    known = [v for trace in data for v in _numbers(_listed(trace.get("y", ()))) if v is not None]
    if not known:
        return "nothing to draw"
    span = f"{up} from {min(known):.3g} to {max(known):.3g}" if up else f"{len(known)} points"
    return f"{span} over {across}" if across else span


def _ends(data: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name, first and last number of the named lines; of several with one name, the last, which is the trained one."""
    found: dict[str, str] = {}
    for trace in data:
        known = [v for v in _numbers(_listed(trace.get("y", ()))) if v is not None]
        name = _name(trace)
        if name and len(known) > 1 and "lines" in trace.get("mode", "lines"):
            found[name] = f"{name}: {known[0]:.3g} to {known[-1]:.3g}"
    return list(found.values()) if len(found) <= MOST_LINES else [f"{len(found)} lines"]


def _name(trace: Mapping[str, Any]) -> str:
    custom = trace.get("customdata")
    first = custom[0] if isinstance(custom, list) and custom else ""
    name = trace.get("name") or (first[0] if isinstance(first, list) and first else first)
    return html.unescape(str(name)) if isinstance(name, str) else ""


def _listed(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _numbers(values: Sequence[Any]) -> list[float | None]:
    return [float(v) if isinstance(v, int | float) and math.isfinite(v) else None for v in values]
