"""The tutorials as pages, and the gallery that leads to them. A tutorial is a script of cells, each after `# %%`."""

from __future__ import annotations

import re
from pathlib import Path

from _generate.formulas import in_text

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures" / "tutorials"
_CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)


def pages() -> dict[str, str]:
    """index.md, the gallery, and a page for each tutorial."""
    scripts = sorted((ROOT / "tutorials").glob("*.py"))
    made = {f"{script.stem}.md": page(script) for script in scripts}
    entries = [
        f"## [{title(t)}]({s.stem}.md)\n\n{_picture(s, 420)}\n\n{summary(t)}\n"
        for s, t in zip(scripts, made.values(), strict=True)
    ]
    tree = "\n".join(script.stem for script in scripts)
    made["index.md"] = (
        "# Tutorials\n\nEach is a script in `tutorials/` that runs as it stands; the tests run all of them.\n\n"
        + "\n".join(entries)
        + f"\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )
    return made


def page(script: Path) -> str:
    """Markdown of a tutorial: its text, its code, and below the title one of the pictures that it draws."""
    blocks = [_block(kind, body) for kind, body in cells(script.read_text(encoding="utf-8"))]
    head, _, rest = "\n\n".join(filter(None, blocks)).partition("\n")
    return f"{head}\n\n{_picture(script, 640)}\n{rest}\n\nThe script: `tutorials/{script.name}`.\n"


def cells(text: str) -> list[tuple[str, str]]:
    """("markdown" or "code", body) of every cell, in order.

    >>> cells("# %% [markdown]\\n# # Title\\n#\\n# Text.\\n\\n# %%\\nx = 1\\n")
    [('markdown', '# Title\\n\\nText.'), ('code', 'x = 1')]
    """
    pieces = _CELL.split(text)
    found = []
    for mark, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if "[markdown]" in mark:
            found.append(
                ("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.split("\n")).strip())
            )
        else:
            found.append(("code", body.strip()))
    return found


def _block(kind: str, body: str) -> str:
    return in_text(body) if kind == "markdown" or not body else f"```python\n{body}\n```"


def title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def summary(text: str) -> str:
    """The first two sentences below the title."""
    prose = next(p for p in text.split("\n\n")[1:] if p[:1] not in ("", "!", "`", "#", "|"))
    return " ".join(re.split(r"(?<=[.?])\s+", " ".join(prose.split()))[:2])


def _picture(script: Path, width: int) -> str:
    """The committed picture of a tutorial, or nothing."""
    path = PICTURES / f"{script.stem}.png"
    if not path.exists():
        return ""
    return f"![A picture that the tutorial draws](../../pictures/tutorials/{path.name}){{width={width}px}}"
