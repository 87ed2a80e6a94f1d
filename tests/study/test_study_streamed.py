"""Tables of a loader are those of the stacked tensor; what would need another order is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from geomfeat.activations import extract
from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput
from geomfeat.location.options import LocateOptions
from geomfeat.study import StudyOptions, analyze

N = 40
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=7, **options)


def assert_same_tables(a: pd.DataFrame, b: pd.DataFrame) -> None:
    columns = [c for c in a.columns if c != "seconds"]
    pd.testing.assert_frame_equal(a[columns], b[columns], rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def stacked() -> Any:
    return analyze(network(1), X, Y, initial=network(0), progress=False)


@pytest.mark.parametrize("source", [loader, lambda: TensorDataset(X, Y), lambda: Dataset(X, Y)])
def test_a_study_of_a_loader_is_that_of_the_tensor(source: Any, stacked: Any) -> None:
    found = analyze(network(1), source(), initial=network(0), progress=False)
    assert_same_tables(found.table, stacked.table)
    assert found.location.richness == pytest.approx(stacked.location.richness)
    assert found.settings["accuracy"] == stacked.settings["accuracy"]
    assert found.settings["n"] == N
    assert sorted(found.arrays) == sorted(stacked.arrays)


def test_parts_of_a_study_are_found_again(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"measures": ["stable_rank"], "location": False, "progress": False}
    first = analyze(network(1), loader(), options=StudyOptions(umap=False, resume=tmp_path), **arguments)
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    again = analyze(
        network(1),
        DataLoader(TensorDataset(X, Y), batch_size=11),
        options=StudyOptions(umap=False, resume=tmp_path),
        **arguments,
    )
    assert_same_tables(first.table, again.table)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept


def test_a_comparison_of_a_loader_is_that_of_the_tensor() -> None:
    models = {"a": network(0), "b": network(1)}
    arguments: dict[str, Any] = {"options": CompareOptions(n_draws=20), "progress": False}
    plain, found = compare(models, X, Y, **arguments), compare(models, loader(), **arguments)
    assert (plain.similarity == found.similarity).all()
    assert_same_tables(plain.profiles, found.profiles)
    assert found.settings["classes"] == 3


def test_recordings_of_the_same_samples_are_recognised_beside_a_loader() -> None:
    from geomfeat.activations.stored_representations import fingerprint

    reps = extract(network(0), X, layers="0", progress=False)
    known = {key: rep.with_(meta={**rep.meta, "inputs": fingerprint(X)}) for key, rep in reps.items()}
    found = compare({"net": network(0), "seen": known}, loader(), measures=[], progress=False)
    assert found.similarity[0, 2] == pytest.approx(1)
    other = {key: rep.with_(meta={**rep.meta, "inputs": fingerprint(X + 1)}) for key, rep in reps.items()}
    with pytest.raises(BadInput, match="other samples, or in another order"):
        compare({"net": network(0), "seen": other}, loader(), measures=[], progress=False)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: loader(shuffle=True), "shuffle=False"),
        (lambda: iter([(X, Y)]), r"can be read once only.*torch Dataset"),
        (lambda: zip(X.split(8), Y.split(8), strict=True), r"can be read once only.*torch Dataset"),
    ],
)
def test_what_cannot_be_read_again_in_order_is_refused_at_once(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        analyze(network(1), source(), initial=network(0), progress=False, options=StudyOptions(resume=tmp_path))
    with pytest.raises(BadInput, match=message):
        compare({"a": network(0), "b": network(1)}, source(), progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", [loader, lambda: TensorDataset(X, Y), lambda: Dataset(X, Y)])
def test_parts_to_evaluate_may_come_in_batches(source: Any) -> None:
    arguments: dict[str, Any] = {"measures": ["stable_rank"], "location": False, "progress": False}
    plain = analyze(network(1), X, Y, options=StudyOptions(umap=False, evaluate={"test": (X, Y)}), **arguments)
    found = analyze(network(1), X, Y, options=StudyOptions(umap=False, evaluate={"test": source()}), **arguments)
    assert found.settings["accuracy"] == plain.settings["accuracy"] != {}


@pytest.mark.parametrize(
    ("evaluate", "why"),
    [
        ({"test": loader(shuffle=True)}, "shuffle=False"),
        ({"test": (X, Y, Y)}, "'test'.*3 entries"),
        (loader(), "evaluate is a DataLoader"),
    ],
)
def test_parts_that_cannot_be_evaluated_are_refused(evaluate: Any, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        analyze(
            network(1),
            X,
            Y,
            measures=["stable_rank"],
            location=False,
            progress=False,
            options=StudyOptions(evaluate=evaluate),
        )


def test_values_of_batches_are_what_was_learned() -> None:
    found = analyze(
        network(1),
        TensorDataset(X, X[:, :3].sin()),
        initial=network(0),
        measures=["nc1", "stable_rank"],
        location=LocateOptions(n_bootstrap=2),
        progress=False,
        options=StudyOptions(umap=False),
    )
    rows = found.table.set_index("measure")
    assert set(rows.loc[["nc1"], "note"]) == {"it needs class labels; the targets are real numbers"}
    assert rows.loc[["stable_rank"], "ok"].all()
    assert found.location is not None
