"""All pages that are made from the package, in a folder that git ignores."""

from __future__ import annotations

import shutil
from pathlib import Path

from _generate import gallery, glossary, measure_pages, outside, reference


def write(folder: Path) -> None:
    """Make the folder again, so that nothing of an earlier build stays; a page that is the same is read again."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Name of a file in the folder -> its Markdown."""
    return {
        **{f"measures/{name}": text for name, text in measure_pages.pages().items()},
        **{f"reference/{name}": text for name, text in reference.pages().items()},
        **{f"tutorials/{name}": text for name, text in gallery.pages().items()},
        "_location_terms.md": glossary.location_terms(),
        **outside.pages(),
    }
