"""Links of a page that lead out of docs: to the copy on the site where there is one, else they become text.

On a page of the repository `[the card](../data_cards/location-validation.md)` leads to the file. On the site that file
is `generated/location-validation`, and a folder of scripts is no page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from _generate.outside import FILES, ROOT

_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
COPIES = {path: f"/generated/{name}" for name, path in FILES.items()}


def inside(app: Any, name: str, source: list[str]) -> None:
    """Sphinx's `source-read`: changes the text of a page in place."""
    folder = (Path(app.srcdir) / name).parent
    if name.startswith("generated/"):
        copied = next((path for copy, path in FILES.items() if name == f"generated/{copy.removesuffix('.md')}"), None)
        if copied is None:
            return
        folder = (ROOT / copied).parent
    source[0] = relinked(source[0], folder)


def relinked(text: str, folder: Path) -> str:
    """The text of a page that lies in `folder`, with links that stay on the site."""

    def replaced(found: re.Match[str]) -> str:
        shown, target, anchor = found[1], found[2], found[3] or ""
        there = Path(os.path.normpath(folder / target))
        path = there.relative_to(ROOT).as_posix() if there.is_relative_to(ROOT) else ""
        if path in COPIES:
            return f"[{shown}]({COPIES[path]}{anchor})"
        if path.startswith("docs/") and there.suffix in (".md", ".png"):
            return f"[{shown}](/{path.removeprefix('docs/')}{anchor})"
        if path.startswith("tutorials/") and there.suffix == ".py":
            return f"[{shown}](/generated/tutorials/{there.stem}.md)"
        if path == "tutorials":
            return f"[{shown}](/generated/tutorials/index.md)"
        return f"{shown} (`{path or target}` in the repository)"

    return _LINK.sub(replaced, text)
