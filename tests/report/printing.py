"""What Chromium prints of a page, read from the PDF: panels, by the colour of their paper, and their sheets."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from geomfeat.report.pages.frame import packed
from tests.report.browser import Browser
from tests.report.html_reader import unpacked

FORM, REFERENCE = b"/Subtype /Form", re.compile(rb"(\d+) 0 R")
# Timers that never fire: no plot but the first is drawn before the page is printed; and none for the screen afterwards.
BODY = """<body><script>
window.setTimeout = function () { return 0; };
window.addEventListener("afterprint", function (event) { event.stopImmediatePropagation(); });
</script>"""
FIRST_DRAWN = "document.querySelector('.plot .main-svg') !== null"


@dataclass(frozen=True)
class Printed:
    """Number of panels of the page, those in the PDF, those on more than one sheet, and the number of sheets."""

    panels: int
    seen: list[int]
    cut: list[int]
    sheets: int


def printed(browser: Browser, path: Path, folder: Path) -> Printed:
    """Print a copy of the page in which every panel has paper of its own colour."""
    count = 0

    def marked(_: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return '"paper_bgcolor":"rgb({},{},{})"'.format(*_colour(count))

    def repacked(found: re.Match[str]) -> str:
        return found[1] + packed(re.sub('"paper_bgcolor":"#ffffff"', marked, unpacked(found[2])))

    text = re.sub('(id="specs-gzip">)([^<]*)', repacked, path.read_text(encoding="utf-8"))
    copy = folder / "marked.html"
    copy.write_text(text.replace("<body>", BODY, 1), encoding="utf-8")
    browser.open(copy, width=1280)
    browser.wait_for(FIRST_DRAWN)
    sheets = [_colours(content) for content in _sheets(browser.printed())]
    on = {i: sum(_colour(i) in colours for colours in sheets) for i in range(1, count + 1)}
    return Printed(count, [i for i in on if on[i]], [i for i in on if on[i] > 1], len(sheets))


def _colour(number: int) -> tuple[int, int, int]:
    return number % 256, 200 + number // 256, 100


def _colours(content: bytes) -> set[tuple[int, ...]]:
    """All colours that something is filled with."""
    found = re.findall(rb"([\d.]+) ([\d.]+) ([\d.]+) rg", content)
    return {tuple(round(255 * float(share)) for share in triple) for triple in found}


def _sheets(pdf: bytes) -> list[bytes]:
    """The drawing commands of every sheet, those of the forms that it draws included."""
    objects = {int(m[1]): m[2] for m in re.finditer(rb"(?:^|\n)(\d+) 0 obj\s(.*?)endobj", pdf, re.DOTALL)}
    sheets = []
    for _, sheet in sorted(objects.items()):
        if not re.search(rb"/Type\s*/Page\b", sheet):
            continue
        head = re.sub(rb"/Parent \d+ 0 R|/Annots (\[.*?\]|\d+ 0 R)", b"", sheet, flags=re.DOTALL)
        left, seen, content = [int(n) for n in REFERENCE.findall(head)], set(), b""
        own = {int(n) for n in re.findall(rb"/Contents (\d+) 0 R", sheet)}
        while left:
            number = left.pop()
            if number in seen or number not in objects:
                continue
            seen.add(number)
            head = objects[number].partition(b"stream")[0]
            if FORM in head or number in own:
                content += _stream(objects[number]) + b"\n"
            if b"/Subtype /Image" not in head:
                left += [int(n) for n in REFERENCE.findall(re.sub(rb"/Parent \d+ 0 R", b"", head))]
        sheets.append(content)
    return sheets


def _stream(body: bytes) -> bytes:
    found = re.search(rb"stream\r?\n(.*)\r?\nendstream", body, re.DOTALL)
    if found is None:
        return b""
    return zlib.decompressobj().decompress(found[1]) if b"/FlateDecode" in body[: found.start()] else found[1]
