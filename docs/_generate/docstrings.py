"""Docstrings as Markdown: prose stays prose, examples and equations become blocks, arguments a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import dedent

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")
_ENTRY = re.compile(r"(\*{0,2}\w[\w, *]*?)(?: \([^)]*\))?: ")
_MARKUP = re.compile(r"([\\*_\[\]<>$|{}])")


def to_markdown(docstring: str) -> str:
    """The Markdown of a docstring whose indentation is that of `inspect.getdoc`.

    >>> print(to_markdown("A norm of x_i.\\n\\n    |x| = 1\\n\\n>>> 1 + 1\\n2"))
    A norm of x\\_i.
    <BLANKLINE>
    ```text
    |x| = 1
    ```
    <BLANKLINE>
    ```python
    >>> 1 + 1
    2
    ```
    """
    return "\n\n".join(block for part in _parts(docstring) for block in _blocks(part))


def _parts(docstring: str) -> Iterator[list[str]]:
    """Pieces between blank lines; a section of arguments, or an indented block, goes on over them."""
    part: list[str] = []
    for line in docstring.splitlines():
        goes_on = part and line.startswith(" ") and (_SECTION.fullmatch(part[0]) or part[0].startswith(" "))
        if not line.strip():
            if part:
                part.append("")
            continue
        if part and part[-1] == "" and not goes_on:
            yield _trimmed(part)
            part = []
        part.append(line.rstrip())
    if part:
        yield _trimmed(part)


def _trimmed(part: list[str]) -> list[str]:
    while part and not part[-1]:
        part = part[:-1]
    return part


def _blocks(part: list[str]) -> Iterator[str]:
    """The Markdown of one piece. Prose may be followed by an example or an equation without a blank line between."""
    if _SECTION.fullmatch(part[0]):
        yield f"**{part[0].removesuffix(':')}**"
        yield _entries(dedent("\n".join(part[1:])).splitlines())
        return
    prose: list[str] = []
    while part and not part[0].startswith((">>>", "    ", "  ")):
        prose.append(part[0])
        part = part[1:]
    if prose:
        yield "\n".join(escaped(line) for line in prose)
    if part:
        kind = "python" if part[0].lstrip().startswith(">>>") else "text"
        yield f"```{kind}\n{dedent(chr(10).join(part))}\n```"


def _entries(lines: list[str]) -> str:
    """`name: text` with continuation lines, as a list."""
    found: list[str] = []
    for line in filter(str.strip, lines):
        entry = None if line.startswith(" ") else _ENTRY.match(line)
        if entry:
            names, about = line[: entry.end() - 2], line[entry.end() :]
            found.append(f"- `{names}`: {escaped(about)}")
        elif found:
            found[-1] += f"\n  {escaped(line.strip())}"
        else:
            found.append(escaped(line.strip()))
    return "\n".join(found)


def escaped(text: str) -> str:
    """A line of prose in which Markdown finds no markup but code.

    >>> escaped("`a_b` times x_0 [n]")
    '`a_b` times x\\\\_0 \\\\[n\\\\]'
    """
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # an opening tick without its end is a character
        return _MARKUP.sub(r"\\\1", text).replace("`", r"\`")
    return "`".join(piece if i % 2 else _MARKUP.sub(r"\\\1", piece) for i, piece in enumerate(pieces))
