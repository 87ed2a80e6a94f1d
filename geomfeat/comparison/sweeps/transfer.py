"""The last features of a trained network on another data set: a linear probe and the capacity."""

from __future__ import annotations

import json

from torch import Tensor, nn

from geomfeat.activations import ExtractOptions, extract, fired_layers, select_layers
from geomfeat.comparison.sweeps.grid import probe_of
from geomfeat.comparison.sweeps.outcomes import TrainedRun
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.data.dataset import Dataset
from geomfeat.errors import LayerNotFound
from geomfeat.numerics import Device
from geomfeat.registry import get
from geomfeat.study.measure_rows import guarded, measure_layers
from geomfeat.study.table import Row, failed_rows, options_text
from geomfeat.types import Representation

MEASURE, LAYER = "transfer_probe", "last features"
MEASURED = ("linear_probe_accuracy", "capacity")
FEATURES = 1000  # wider layers are projected to so many, as in the published protocol (Chou et al. 2025)


def transfer_rows(run: RunConfig, data: Dataset, trained: TrainedRun, device: Device = "cpu") -> list[Row]:
    """Rows "transfer_probe" of the first and the last weights; none where the run asks for no probe.

    Quantities are linear_probe_accuracy (cross-validated) and those of the measure capacity. A failure is rows with
    the reason.
    """
    probe = run.measure.probe
    if probe is None:
        return []
    networks = {"init": trained.initial, "trained": trained.trained if trained.usable else None}
    found: list[Row] = []
    for at, network in networks.items():
        if network is None:
            found += _failed(f"not measured: training {trained.outcome} ({trained.note})", at)
            continue
        rep, _, why = guarded(lambda n=network: _features(n, run, data, device), f"{MEASURE} of {at}")
        if why:
            found += _failed(why, at)
            continue
        for name in MEASURED:
            found += measure_layers(get(name), rep, seed=run.measure.seed, at=at)
    return [{**r, "measure": MEASURE, "options": _with_data(r["options"], probe.data)} for r in found]


def _features(network: nn.Module, run: RunConfig, data: Dataset, device: Device) -> Representation:
    other = probe_of(run, data)
    assert other is not None
    return last_features(network, other.inputs, other.labels, device)


def last_features(
    network: nn.Module, inputs: Tensor, labels: Tensor | None = None, device: Device | None = None
) -> Representation:
    """What the last module with weights, the read-out, is given: (n, d), projected where d is above 1000.

    Of a network of bare parameters, what its last hidden layer gives.

    >>> import torch
    >>> from geomfeat.models.vgg import vgg
    >>> last_features(vgg(channels=(4, 8)), torch.zeros(5, 1, 8, 8)).x.shape
    torch.Size([5, 32])
    """
    try:
        with_weights = set(select_layers(network, "weights"))
    except LayerNotFound:  # no module holds weights: parameters are bare
        layers, io = "*", "output"
    else:
        fired = fired_layers(network, inputs, device=device)
        layers, io = next(name for name in reversed(fired) if name in with_weights), "input"
    options = ExtractOptions(project=FEATURES, io=io)
    given = extract(network, inputs, labels, layers=layers, device=device, progress=False, options=options)
    found = list(given.values())[-1]
    return Representation(found.x, found.labels, LAYER, found.meta)


def _failed(why: str, at: str) -> list[Row]:
    quantities = [quantity for name in MEASURED for quantity in get(name).quantities]
    return failed_rows(quantities, why, at=at, measure=MEASURE, layer=LAYER)


def _with_data(options: str, spec: str) -> str:
    return options_text({**json.loads(options), "data": spec})
