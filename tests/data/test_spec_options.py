"""Paths with options in one word."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomfeat.data.spec_options import PathWithOptions
from geomfeat.errors import BadInput

KNOWN = ("text", "label", "size")


@pytest.mark.parametrize(
    ("word", "path", "options"),
    [
        ("a.txt", "a.txt", {}),
        ("runs/a.jsonl:text=body", "runs/a.jsonl", {"text": "body"}),
        ("a:b/c.txt", "a:b/c.txt", {}),
        ("a.parquet:label=my label,text=hf:b", "a.parquet", {"label": "my label", "text": "hf:b"}),
    ],
)
def test_path_and_options(word: str, path: str, options: dict[str, str]) -> None:
    assert PathWithOptions.of(word, KNOWN) == PathWithOptions(Path(path), options)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("a:txt=b", "no option 'txt'; near: text"),
        ("a:text=", "option 'text' is empty"),
        ("a:text=b,text=c", "option 'text' is given twice"),
        ("a:text=b,", "no option ''"),
    ],
)
def test_options_that_cannot_be_used(word: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        PathWithOptions.of(word, KNOWN)


@pytest.mark.parametrize("value", ["0", "-3", "many", "1.5"])
def test_numbers(value: str) -> None:
    assert PathWithOptions.of("a:size=32", KNOWN).number("size") == 32
    assert PathWithOptions.of("a", KNOWN).number("size") is None
    with pytest.raises(BadInput, match=f"size='{value}' must be a whole number"):
        PathWithOptions.of(f"a:size={value}", KNOWN).number("size")
