"""A path with options: PATH[:name=value,...], as in `text:reviews.parquet:text=body,label=stars`."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from geomfeat.errors import BadInput, near

_FORM = re.compile(r"(?P<path>.*?)(?::(?P<options>\w+=.*))?", re.DOTALL)


@dataclass(frozen=True)
class PathWithOptions:
    """A file or folder of data, and how it is read."""

    path: Path
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, known: Collection[str]) -> PathWithOptions:
        """The path and options that a text names; BadInput for an option that is not known, empty, or comes twice.

        >>> PathWithOptions.of("a.jsonl:text=body,max_length=64", ["text", "max_length"]).options
        {'text': 'body', 'max_length': '64'}
        """
        found = _FORM.fullmatch(text)
        assert found is not None
        given: dict[str, str] = {}
        for part in (found["options"] or "").split(",") if found["options"] else ():
            name, _, value = part.partition("=")
            if name not in known:
                raise BadInput(f"there is no option {name!r}; near: {near(name, known)}. All: {', '.join(known)}")
            if not value or name in given:
                raise BadInput(f"option {name!r} is {'given twice' if value else 'empty'}: give {name}=VALUE once")
            given[name] = value
        return cls(Path(found["path"]).expanduser(), given)

    def number(self, name: str) -> int | None:
        """A whole number of at least 1, or None where it is not given."""
        value = self.options.get(name)
        if value is None:
            return None
        if not value.isdecimal() or int(value) < 1:
            raise BadInput(f"{name}={value!r} must be a whole number of at least 1")
        return int(value)
