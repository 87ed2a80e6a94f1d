"""Every public function that takes labels reads them alike, in any container, and no missing one is ever a class."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat import geometry, tangent
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.linearization import lazy_agreement, lazy_limit
from geomfeat.regimes.stability import descend_at_rate, largest_stable_lr, sharpness
from geomfeat.regimes.training import PlainOptions, relative_loss, train_at_gamma, train_plainly, training_series
from geomfeat.regimes.width import coordinate_check, estimate_r, width_scaling
from geomfeat.types import Representation, Snapshot

N, C = 24, 3
CODES = [i * 7 % C for i in range(N)]
NAMES = [("ant", "bee", "cat")[c] for c in CODES]
X = torch.randn(N, 6, generator=stream(0, "labels contract"), dtype=torch.float64) + torch.eye(6).double()[CODES]
GRAM = X @ X.T


def net(seed: int = 0, outputs: int = C) -> nn.Module:
    return mlp(6, (5,), outputs, activation="tanh", seed=seed).double()


def number_of(capacity: Any) -> float:
    return capacity.capacity


def file_with(labels: Any) -> Any:
    import tempfile

    path = Path(tempfile.mkdtemp()) / "data.npz"
    np.savez(path, x=X.numpy(), y=np.asarray(labels if not isinstance(labels, pd.Series) else labels.to_numpy()))
    return gf.load_data(f"npz:{path}").labels.tolist()


def lights(conditions: Any, runs: Any) -> Any:
    places = np.arange(X.shape[1])[:, None]
    return gf.searchlight_rdms(X, conditions, places, n_voxels=2, runs=runs, progress=False).rdms.vectors.tolist()


def studied(y: Any) -> Any:
    study = gf.analyze(
        net(1), X, y, initial=net(), measures=["nc1"], location=False, progress=False, layers=["fc1"],
        options=gf.StudyOptions(umap=False),
    )  # fmt: skip
    return study.table["value"].tolist()


def compared(y: Any) -> Any:
    layers = {"a": Representation(X), "b": Representation(X**2)}
    found = gf.compare({k: {k: v} for k, v in layers.items()}, labels=y, measures=["nc1"], progress=False)
    return found.profiles["value"].tolist()


# What takes classes, and what it gives.
CLASSES: dict[str, Callable[[Any], Any]] = {
    "Representation": lambda y: Representation(X, y).labels.tolist(),
    "Recording": lambda y: gf.Recording(X, y).to_representation().labels.tolist(),
    "Recording groups": lambda y: gf.Recording(X, CODES, run=y).to_representation().groups.tolist(),
    "Dataset": lambda y: Dataset(X, y).labels.tolist(),
    "load_data": file_with,
    "extract": lambda y: gf.extract(net(), X, layers="fc1", labels=y, progress=False)["fc1"].labels.tolist(),
    "analyze": studied,
    "compare": compared,
    "as_manifolds": lambda y: geometry.as_manifolds(X, y).owner.tolist(),
    "capacity": lambda y: number_of(gf.capacity(X, y, n_draws=5, resample=None)),
    "capacity_curve": lambda y: gf.capacity_curve(X, y, sizes=(4,), repeats=1, n_draws=5).values["capacity"].tolist(),
    "capacity_by_layer": lambda y: number_of(
        gf.capacity_by_layer({"x": Representation(X)}, y, n_draws=5, resample=None)["x"]
    ),
    "common_draws": lambda y: geometry.common_draws(X, y, n_draws=3)[1].tolist(),
    "replica_capacity": lambda y: number_of(gf.replica_capacity(X, y, n_draws=5)),
    "simulated_capacity": lambda y: number_of(gf.simulated_capacity(X, y, n_trials=2)),
    "capacity_with_controls": lambda y: number_of(gf.capacity_with_controls(X, y, n_draws=5, resample=None)),
    "noise_control": lambda y: number_of(geometry.noise_control(X, y, n_draws=5)),
    "noise_corrected_capacity": lambda y: number_of(
        gf.noise_corrected_capacity(X, y, np.arange(N) // 3 % 2, groups=np.arange(N) // 6, n_draws=5).measured
    ),
    "shuffled_control": lambda y: number_of(geometry.shuffled_control(X, y, n_draws=5)),
    "nc1": lambda y: geometry.nc1(X, y),
    "movement": lambda y: (
        gf.movement(net(1), X, y, initial=net(), layers="fc1", progress=False).to_frame()["capacity_after"].tolist()[1:]
    ),
    "linear_probe": lambda y: gf.linear_probe(X, y, classifier="ridge").accuracy,
    "linear_probe groups": lambda y: (
        gf.linear_probe(X, [i % 2 for i in range(N)], groups=y, folds=2, classifier="ridge").accuracy
    ),
    "Representation groups": lambda y: Representation(X, groups=y).groups.unique(return_inverse=True)[1].tolist(),
    "label_gram": lambda y: geometry.label_gram(y).tolist(),
    "one_hot": lambda y: geometry.one_hot(y).tolist(),
    "rdm": lambda y: gf.rdm(X, y).vectors.tolist(),
    "rdm runs": lambda y: gf.rdm(X, [i // 12 for i in range(N)], dissimilarity="crossnobis", runs=y).vectors.tolist(),
    "noise_precision_by_run": lambda y: list(
        map(torch.Tensor.tolist, geometry.noise_precision_by_run(X, [i // 12 for i in range(N)], y).values())
    ),
    "searchlight_rdms": lambda y: lights(y, [i // 12 for i in range(N)]),
    "searchlight_rdms runs": lambda y: lights([i // 12 for i in range(N)], y),
    "condition_residuals": lambda y: geometry.condition_residuals(X, y)[0].tolist(),
}
# What takes classes or values to be learned.
GOALS: dict[str, Callable[[Any], Any]] = {
    "target_alignment": lambda y: geometry.target_alignment(GRAM, y).value,
    "kernel_regression": lambda y: tangent.kernel_regression(GRAM, y, ridge=1.0).train.values.tolist(),
    "train_at_gamma": lambda y: train_at_gamma(net(), X, y, gamma=1.0, max_steps=3).train_loss,
    "train_plainly": lambda y: train_plainly(net(), X, y, options=PlainOptions(max_steps=3)).train_loss,
    "lazy_limit": lambda y: lazy_limit(net(), X, y, time=0.1).train.tolist(),
    "lazy_agreement": lambda y: lazy_agreement(net(), X, y, gamma=1.0, lr=1e-3, steps=2).is_lazy,
    "sharpness": lambda y: sharpness(net(), X, y).top,
    "descend_at_rate": lambda y: descend_at_rate(net(), X, y, lr=1e-3, steps=2).losses,
    "largest_stable_lr": lambda y: str(largest_stable_lr(net(), X, y, (1.0,), steps=3)),
    "relative_loss": lambda y: float(relative_loss(torch.ones(N, C, dtype=torch.float64), y)),
    "training_series": lambda y: (
        training_series([Snapshot(net(), 0), Snapshot(net(1), 5), Snapshot(net(2), 9)], X, y).train_loss
    ),
    "locate": lambda y: (
        gf.locate(net(1), X, y, initial=net(), progress=False, options=gf.LocateOptions(n_bootstrap=2)).richness
    ),
    "forecast": lambda y: gf.forecast(net(), X, y, loss="mse", options=gf.ForecastOptions(n_bootstrap=2)).richness,
    "Monitor": lambda y: probe_loss(y),
    "train_ladder": lambda y: (
        gf.train_ladder(net(), X, y, (0.5, 2.0), progress=False, target_loss=0.9).rungs["richness"].tolist()
    ),
    "width_scaling": lambda y: width_scaling(family, X, y, (8, 16, 32), r=0.0, steps=2).readings,
    "estimate_r": lambda y: estimate_r(family, X, y, (8, 16, 32), steps=2).r,
    "coordinate_check": lambda y: str(coordinate_check(family, X, y, (8, 16, 32), r=0.0, steps=2)),
}


def probe_loss(y: Any) -> float:
    import tempfile

    options = gf.MonitorOptions(max_share=None, n_probes=N, kernel="none")
    row = gf.Monitor(net(), X, y, folder=tempfile.mkdtemp(), options=options).step(1)
    assert row is not None
    return row.get("probe_loss")


def family(width: int, seed: int = 0) -> nn.Module:
    return mlp(6, (width,), C, activation="tanh", seed=seed).double()


CONTAINERS = {
    "list": list,
    "array": np.array,
    "objects": lambda v: np.array(v, dtype=object),
    "series": pd.Series,
    "categorical": pd.Categorical,
    "masked nowhere": lambda v: np.ma.masked_array(v, mask=False),
}


def equal(a: Any, b: Any) -> bool:
    return a == b or str(a) == str(b)


@pytest.mark.parametrize("entrance", [*CLASSES, *GOALS])
def test_the_same_labels_are_the_same_in_any_container(entrance: str) -> None:
    read = {**CLASSES, **GOALS}[entrance]
    want = read(torch.tensor(CODES))
    for values in (CODES, NAMES):
        kinds = {"list": list, "series": pd.Series} if entrance in GOALS else CONTAINERS
        for kind, made in kinds.items():
            if (entrance == "load_data" and kind in ("objects", "categorical")) or (
                entrance == "load_data" and kind == "series" and values is NAMES
            ):
                continue  # an .npz without pickle holds no objects
            assert equal(read(made(values)), want), kind


BAD = {
    "NaN among names": ([*NAMES[:-1], float("nan")], "missing"),
    "None among names": (np.array([None, *NAMES[1:]], dtype=object), "missing"),
    "masked": (np.ma.masked_array(CODES, mask=[True] + [False] * (N - 1)), "masked"),
    "NA": (pd.Series([pd.NA, *CODES[1:]], dtype="Int64"), "missing"),
}


@pytest.mark.parametrize("entrance", [e for e in (*CLASSES, *GOALS) if e != "load_data"])
@pytest.mark.parametrize("kind", BAD)
def test_a_missing_label_is_refused_everywhere(entrance: str, kind: str) -> None:
    labels, said = BAD[kind]
    with pytest.raises(BadInput, match=said):
        {**CLASSES, **GOALS}[entrance](labels)


UNBOUND = ("label_gram", "one_hot")  # no samples to count
SHAPES = {
    "labels of tokens": (np.zeros((N, 4)), "token_all"),
    "a number": (np.array(3), "shape"),
    "one too few": (np.zeros(N - 1, int), f"{N - 1} (entries|samples).*{N}"),
}


@pytest.mark.parametrize("entrance", [e for e in CLASSES if e != "load_data"])
@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_that_are_no_class_for_each_sample_are_refused_everywhere(entrance: str, kind: str) -> None:
    labels, said = SHAPES[kind]
    if entrance not in UNBOUND or kind != "one too few":
        with pytest.raises(BadInput, match=said):
            CLASSES[entrance](labels)


MODULES = (
    "geomfeat", "geomfeat.geometry", "geomfeat.tangent", "geomfeat.location", "geomfeat.regimes",
    "geomfeat.activations", "geomfeat.study", "geomfeat.data.dataset",
)  # fmt: skip
# Labels that are whole numbers inside of the package, or no labels of samples at all.
OTHERS = {
    "balanced_order": "the labels of a Dataset", "ModularTask": "made by modular_addition",
    "group_jackknife": "a number of groups", "RDMs": "names of rows",
    "analyze_recording": "a word", "over_time": "a word", "trajectories": "a word",
    "participation_ratio_unbiased": "at least four groups: see its own tests",
}  # fmt: skip


def test_every_function_that_takes_labels_is_tested_here() -> None:
    known = {name.split()[0] for name in (*CLASSES, *GOALS)} | set(OTHERS)
    for module in map(importlib.import_module, MODULES):
        for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
            found = getattr(module, name)
            of_ours = str(getattr(found, "__module__", "")).startswith("geomfeat")
            if not of_ours or not (inspect.isroutine(found) or dataclasses.is_dataclass(found)):
                continue
            taken = {"labels", "groups", "targets", "runs"} & set(inspect.signature(found).parameters)
            assert not taken or name in known, f"{module.__name__}.{name} takes {taken}"
