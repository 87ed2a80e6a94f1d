"""What both renderers need to know of curves and maps: colours, error bars, sizes."""

from __future__ import annotations

import math

from geomfeat.charts import theme as look
from geomfeat.charts.description import Curve, Heat

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
    """Whether a curve is drawn without marks: theory, and so many points that marks would run into a thick line."""
    return curve.kind == "theory" or (curve.kind == "measured" and len(curve.x) > MOST_MARKS)


def largest_size(heat: Heat) -> float:
    """The largest absolute value of a map; 1 where all are 0.

    >>> largest_size(Heat("", "", "", [0.0, 1.0], [0.0], [[math.nan, -2.0]], ""))
    2.0
    """
    return max((abs(v) for row in heat.values for v in row if math.isfinite(v)), default=1.0) or 1.0
