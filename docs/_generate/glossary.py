"""The terms of a location, as the glossary of every page of results explains them."""

from __future__ import annotations

from _generate.docstrings import escaped
from geomfeat.report.content.location_terms import LOCATION_TERMS


def location_terms() -> str:
    entries = [
        f"{escaped(name)}\n: {escaped(text)} *Source: {escaped(source)}.*" for name, text, source in LOCATION_TERMS
    ]
    return "\n\n".join(entries) + "\n"
