"""What both renderers need to know of curves and maps: colours, error bars, sizes."""

from __future__ import annotations

import math
from itertools import pairwise

from geomfeat.charts import theme as look
from geomfeat.charts.description import Curve, Heat, Plot

BAR_STEP = 0.03  # between the bars of two curves, as a share of the axis
MOST_MARKS = 60  # marks on one curve; more would merge into a line


def curve_colours(curves: list[Curve]) -> list[tuple[str, int]]:
    """(colour, mark number) of each curve: a theory line has those of the measurement that its label begins with.

    Theory that stands alone is drawn in the ink of the text, unless all curves are theory.
    """
    measured = [c.label for c in curves if c.kind != "theory"]
    found, alone = [], 0
    for curve in curves:
        own = [i for i, label in enumerate(measured) if curve.label == label or curve.label.startswith(f"{label},")]
        if own:
            found.append((look.colour(own[-1]), own[-1]))
        elif measured:
            found.append((look.INK, 0))
        else:
            found.append((look.colour(alone), alone))
            alone += 1
    return found


def lower_errors(curve: Curve, log_y: bool) -> list[float]:
    """How far down a curve's bars reach: on a log axis by the factor that they reach up by, so never to 0."""
    assert curve.error is not None
    return [y * e / (y + e) if log_y and y > 0 and e > 0 else e for y, e in zip(curve.y, curve.error, strict=True)]


def bare(curve: Curve) -> bool:
    """Whether a curve is drawn without marks: theory, bands, and more points than marks can be distinguished."""
    return curve.kind in ("theory", "band") or (curve.kind == "measured" and len(curve.x) > MOST_MARKS)


def bars_of(plot: Plot) -> list[tuple[float, float, float, str]]:
    """(from, to, height, colour) of the curves' bars: a row for each curve that has any, height as a share of the axis.

    Half a step is added to each end, so that the bar of a single bin can be seen.

    >>> once = Curve("", [0.0, 1.0, 2.0], [0.0, 0.0, 0.0], bars=[(1.0, 1.0)])
    >>> bars_of(Plot("", "", "", [once]))
    [(0.5, 1.5, 0.015, '#0072B2')]
    """
    x = sorted({value for curve in plot.curves for value in curve.x})
    half = min((b - a for a, b in pairwise(x)), default=1.0) / 2
    marked = [
        (curve, colour)
        for curve, (colour, _) in zip(plot.curves, curve_colours(list(plot.curves)), strict=True)
        if curve.bars
    ]
    return [
        (start - half, stop + half, 0.015 + BAR_STEP * i, colour)
        for i, (curve, colour) in enumerate(marked)
        for start, stop in curve.bars
    ]


def largest_size(heat: Heat) -> float:
    """The largest absolute value of a map; 1 where all are 0.

    >>> largest_size(Heat("", "", "", [0.0, 1.0], [0.0], [[math.nan, -2.0]], ""))
    2.0
    """
    return max((abs(v) for row in heat.values for v in row if math.isfinite(v)), default=1.0) or 1.0
