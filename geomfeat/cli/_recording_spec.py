"""FILE[:field=NAME,...] of a recording, as `analyze --recording` and `compare` take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomfeat.data.spec_options import PathWithOptions
from geomfeat.errors import BadInput
from geomfeat.recordings import Recording, load_recording
from geomfeat.recordings.readers.field_names import KNOWN
from geomfeat.storage.atomic import file_sha256

HOW = ("missing", "sessions")
FILES = ("labels", "mask")  # fields that name a file
OPTIONS = (*KNOWN, *HOW)
FORM = "FILE[:FIELD=NAME,...]"


def recording_of(spec: str, seed: int, option: str = "--recording") -> Recording:
    """The recording that a text names: `session1.mat:x=rates,condition=stim,missing=drop trials`.

    Fields are those of `load_recording`; window=0:0.5 is from 0 to 0.5 s, dims=unit/trial the order of axes.

    Raises BadInput as `load_recording`, with the option that named it; and for sessions=apart, which gives several.
    """
    try:
        given = PathWithOptions.of(spec, OPTIONS)
        fields: dict[str, Any] = {name: _value(name, text) for name, text in given.options.items() if name not in HOW}
        how = {name: given.options[name] for name in HOW if name in given.options}
        if how.get("sessions") == "apart":
            raise BadInput("sessions=apart gives several recordings: use together or pseudo-population")
        return load_recording(given.path, seed=seed, **how, **fields)
    except BadInput as cause:
        raise BadInput(f"{option} {spec!r}: {cause}") from cause


def dated(spec: str) -> list[Any]:
    """The text and the SHA-256 of the files that it names."""
    given = PathWithOptions.of(spec, OPTIONS)
    paths = [given.path, *(Path(given.options[name]) for name in FILES if name in given.options)]
    return [spec, *(file_sha256(path) if path.is_file() else None for path in paths)]


def _value(name: str, text: str) -> Any:
    if name == "window":
        first, _, last = text.partition(":")
        return _number(name, first), _number(name, last)
    if name == "bin":
        return _number(name, text)
    return tuple(text.split("/")) if name == "dims" else text


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as cause:
        raise BadInput(f"{name}: {text!r} is no number; give seconds, such as window=0:0.5 or bin=0.05") from cause
