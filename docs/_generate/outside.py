"""Pages that lie elsewhere in the repository, and are part of the site too."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "location-validation.md": "data_cards/location-validation.md",
}


TITLES = {"location-validation.md": "The validation of the location"}


def pages() -> dict[str, str]:
    """The text of each; a card begins with a block of settings, and has no title of its own."""
    texts = {name: (ROOT / path).read_text(encoding="utf-8") for name, path in FILES.items()}
    return {name: f"# {TITLES[name]}\n\n{without_settings(t)}" if name in TITLES else t for name, t in texts.items()}


def without_settings(text: str) -> str:
    """A page without the YAML between two lines of dashes at its beginning.

    >>> without_settings("---\\na: 1\\n---\\nText")
    'Text'
    """
    return text.split("\n---\n", 1)[1] if text.startswith("---\n") else text
