"""Reads a page as a test needs it: elements with attributes, visible text, and the numbers behind the cells."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "input", "hr", "col"}


@dataclass
class Read:
    """What a page holds."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)
    styles: list[str] = field(default_factory=list)
    numbers: list[tuple[float, str]] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Visible text, white space joined."""
        return " ".join(" ".join(self.words).split())

    @property
    def links(self) -> list[str]:
        """Targets of the contents, in order."""
        return [a["href"] for tag, a in self.elements if tag == "a" and a.get("class") != "skip"]

    @property
    def ids(self) -> list[str]:
        """All ids in order."""
        return [a["id"] for _, a in self.elements if "id" in a]


def assert_whole(page: Read) -> None:
    """Every element is closed, and every id is there once."""
    assert page.unclosed == []
    assert len(set(page.ids)) == len(page.ids)


def assert_contents_lead_to_all_sections(page: Read) -> None:
    """The links of the contents are those of the sections, in their order."""
    sections = [a["id"] for tag, a in page.elements if tag == "section"]
    assert page.links == [f"#{name}" for name in sections]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.read, self.open = Read(), []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {k: v or "" for k, v in attrs}
        self.read.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            self.open.pop()
        elif tag not in {"path"}:
            self.read.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.read.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "script":
            key = attributes.get("id", f"script {len(self.read.scripts)}")
            self.read.scripts[key] = self.read.scripts.get(key, "") + data
        elif tag == "style":
            self.read.styles.append(data)
        else:
            self.read.words.append(data)
            if tag == "data":
                self.read.numbers.append((float(attributes["value"]), data))


def unpacked(text: str) -> str:
    """What a script of the page holds as gzip in base64."""
    return gzip.decompress(base64.b64decode(text)).decode()


def read(path: Path) -> Read:
    """Parse a page."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    parser.read.unclosed += [tag for tag, _ in parser.open]
    for name, spec in json.loads(unpacked(parser.read.scripts["specs-gzip"])).items():
        parser.read.scripts[f"{name}-spec"] = json.dumps(spec)
    return parser.read
