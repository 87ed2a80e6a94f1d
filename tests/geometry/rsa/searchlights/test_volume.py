"""Searchlights: the RDM of each as `rdm` gives it, a planted region, executors, maps, errors."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import (
    RDMs,
    compare_rdms,
    condition_residuals,
    noise_precision,
    rdm,
    searchlight_rdms,
)
from geomfeat.geometry.rsa.searchlights import volume as searchlight_module
from geomfeat.geometry.rsa.searchlights.volume import Searchlights
from geomfeat.numerics import stream

MASK = np.random.default_rng(0).random((5, 4, 4)) < 0.7
PLACES = np.argwhere(MASK)
V = len(PLACES)
CONDITIONS, RUNS = np.tile(np.repeat(range(4), 3), 3), np.repeat(range(3), 12)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "searchlight", *shape), dtype=torch.float64)


X = draw(36, V) + 5


def found_with(**given: Any) -> Searchlights:
    settings: dict[str, Any] = {"radius": 1.5, "progress": False} | given
    if settings.get("dissimilarity", "crossnobis") == "crossnobis":
        settings.setdefault("runs", RUNS)
    return searchlight_rdms(X, CONDITIONS, MASK, **settings)


def by_loop(voxels_of: Any, **given: Any) -> torch.Tensor:
    parts = []
    for i in range(V):
        mine = np.flatnonzero(voxels_of(i))
        options = {name: value(mine) if callable(value) else value for name, value in given.items()}
        parts.append(rdm(X[:, mine], CONDITIONS, **options).vectors[0])
    return torch.stack(parts)


def in_sphere(i: int) -> np.ndarray:
    return np.linalg.norm(PLACES - PLACES[i], axis=1) <= 1.5


@pytest.mark.parametrize("dissimilarity", ["crossnobis", "squared_euclidean", "correlation", "squared_mahalanobis"])
def test_each_rdm_is_that_of_its_voxels(dissimilarity: str, device: str) -> None:
    variances = noise_precision(condition_residuals(X, CONDITIONS), estimator="variances")
    given: dict[str, Any] = {"dissimilarity": dissimilarity}
    given |= {"runs": RUNS} if dissimilarity == "crossnobis" else {}
    own = {"precision": lambda mine: variances[mine]} if "nobis" in dissimilarity else {}
    whole = {"precision": variances} if "nobis" in dissimilarity else {}
    found = searchlight_rdms(X.to(device), CONDITIONS, MASK, radius=1.5, progress=False, **given, **whole)
    torch.testing.assert_close(found.rdms.vectors.cpu(), by_loop(in_sphere, **given, **own), rtol=1e-9, atol=1e-12)
    assert found.sizes.tolist() == [int(in_sphere(i).sum()) for i in range(V)]
    assert len(set(found.sizes)) > 5
    assert (found.rdms.conditions, found.rdms.dissimilarity) == ((0, 1, 2, 3), dissimilarity)


@pytest.mark.parametrize("dissimilarity", ["crossnobis", "squared_mahalanobis"])
def test_each_searchlight_has_the_noise_of_its_own_voxels(dissimilarity: str) -> None:
    residuals = condition_residuals(X @ (torch.eye(V) + 0.2 * draw(V, V)), CONDITIONS, RUNS)
    given: dict[str, Any] = {"dissimilarity": dissimilarity}
    given |= {"runs": RUNS} if dissimilarity == "crossnobis" else {}
    found = found_with(precision=residuals, **given)

    def own(mine: np.ndarray) -> torch.Tensor:
        return noise_precision(type(residuals)(residuals.values[:, mine], residuals.dof))

    torch.testing.assert_close(found.rdms.vectors, by_loop(in_sphere, precision=own, **given), rtol=1e-8, atol=1e-10)


def test_unequal_trials_and_missing_cells_are_as_in_one_region() -> None:
    kept = np.array([i for i in range(36) if i not in (3, 4, 5, 20, 30)])  # condition 1 is missing in run 0
    found = searchlight_rdms(X[kept], CONDITIONS[kept], MASK, radius=1.5, runs=RUNS[kept], progress=False)
    expected = [
        rdm(X[kept][:, in_sphere(i)], CONDITIONS[kept], dissimilarity="crossnobis", runs=RUNS[kept]).vectors[0]
        for i in range(V)
    ]
    torch.testing.assert_close(found.rdms.vectors, torch.stack(expected))
    assert "1 of 12 conditions in runs have no trial" in found.notes[0]


def test_nearest_voxels_coordinates_and_chosen_centres() -> None:
    chosen = [7, 2, 30]
    found = searchlight_rdms(
        X, CONDITIONS, 3.0 * PLACES, n_voxels=V, dissimilarity="correlation", centres=chosen, progress=False
    )
    torch.testing.assert_close(
        found.rdms.vectors, rdm(X, CONDITIONS, dissimilarity="correlation").vectors.expand(3, -1)
    )
    assert found.rdms.names == ("7", "2", "30")
    assert found.to_frame()["x"].tolist() == (3.0 * PLACES[chosen, 0]).tolist()
    with pytest.raises(BadInput, match="coordinates and no mask"):
        found.volume(found.sizes)


def test_a_planted_region_is_found_on_the_map() -> None:
    mask = np.ones((9, 9, 9), dtype=bool)
    places = np.argwhere(mask)
    inside = np.linalg.norm(places - [2, 6, 4], axis=1) <= 2
    patterns = torch.zeros(4, len(places), dtype=torch.float64)
    patterns[:, inside] = draw(4, int(inside.sum()))
    x = patterns[CONDITIONS] + draw(36, len(places), seed=1)
    found = searchlight_rdms(x, CONDITIONS, mask, radius=2, runs=RUNS, progress=False)
    strength = found.volume(found.rdms.vectors.mean(1))
    assert np.linalg.norm(np.subtract(np.unravel_index(strength.argmax(), mask.shape), [2, 6, 4])) <= 1
    far = np.linalg.norm(places - [2, 6, 4], axis=1) > 4
    assert abs(strength.ravel()[far].mean()) < 0.02
    model = rdm(patterns[:, inside], conditions=range(4))
    similar = found.compare(model, "correlation")
    torch.testing.assert_close(similar, compare_rdms(model, found.rdms, "correlation"))
    assert float(similar[0, inside].mean()) > 0.5 > float(similar[0, far].mean())


def test_parts_go_through_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = found_with()
    monkeypatch.setattr(searchlight_module, "CHUNK", 10)
    monkeypatch.setattr(searchlight_module, "AHEAD", 2)
    with ThreadPoolExecutor(2) as threads:
        found = found_with(executor=threads)
    assert torch.equal(found.rdms.vectors, expected.rdms.vectors)
    assert found.sizes.tolist() == expected.sizes.tolist()


@pytest.mark.slow
def test_parts_go_through_processes_and_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
    expected = found_with()
    monkeypatch.setattr(searchlight_module, "CHUNK", 20)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        assert torch.equal(found_with(executor=processes).rdms.vectors, expected.rdms.vectors)
    with distributed.Client(processes=False, n_workers=1, dashboard_address=":0") as client:
        assert torch.equal(found_with(executor=client.get_executor()).rdms.vectors, expected.rdms.vectors)


def test_progress_is_shown_in_parts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searchlight_module, "CHUNK", 10)
    found_with(progress=True)
    assert f"{-(-V // 10)}/{-(-V // 10)}" in capsys.readouterr().err


def test_what_is_undefined_is_nan_and_counted() -> None:
    x = X.clone()
    x[:, in_sphere(0)] = x[:, :1]
    found = searchlight_rdms(x, CONDITIONS, MASK, radius=1.5, dissimilarity="correlation", progress=False)
    assert bool(found.rdms.vectors[0].isnan().all())
    lost = int(found.rdms.vectors.isnan().any(1).sum())
    assert 0 < lost < V
    assert f"{lost} of {V} searchlights have conditions with the same value in all voxels" in found.notes[0]
    assert "note: " in str(found)


def test_bad_input_is_refused_clearly() -> None:
    residuals = condition_residuals(X, CONDITIONS)
    for call, words in (
        (lambda: found_with(dissimilarity="euclidean"), "dissimilarity='euclidean'"),
        (lambda: found_with(runs=None), "runs= belong"),
        (lambda: found_with(runs=[0] * 36), "at least 2 runs"),
        (lambda: found_with(dissimilarity="squared_mahalanobis"), "needs precision="),
        (lambda: found_with(dissimilarity="correlation", precision=torch.ones(V)), "takes no precision="),
        (lambda: found_with(precision=torch.eye(V)), "precision of all voxels at once"),
        (lambda: found_with(precision=type(residuals)(residuals.values[:, 1:], 9)), f"not of {V} voxels"),
        (lambda: found_with(precision=type(residuals)(residuals.values * 0, 9)), f"{V} of {V} voxels have no noise"),
        (lambda: found_with(precision=type(residuals)(residuals.values, 0)), "0 degrees of freedom"),
        (lambda: found_with(centres=[0, 0]), "centres must be different"),
        (lambda: found_with(centres=[V]), f"from 0 to {V - 1}"),
        (lambda: found_with(radius=None), "give one of them"),
        (lambda: searchlight_rdms(X[0], CONDITIONS, MASK, radius=1, runs=RUNS), "samples, voxels"),
        (lambda: searchlight_rdms(X, [0] * 36, MASK, radius=1, runs=RUNS), "at least 2 conditions"),
        (lambda: found_with().volume([1.0]), "give one for each"),
    ):
        with pytest.raises(BadInput, match=words):
            call()
    assert isinstance(found_with().rdms, RDMs)
