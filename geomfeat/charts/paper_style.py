"""Matplotlib's settings for figures in papers: small sans-serif text that stays text, thin lines, safe colours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from geomfeat.charts import theme as look

SETTINGS: dict[str, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "geomfeat", "pdf.fonttype": 42,
    "figure.dpi": 100, "savefig.dpi": 200, "legend.frameon": False, "axes.unicode_minus": True,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Within, matplotlib draws as geomfeat's own figures are drawn; its settings are restored afterwards.

    Text is 8 points, for figures at the width of a column, and stays text in SVG and PDF. The colours of your own
    curves are those of Okabe and Ito, which readers with any kind of colour vision can tell apart. For what a result
    draws: `result.plot(ax)` within.

    >>> import matplotlib.pyplot as plt
    >>> with style():
    ...     size = plt.rcParams["font.size"]
    >>> size
    8.0
    """
    import matplotlib as mpl
    from cycler import cycler

    chosen: dict[Any, Any] = {
        **SETTINGS, "axes.prop_cycle": cycler(color=look.OKABE_ITO), "image.cmap": "cividis",
    }  # fmt: skip
    # Names in scripts that the font lacks are drawn as boxes in PDF; in SVG, as text, the reader's fonts show them.
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    with mpl.rc_context(chosen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
