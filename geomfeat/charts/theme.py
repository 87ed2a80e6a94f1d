"""Colours, marks and line styles of everything that is drawn: one place, safe for colour-blind readers.

Okabe-Ito colours for models and classes, doubled by a mark, so that nothing rests on colour alone; cividis for
matrices and depth. Regimes have light tints behind dark text, always with the regime's name written out.
"""

from __future__ import annotations

INK = "#1b1f24"
QUIET = "#5b6470"
GRID = "#e4e7eb"
FLOOR = "#6b7280"

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "hexagon")
MATPLOTLIB_MARKS = ("o", "s", "D", "^", "X", "*", "h")

# Cividis at equal steps (Nunez et al. 2018), for colour scales of matrices and of depth.
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")

# From blue over white to orange, for signed values: distinguishable with all kinds of colour vision.
DIVERGING = ("#1f4e9c", "#4f86c6", "#9cc0e7", "#dbe8f5", "#f7f7f7", "#fbe3cd", "#f2b47c", "#d97a2b", "#9c4a06")

# Marks of cells that are not like gradient flow: (Plotly's symbol, matplotlib's).
PHASE_MARKS = {
    "catapult": ("triangle-up-open", "^"), "edge of stability": ("diamond-open", "D"), "diverged": ("x-thin", "x"),
    "failed": ("cross-thin", "+"), "left out": ("circle-open", "o"),
}  # fmt: skip

DEPTH = CIVIDIS[:8]  # without the light end, which cannot be read on white

REGIME_TINTS = {
    "frozen": "#d5dae1",
    "lazy": "#cfe2f3",
    "at most lazy": "#e3eef8",
    "transition": "#f4eecb",
    "at most transition": "#faf7e6",
    "rich": "#fbd0b4",
    "features moved, kernel at rest": "#dcebd3",
    "kernel moved, features at rest": "#cdeae6",
    "moved by the optimizer": "#e9cfe3",
    "undetermined": "#e6e7ea",
}
REGIME_SHORT = {
    "at most lazy": "≤ lazy",
    "at most transition": "≤ transition",
    "features moved, kernel at rest": "features",
    "kernel moved, features at rest": "kernel",
    "moved by the optimizer": "optimizer",
    "undetermined": "unknown",
}


PAPER = "#ffffff"
BAND = "#c9ced6"  # noise ceilings
WARNING = "#c2410c"  # events, and cells that are not like gradient flow
# Numbers and lines on the cells of a colour scale, which are the same in both themes: on dark cells, on light ones.
ON_DARK, ON_LIGHT = "#fdfdfd", "#101214"

# Colour -> its twin on dark paper; colour scales of matrices have none.
DARK = {
    PAPER: "#14171b", INK: "#e6e9ed", QUIET: "#a3adb8", GRID: "#2c323a", FLOOR: "#98a1ad", BAND: "#3a414a",
    WARNING: "#f28b5b",
    **dict(zip(OKABE_ITO, ("#4ba3dd", "#ef7f2e", "#2bbd90", "#dd94bd", "#eeb030", "#a5dcfb", "#f2f2f2"), strict=True)),
    **dict(zip(DEPTH, ("#5a7bd0", "#7189c0", "#878fae", "#999a9d", "#aca78c", "#c3b369", "#e1cc55", "#fee838"),
               strict=True)),
    **dict(zip(REGIME_TINTS.values(), (
        "#3a4048", "#1f3c58", "#1b2f43", "#4a4320", "#36321f", "#5c3418", "#2f4426", "#1d4540", "#4b2c45", "#2f3338",
    ), strict=True)),
}  # fmt: skip


def colour(index: int) -> str:
    """Colour of the model or class number `index`; repeats after seven, by when the mark has changed too."""
    return OKABE_ITO[index % len(OKABE_ITO)]


def symbol(index: int) -> str:
    """Plotly's name of the mark of model or class number `index`.

    >>> (colour(0), symbol(0)) == (colour(7), symbol(7)), symbol(0)
    (False, 'circle')
    """
    return SYMBOLS[(index + index // len(OKABE_ITO)) % len(SYMBOLS)]


def mark(index: int) -> str:
    """Matplotlib's name of the same mark."""
    return MATPLOTLIB_MARKS[(index + index // len(OKABE_ITO)) % len(MATPLOTLIB_MARKS)]


def along_depth(share: float) -> str:
    """A colour of the cividis scale for a share of the depth in [0, 1].

    >>> along_depth(0.0), along_depth(1.0)
    ('#00224e', '#c3b369')
    """
    return DEPTH[round(min(max(share, 0.0), 1.0) * (len(DEPTH) - 1))]


def tint(regime: str) -> str:
    """Background of a regime's name."""
    return REGIME_TINTS.get(regime, REGIME_TINTS["undetermined"])


def short(regime: str) -> str:
    """A regime's name where room is scarce."""
    return REGIME_SHORT.get(regime, regime)
