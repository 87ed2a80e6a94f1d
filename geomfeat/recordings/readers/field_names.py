"""Which array, column or coordinate is which field of a recording: by the names given, or by the usual ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import numpy as np

from geomfeat.errors import BadInput, near

# Field -> names that it usually has, besides its own.
USUAL: dict[str, tuple[str, ...]] = {
    "x": ("x", "responses", "response", "data", "measurements", "rates", "firing_rates", "counts", "spike_counts",
          "patterns", "betas"),
    "condition": ("condition", "conditions", "category", "category_name", "label", "labels", "stimulus", "stim",
                  "stimulus_id", "object_name", "trial_type", "y"),
    "run": ("run", "runs", "chunks"),
    "session": ("session", "sessions", "session_id"),
    "subject": ("subject", "subjects", "animal", "subject_id"),
    "area": ("area", "areas", "region", "brain_area", "roi", "location"),
    "unit": ("unit", "units", "neuron", "neurons", "unit_id", "neuroid_id", "channel", "channels", "voxel", "cell"),
    "time": ("time", "times", "t", "time_bin", "time_bin_center"),
    "trial": ("trial", "trials", "trial_id", "presentation", "observation"),
    "value": ("value", "values", "response", "rate", "firing_rate", "count", "spike_count", "beta"),
}  # fmt: skip
AXES = ("trial", "unit", "time")
DIMENSIONS = {
    "trial": (*USUAL["trial"], "sample", "samples", "stimulus", "repetition", "epoch", "epochs", "observations"),
    "unit": (*USUAL["unit"], "neuroid", "electrode", "feature"), "time": USUAL["time"],
}  # fmt: skip


class Fields(TypedDict, total=False):
    """Where the parts of a recording are; see `load_recording`."""

    x: Any
    condition: Any
    run: Any
    session: Any
    subject: Any
    area: Any
    unit: Any
    time: Any
    trial: str
    value: str
    classes: Any
    dims: tuple[str, ...]
    labels: Any
    mask: Any
    event: str
    window: tuple[float, float]
    bin: float
    name: str


KNOWN = tuple(Fields.__annotations__)


def checked_fields(fields: Mapping[str, Any], taken: Iterable[str], kind: str) -> dict[str, Any]:
    """The fields that are given (not None); BadInput for one that is unknown, or that this kind of source has not."""
    given = {name: value for name, value in fields.items() if value is not None}
    unknown = sorted(set(given) - set(KNOWN))
    if unknown:
        raise BadInput(f"there is no field {unknown[0]!r}; near: {near(unknown[0], KNOWN)}. All: {', '.join(KNOWN)}")
    odd = sorted(set(given) - {*taken, "name"})
    if odd:
        raise BadInput(f"{odd[0]}= is not of {kind}, which takes {', '.join(sorted(taken))}")
    return given


def found_name(field: str, given: Any, names: Iterable[str], where: str) -> str | None:
    """The name of a field among those that are there: the given one, or a usual one; None where there is none.

    Raises BadInput for a given name that is not there, and where several usual ones are.
    """
    names = list(names)
    if isinstance(given, str):
        if given not in names:
            raise BadInput(
                f"{where} has no {given!r} for {field}=; near: {near(given, names)}. All: {', '.join(names)}"
            )
        return given
    if field in names:
        return field
    lower = {name.lower(): name for name in reversed(names)}
    usual = list(dict.fromkeys(lower[name] for name in USUAL.get(field, ()) if name in lower))
    if len(usual) > 1:
        raise BadInput(
            f"{where} has {' and '.join(map(repr, usual))}, each of which may be {field}: name one, {field}="
        )
    return usual[0] if usual else None


def required(field: str, given: Any, names: Iterable[str], where: str) -> str:
    """As `found_name`; BadInput where there is none."""
    names = list(names)
    found = found_name(field, given, names, where)
    if found is None:
        raise BadInput(f"{where} has no {field}: name it by {field}=. It holds {', '.join(names[:20]) or 'nothing'}")
    return found


def named_classes(codes: Any, classes: Any) -> Any:
    """Condition codes 0, 1, ... as the names that they stand for; BadInput for a code without a name."""
    if classes is None:
        return codes
    values, words = np.asarray(codes), [text_of(word) for word in np.asarray(classes).ravel().tolist()]
    if values.dtype.kind not in "iu" or int(values.min()) < 0 or int(values.max()) >= len(words):
        raise BadInput(
            f"classes names the codes 0 to {len(words) - 1}, but the conditions are {values.dtype} from {values.min()} "
            f"to {values.max()}: leave classes= out, or number them so"
        )
    return np.array(words)[values]


def text_of(value: Any) -> str:
    """Bytes or anything else as text."""
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)


def turned(x: np.ndarray, dims: Iterable[str] | None, where: str) -> np.ndarray:
    """x with its axes as (trial, unit[, time]), given the order that they are in; BadInput for other words."""
    if dims is None:
        return x
    order = list(dims)
    if sorted(order) not in (sorted(AXES[:2]), sorted(AXES)) or len(order) != x.ndim:
        raise BadInput(
            f"dims={tuple(order)!r} must say which of 'trial', 'unit' (and 'time') each of the {x.ndim} axes of "
            f"{where} is"
        )
    return np.transpose(x, [order.index(axis) for axis in AXES if axis in order])
