"""Load the models, weights and data that a command names; and the request that is saved with the results."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from geomfeat._version import __version__
from geomfeat.cli._networks import initial_sum, networks_of, weights_sum
from geomfeat.data._load_data import load_data
from geomfeat.data.content_hash import contents
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout
from geomfeat.models.readouts.reading import as_readout, names_tokens
from geomfeat.models.sources.token_limits import require_tokens_fit
from geomfeat.models.weights.checkpoints import load_object, what_went_wrong
from geomfeat.storage.atomic import file_sha256

if TYPE_CHECKING:
    from geomfeat.location.options import LocateOptions
    from geomfeat.location.planning.plan import LocationPlan
    from geomfeat.location.reference_ladder import Ladder
    from geomfeat.study import Study

DEFAULT_SAMPLES = 500
# The standard error of an accuracy on 10,000 samples is at most half a per cent; more would only cost time.
MOST_FOR_ACCURACY = 10_000


def dated(request: Mapping[str, Any], steps: Mapping[int, Path]) -> dict[str, Any]:
    """The request as JSON, with files by their content (SHA-256) and the version: equal where results must be equal.

    Raises BadInput for a missing weights file.
    """
    found = {"version": __version__, **request}
    found["trained"] = None if request["trained"] is None else weights_sum(request["trained"], "--trained")
    found["initial"] = initial_sum(request)
    if request.get("adapter") is not None:
        found["adapter"] = weights_sum(request["adapter"], "--adapter")
    if request.get("optimizer") is not None:
        found["optimizer"] = _sum(request["optimizer"], "--optimizer")
    if not isinstance(ladder_of(request["ladder"]), int | None):
        found["ladder"] = _sum(request["ladder"], "--ladder")
    found["checkpoints"] = {str(step): weights_sum(path, "--checkpoints") for step, path in steps.items()} or None
    for name in ("model", "data", "readout"):
        given = request.get(name)
        found[name] = None if given is None else [str(given), *contents(str(given))]
    return found


def readout_of(spec: str | None) -> Readout | None:
    """The read-out, or function (output, inputs) -> outputs (n, C), that --readout names; None if there is none.

    Raises BadInput if it is not a function of two arguments; and, when called, if it raises, ends the program, or
    does not return a tensor with a row for each sample.
    """
    if spec is None or names_tokens(spec):
        return as_readout(spec)
    found = load_object(spec, "readout")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as cause:
        raise BadInput(f"readout={spec!r} must be a function of (output, inputs): {cause}") from cause

    def read(output: Any, inputs: Any) -> Tensor:
        try:
            made = found(output, inputs)
        except (Exception, SystemExit) as cause:
            raise BadInput(f"readout={spec!r} failed when it was called: {what_went_wrong(cause)}") from cause
        if not isinstance(made, Tensor) or made.ndim == 0:
            kind = "one number" if isinstance(made, Tensor) else type(made).__name__
            raise BadInput(f"readout={spec!r} returned {kind}: it must return a tensor with a row for each sample")
        return made

    # Finished parts are found by the name of the function that made them, so the name must change with its file.
    read.__qualname__ = " ".join([spec, *contents(spec)])
    return read


def _sum(path: Any, option: str) -> str:
    if not Path(path).is_file():
        raise BadInput(f"{option} {str(path)!r}: no such file")
    return file_sha256(path)


def ask(
    request: Mapping[str, Any], steps: Mapping[int, Path], *, batch_size: int, progress: bool, resume: Path
) -> Study:
    """Load what the request names and analyze it."""
    from dataclasses import replace

    from geomfeat.activations import ExtractOptions
    from geomfeat.study import StudyOptions, analyze

    networks = networks_of(request, steps)
    whole = load_data(request["data"], model=networks.folder)
    part = samples(whole, request["n"], request["seed"])
    require_tokens_fit(networks.trained, part.inputs)
    found = analyze(
        networks.trained, part.inputs, part.known, initial=networks.initial, layers=request["layers"] or "*",
        checkpoints=networks.checkpoints,
        measures=request["measures"], groups=part.groups, seed=request["seed"], device=request["device"],
        progress=progress,
        extraction=ExtractOptions(
            reduce=request["reduce"], project=request["project"], batch_size=batch_size,
            readout=readout_of(request.get("readout")),
        ),
        location=location_options(request),
        options=StudyOptions(
            name=request["name"], evaluate=parts_of(whole), umap=drawn_layer(request["umap_layer"]), resume=resume,
            factory=networks.factory, ladder=ladder_of(request["ladder"]), optimizer=request.get("optimizer"),
        ),
    )  # fmt: skip
    dataset = {
        "name": whole.name,
        "samples": whole.n,
        "preprocessing": whole.preprocessing,
        "classes": list(whole.classes),
    }
    return replace(found, settings={**found.settings, "dataset": dataset})


def planned(request: Mapping[str, Any], steps: Mapping[int, Path]) -> LocationPlan:
    """Load what the request names, and plan its location."""
    from geomfeat.location.planning.plan import plan_location

    networks = networks_of(request, steps)
    part = samples(load_data(request["data"], model=networks.folder), request["n"], request["seed"])
    require_tokens_fit(networks.trained, part.inputs)
    return plan_location(
        networks.trained, part.inputs, initial=networks.initial, optimizer=request.get("optimizer"),
        readout=readout_of(request.get("readout")), ladder=request["ladder"] is not None, seed=request["seed"],
        layers=request["layers"] or "*", device=request["device"],
        options=location_options(request),
    )  # fmt: skip


def ladder_of(option: Any) -> int | Ladder | None:
    """The ladder that --ladder names: a number of networks to train, or a saved ladder; BadInput for neither."""
    if option is None or isinstance(option, int):
        return option
    if str(option).isdecimal():
        return int(option)
    from geomfeat.location.reference_ladder import Ladder

    if not Path(option).is_file():
        raise BadInput(f"--ladder {str(option)!r} is neither a number of networks to train nor the file of a ladder")
    return Ladder.load(option)


def samples(data: Dataset, n: int | None, seed: int) -> Dataset:
    """`n` samples, balanced over the classes: by default up to 500; 0 means all."""
    if n is None:
        n = min(DEFAULT_SAMPLES, data.n)
    return data.subsample(None if n == 0 else n, seed)


def parts_of(data: Dataset) -> dict[str, tuple[Any, Any]]:
    """The parts of the data for which accuracy is reported: "train" and "test", or "data" without a test part."""
    few = lambda part: part.subsample(min(part.n, MOST_FOR_ACCURACY))  # noqa: E731
    if data.test_inputs is None:
        parts = {"data": few(data)}
    else:
        parts = {"train": few(data.training()), "test": few(data.testing())}
    return {name: (part.inputs, part.known) for name, part in parts.items() if part.known is not None}


def location_options(request: Mapping[str, Any]) -> LocateOptions:
    """How a request says that the network is located."""
    from geomfeat.location.options import LocateOptions

    return LocateOptions(
        n_probes=request.get("probes"), projections=request.get("projections"), loss=request.get("loss"),
        budget=budget_of(request.get("budget")),
    )  # fmt: skip


def budget_of(option: str | None) -> tuple[float | None, float | None] | None:
    """(seconds, bytes) of --budget "SECONDS" or "SECONDS,GIGABYTES"; None for none.

    >>> budget_of("60"), budget_of("60,2.5"), budget_of(",3"), budget_of(None)
    ((60.0, None), (60.0, 2500000000.0), (None, 3000000000.0), None)
    """
    if option is None:
        return None
    seconds, _, gigabytes = option.partition(",")
    try:
        most = float(seconds) if seconds else None
        memory = 1e9 * float(gigabytes) if gigabytes else None
    except ValueError as cause:
        raise BadInput(f"--budget {option!r}: give SECONDS, or SECONDS,GIGABYTES, such as 60 or 60,2.5") from cause
    return most, memory


def drawn_layer(option: str | None) -> str | bool:
    """The layer that --umap-layer names: True for the last one, False for none."""
    return {None: True, "none": False}.get(option, option or False)
