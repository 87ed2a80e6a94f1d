"""Numbers as text: values with errors, a location in words, and the table that the command line prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geomfeat.location.result import Location
    from geomfeat.study import Study

MISSING = "–"


def number(value: float, digits: int = 3) -> str:
    """A number to `digits` significant digits, without trailing zeros.

    >>> number(0.0123456), number(123456.0), number(2.0), number(float("nan"))
    ('0.0123', '1.23e+05', '2', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING if value is None or math.isnan(value) else f"{value}"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -4 <= size < 5:
        text = f"{value:.{max(digits - 1 - size, 0)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def with_error(value: float, stderr: float | None = None) -> str:
    """A number with its standard error, both to the last digit that the error leaves standing.

    The error keeps one significant digit, two when it starts with 1 (0.14 rounded to 0.1 would lose 40 %).

    >>> with_error(0.5312, 0.0214), with_error(12.34, 0.14), with_error(1234.5, 31), with_error(0.5312)
    ('0.53 ± 0.02', '12.34 ± 0.14', '1230 ± 30', '0.531')
    """
    if stderr is None or not math.isfinite(stderr) or stderr <= 0 or not math.isfinite(value):
        return number(value)
    decimals = _decimals(stderr)
    largest = max(abs(value), stderr)
    if largest >= 1e5 or largest < 1e-4:
        power = math.floor(math.log10(largest))
        return f"({with_error(value / 10**power, stderr / 10**power)})e{power:+03d}"
    if decimals >= 0:
        return f"{value:.{decimals}f} ± {stderr:.{decimals}f}"
    return f"{round(value, decimals):.0f} ± {round(stderr, decimals):.0f}"


def _decimals(stderr: float) -> int:
    size = math.floor(math.log10(stderr))
    leading = round(stderr / 10**size, 6)
    return (1 if leading < 1.95 else 0) - size


def signed(value: float, decimals: int = 2) -> str:
    """A number of decades with its sign.

    >>> signed(0.5), signed(-1.234), signed(float("nan")), signed(float("-inf"))
    ('+0.50', '-1.23', '–', '-∞')
    """
    if math.isfinite(value):
        return f"{value:+.{decimals}f}"
    return MISSING if math.isnan(value) else f"{'+' if value > 0 else '-'}∞"


def size_words(decades: float) -> str:
    """10^decades as a share of the features' own size: per cent below one, a multiple above; reads before "their size".

    >>> size_words(-1.5), size_words(0.0), size_words(0.8), size_words(float("-inf"))
    ('3.2 % of', '100 % of', '6.3 times', '0 % of')
    """
    if math.isnan(decades):
        return "an unknown share of"
    share = 10 ** min(decades, 300)
    if share >= 1.095:
        return f"{float(f'{share:.2g}'):,.10g} times"
    return f"{100 * share:.3g} % of" if share >= 0.995 else f"{100 * share:.2g} % of"


def richness_text(where: Location | None) -> str:
    """R with its interval; 'at most' in front if it is only an upper bound, and marked as hypothetical if frozen.

    >>> from geomfeat.location.result import Location
    >>> import pandas as pd
    >>> richness_text(Location(-1.5, -1.6, -1.4, -1.4, .1, "reinitialised", -.9, True, "at most lazy", pd.DataFrame()))
    'at most -1.50 [-1.60, -1.40]'
    """
    if where is None:
        return MISSING
    bound = "at most " if where.at_most else ""
    interval = f" [{signed(where.low)}, {signed(where.high)}]" if math.isfinite(where.low + where.high) else ""
    free = " if free to move" if where.is_frozen and math.isfinite(where.richness) else ""
    return f"{bound}{signed(where.richness)}{interval}{free}"


def runs(words: Sequence[str]) -> str:
    """A sequence in which neighbours that are equal are counted.

    >>> runs(["lazy", "lazy", "rich"])
    'lazy x2, rich'
    """
    found = [(word, len(list(same))) for word, same in groupby(words)]
    return ", ".join(f"{word} x{count}" if count > 1 else word for word, count in found)


def layers_text(regimes: Sequence[str], most: int = 5) -> str:
    """Regimes of layers from input to output, neighbours counted; their totals, where they change too often to read.

    >>> layers_text(["lazy", "lazy", "rich"]), layers_text(["lazy", "rich"] * 4)
    ('lazy x2, rich', 'mixed: 4 lazy, 4 rich')
    """
    words = list(regimes)
    if len(list(groupby(words))) <= most:
        return runs(words)
    return "mixed: " + ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def accuracies(study: Study) -> dict[str, float]:
    """Part of the data ("train", "test", ...) -> share of right answers, in [0, 1]; empty where it is not known."""
    known = study.settings.get("accuracy") or {}
    return {str(k): float(v) for k, v in known.items() if isinstance(v, int | float) and math.isfinite(v)}


def percent(share: float | None) -> str:
    """A share in per cent to one decimal; a dash where it is not known.

    >>> percent(0.9532), percent(None)
    ('95.3 %', '–')
    """
    return MISSING if share is None else f"{100 * share:.1f} %"


def share_text(value: float) -> str:
    """A share in per cent to two digits, three from 99.5 % on; a dash where it is not known.

    >>> share_text(0.0314), share_text(1.234), share_text(0.0), share_text(float("nan"))
    ('3.1 %', '123 %', '0 %', '–')
    """
    if math.isnan(value):
        return MISSING
    return f"{float(f'{100 * value:.3g}' if value >= 0.995 else f'{100 * value:.2g}'):,.10g} %"


def location_table(studies: Study | Sequence[Study]) -> str:
    """The table that the command line prints: one line per model, in monospaced columns.

    Columns: model, its accuracies (on train and test data, where these are known), richness R in decades with its 90 %
    interval, movement M, excess E, kernel demand kappa in decades, by how much the tangent kernel changed, the
    linearisation gap, the regime, and the regimes of its hidden layers from input to output (equal neighbours counted).
    """
    several = studies if isinstance(studies, Sequence) else [studies]
    parts = list(dict.fromkeys(part for study in several for part in accuracies(study))) or ["train", "test"]
    head = ("model", *parts, "richness R (90 %)", "M", "E", "kappa", "kernel", "gap", "regime", "by layer")
    lines: list[tuple[str, ...]] = [head]
    for study in several:
        where = study.location
        right = [percent(accuracies(study).get(part)) for part in parts]
        if where is None:
            lines.append((study.name, *right, *[MISSING] * 6, "not located", MISSING))
            continue
        by_layer = layers_text([str(r) for r in where.layers["regime"]]) if "regime" in where.layers else MISSING
        features = (richness_text(where), signed(where.movement), signed(where.excess))
        kernel = (signed(where.kernel_demand), share_text(where.kernel_change), share_text(where.linearisation_gap))
        lines.append((study.name, *right, *features, *kernel, where.regime, by_layer or MISSING))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rows = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rows[0], "  ".join("-" * width for width in widths), *rows[1:]])
