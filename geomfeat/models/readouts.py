"""A readout by its name: what reads a network's outputs, given as a function or as the place where one is defined."""

from __future__ import annotations

import inspect
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.models.outputs import CALLED, RETURNS, Readout
from geomfeat.models.weights.checkpoints import load_object


def as_readout(readout: Readout | str | None) -> Any:
    """The readout itself, or the function that "pkg.module:function" or "path/file.py:function" names.

    It is called as readout(output, inputs) with what the model returned and was given, and returns (n, C).

    Raises BadInput for a missing module, file or attribute, or something that cannot be called so.

    >>> as_readout("operator:getitem")([7.0, 8.0], 1)
    8.0
    """
    if readout is None or (callable(readout) and not isinstance(readout, str)):
        _require_two_arguments(readout)
        return readout
    if not isinstance(readout, str):
        raise BadInput(
            f"readout={readout!r} must be a function of (output, inputs), or its name as 'pkg.module:function'"
        )
    found = load_object(readout, "readout")
    if not callable(found):
        raise BadInput(
            f"readout={readout!r} is a {type(found).__name__}, not a function: name one of (output, inputs) that "
            "returns a tensor of (samples, outputs)"
        )
    _require_two_arguments(found)
    return found


def _require_two_arguments(readout: Any) -> None:
    try:
        signature = inspect.signature(readout) if readout is not None else None
    except (TypeError, ValueError):  # functions in C may not say what they take
        return
    try:
        if signature is not None:
            signature.bind(None, None)
    except TypeError as cause:
        raise BadInput(f"readout={readout!r} is called as {CALLED} ({cause}): {RETURNS}") from cause
