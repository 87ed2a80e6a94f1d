"""The probe of a sweep: last features on another data set, as rows of every run, also of those that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.testing import assert_close

from geomfeat.comparison.relations._relate import relate
from geomfeat.comparison.sweeps._sweep import SweepResult, sweep
from geomfeat.comparison.sweeps.config import parse_config
from geomfeat.comparison.sweeps.grid import _dataset, dataset_of, probe_of, runs_of
from geomfeat.comparison.sweeps.transfer import FEATURES, LAYER, MEASURE, last_features
from geomfeat.errors import BadInput
from geomfeat.models import build
from geomfeat.models.weights.checkpoints import load_weights
from geomfeat.models.zoo import ARCHITECTURES
from geomfeat.numerics import stream, tolerance
from tests.comparison.sweeps_on_disk import tiny

X = torch.randn(6, 1, 8, 8, generator=stream(0, "transfer"))


def blobs(folder: Path, *, shape: tuple[int, ...] = (1, 8, 8), classes: int = 4, name: str = "other") -> str:
    """40 samples in so many well separated classes, as a file; its SPEC."""
    draw = np.random.default_rng(0)
    y = np.arange(40) % classes
    x = draw.normal(size=(classes, *shape))[y] + 0.1 * draw.normal(size=(40, *shape))
    np.savez(folder / f"{name}.npz", x=x.astype(np.float32), y=y)
    return f"npz:{folder / name}.npz"


def probing(data: str, **changes: Any) -> dict[str, Any]:
    return tiny(measure={"probe": {"data": data, "n": 40}}, **changes)


def rows_of(table: Any) -> Any:
    return table[table["measure"] == MEASURE]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_last_features_are_what_the_read_out_is_given(name: str) -> None:
    model = build(name, seed=0).eval()
    found = last_features(model, X)
    assert found.layer == LAYER
    # A rate network is made of bare parameters, its read-out too.
    head = (lambda x: x @ model.readout.mT) if name == "rate_rnn" else model.get_submodule("head")
    if found.meta.get("project") is None:
        assert_close(head(found.x.to(torch.float32)), model(X), **tolerance(torch.float32, 10))
    assert found.d <= FEATURES


class Bare(nn.Module):
    """Two weights that no module holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Parameter(torch.eye(64)[:, :5]), nn.Parameter(torch.ones(5, 2))
        self.act = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x.flatten(1) @ self.first) @ self.last


def test_last_features_of_bare_parameters_are_what_the_last_hidden_layer_gives() -> None:
    assert_close(last_features(Bare(), X).x.to(torch.float32), torch.tanh(X.flatten(1)[:, :5]))


def test_wide_features_are_projected() -> None:
    wide = build("mlp", hidden=(FEATURES + 50,), seed=0)
    assert last_features(wide, X).d == FEATURES


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """A sweep of one run with a probe, on disk."""
    folder = tmp_path_factory.mktemp("probed")
    return sweep(probing(blobs(folder), seeds=1), folder / "out", progress=False)


def test_rows_of_a_sweep_are_those_of_a_separate_fit(probed: SweepResult) -> None:
    found = probed
    rows = rows_of(found.table)
    assert set(rows["at"]) == {"init", "trained"}
    assert {"linear_probe_accuracy", "capacity", "radius", "dimension"} <= set(rows["quantity"])
    assert set(rows["layer"]) == {LAYER}
    assert rows["options"].str.contains("other.npz").all()
    (address,), (run,) = found.plan, found.plan.values()
    other = probe_of(run, dataset_of(run))
    assert other is not None
    model = load_weights(build("mlp", hidden=(8, 8)), found.folder / "runs" / address / "trained.safetensors")
    with torch.no_grad():
        features = model[:-1](other.inputs).numpy()
    theirs = cross_val_score(
        LogisticRegression(max_iter=1000), StandardScaler().fit_transform(features), other.labels.numpy()
    )
    ours = rows.query("at == 'trained' and quantity == 'linear_probe_accuracy'")["value"].item()
    assert theirs.mean() == pytest.approx(1, abs=0.05)
    assert ours == pytest.approx(theirs.mean(), abs=0.05)


def test_a_run_that_diverged_is_probed_at_its_start_and_says_why_not_at_its_end(tmp_path: Path) -> None:
    found = sweep(probing(blobs(tmp_path), seeds=1, eta=1e6), tmp_path / "out", progress=False)
    rows = rows_of(found.table)
    assert found.outcomes == {"diverged": 1}
    assert rows[rows["at"] == "init"]["ok"].any()
    last = rows[rows["at"] == "trained"]
    assert len(last) == len(rows[rows["at"] == "init"])
    assert not last["ok"].any()
    assert last["note"].str.contains("diverged").all()


def test_without_a_probe_there_are_no_rows_and_with_one_the_rest_is_the_same(
    probed: SweepResult, tmp_path: Path
) -> None:
    plain = sweep(tiny(seeds=1), tmp_path / "a", progress=False).table
    assert rows_of(plain).empty
    rest = probed.table[probed.table["measure"] != MEASURE]
    assert rest["value"].tolist() == pytest.approx(plain["value"].tolist(), nan_ok=True)


def test_a_probe_is_part_of_a_run_s_address_by_its_content(tmp_path: Path) -> None:
    spec = blobs(tmp_path)
    (before,) = runs_of(parse_config(probing(spec, seeds=1)))
    blobs(tmp_path, classes=5)
    _dataset.cache_clear()
    (after,) = runs_of(parse_config(probing(spec, seeds=1)))
    assert before.address("v") != after.address("v")


def test_a_probe_can_be_related_to_what_was_varied(tmp_path: Path) -> None:
    found = sweep(probing(blobs(tmp_path), sigma=[0.5, 1.0, 2.0], seeds=2), tmp_path / "out", progress=False)
    slopes = relate(found.table).slopes
    assert MEASURE in set(slopes["measure"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "fashoin-mnist", "near: fashion-mnist"),
        (lambda folder: blobs(folder, classes=1), "fewer than two classes"),
        (lambda folder: blobs(folder, shape=(7,)), "both must be images"),
        (lambda folder: blobs(folder, shape=(1, 5, 5)) + "x", "no such file"),
    ],
)
def test_a_probe_that_cannot_be_taken_is_refused_before_any_training(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        runs_of(parse_config(probing(make(tmp_path), seeds=1)))


def test_mistakes_in_a_probe_are_reported_by_name() -> None:
    with pytest.raises(BadInput, match=r"measure\.dat: no such key; near: data"):
        parse_config({"measure": {"probe": {"data": "digits", "dat": 3}}})
    with pytest.raises(BadInput, match=r"measure\.data: is missing"):
        parse_config({"measure": {"probe": {"n": 30}}})
