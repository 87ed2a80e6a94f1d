"""Formulas of the tutorials, `$...$` in TeX, as MathML: browsers set it themselves, without a script."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r"(`[^`]*`)|\$\$(.+?)\$\$|\$((?:[^$\n]|\n(?!\n))+?)\$", re.DOTALL)


def in_text(markdown: str) -> str:
    r"""Markdown with its formulas as MathML; code stays as it is.

    >>> in_text(r"`$x$` is code, $x$ is not.").count("<math")
    1
    """
    return _FORMULA.sub(lambda found: found[1] or convert(found[2] or found[3]), markdown)
