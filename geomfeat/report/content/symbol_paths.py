"""Marks as SVG paths, for legends that stand outside of the plots."""

from __future__ import annotations

PATHS = {
    "circle": "M8 2a6 6 0 1 0 .01 0Z",
    "square": "M3 3h10v10h-10Z",
    "diamond": "M8 1.5 14.5 8 8 14.5 1.5 8Z",
    "triangle-up": "M8 2 14.5 13.5h-13Z",
    "triangle-down": "M8 14 1.5 2.5h13Z",
    "triangle-left": "M2 8 13.5 1.5v13Z",
    "triangle-right": "M14 8 2.5 1.5v13Z",
    "line-ew": "M1 8H15",
    "x": "M4 2 8 6 12 2 14 4 10 8 14 12 12 14 8 10 4 14 2 12 6 8 2 4Z",
    "star": "M8 1 10 6 15 6.2 11 9.4 12.4 14.5 8 11.6 3.6 14.5 5 9.4 1 6.2 6 6Z",
    "hexagon": "M8 1.5 13.8 4.8V11.2L8 14.5 2.2 11.2V4.8Z",
    "x-thin": "M3 3 13 13M13 3 3 13",
    "cross-thin": "M8 2V14M2 8H14",
}


def symbol_path(symbol: str) -> str:
    """The path of one of Plotly's marks in a box of 16 by 16; an open mark has the path of the filled one.

    >>> symbol_path("diamond-open")
    'M8 1.5 14.5 8 8 14.5 1.5 8Z'
    """
    return PATHS[symbol.removesuffix("-open")]
