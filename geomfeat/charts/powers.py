"""Powers written with ^ in a text, as superscripts of HTML and of matplotlib."""

from __future__ import annotations

import re

# An exponent right after what it belongs to: in brackets, or one number or name. Of signs only those of numbers: others
# mean something to TeX, as a backslash before the power does.
POWER = re.compile(r"(?<=[^\s^\\])\^(?:\(((?:[^\W_]|[-−+./ ·½¼])+)\)|([-−]?(?:[^\W_]|[½¼])+(?:\.\d+)?))")


def raised(text: str) -> str:
    """A text of HTML with its powers as superscripts; a bracket round a whole exponent is dropped.

    >>> raised("n^-0.25 and γ^(2/L), |w|^L"), raised("^ alone, 2^")
    ('n<sup>−0.25</sup> and γ<sup>2/L</sup>, |w|<sup>L</sup>', '^ alone, 2^')
    """
    return POWER.sub(lambda found: f"<sup>{_exponent(found)}</sup>", text)


def raised_in_math(text: str) -> str:
    """The same for matplotlib, whose own signs in the text are kept from being read.

    >>> raised_in_math("n^(1/2) for 2 $")
    'n$^{\\\\mathrm{1/2}}$ for 2 \\\\$'
    """
    return POWER.sub(lambda found: rf"$^{{\mathrm{{{_exponent(found)}}}}}$", text.replace("$", r"\$"))


def _exponent(found: re.Match[str]) -> str:
    return (found[1] or found[2]).replace("-", "−")
