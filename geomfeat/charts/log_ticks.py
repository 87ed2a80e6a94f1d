"""Where a logarithmic axis is labelled: at least twice, however few decades its values span."""

from __future__ import annotations

import math
from collections.abc import Iterable

MOST_DECADES = 6  # labels of decades on one axis
MARGIN = 0.08  # share of the span, in decades, by which a drawn axis reaches beyond its values
DIGITS = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))


def log_ticks(values: Iterable[float | None]) -> tuple[float, ...]:
    """Ticks for the positive `values`: decades where two are in reach, else digits between them, else even steps.

    Empty where fewer than two different positive values are known: any axis does then.

    >>> log_ticks([0.02, 50]), log_ticks([0.6, 4]), log_ticks([1.02, 1.07])
    ((0.1, 1.0, 10.0), (1.0, 3.0), (1.02, 1.04, 1.06))
    """
    known = [v for v in values if v is not None and math.isfinite(v) and v > 0]
    if len(set(known)) < 2:
        return ()
    first, last = math.log10(min(known)), math.log10(max(known))
    pad = MARGIN * (last - first)
    low, high = first - pad, last + pad
    powers = range(math.ceil(low), math.floor(high) + 1)
    if len(powers) >= 2:
        step = math.ceil(len(powers) / MOST_DECADES)
        return tuple(10.0**p for p in powers[:: step if len(powers) > step else 1])
    for digits in DIGITS:
        found = [d * 10.0**p for p in range(math.floor(low), math.floor(high) + 1) for d in digits]
        found = [tick for tick in found if low <= math.log10(tick) <= high]
        if len(found) >= 2:
            return tuple(found)
    return _even(10.0**low, 10.0**high)


def _even(low: float, high: float) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten within two ends, at least two and at most five."""
    unit = 10.0 ** math.floor(math.log10(high - low))
    for share in (5.0, 2.0, 1.0, 0.5, 0.2):
        step = share * unit
        found = [round(i * step, 15) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(found) >= 2:
            return tuple(found)
    return low, high


def tick_text(tick: float, html: bool = True) -> str:
    """A tick as it is printed: short numbers as they are, others as a power of ten.

    >>> tick_text(0.05), tick_text(3e-7), tick_text(1e5), tick_text(1e-4, html=False)
    ('0.05', '3·10<sup>−7</sup>', '10<sup>5</sup>', '$10^{-4}$')
    """
    power = math.floor(math.log10(tick) + 1e-9)
    if -3 < power < 4:
        return f"{tick:.6g}"
    digits = f"{tick / 10.0**power:.6g}"
    front = "" if digits == "1" else f"{digits}·" if html else rf"{digits}\cdot "
    if html:
        return f"{front}10<sup>{'−' * (power < 0)}{abs(power)}</sup>"
    return f"${front}10^{{{power}}}$"
