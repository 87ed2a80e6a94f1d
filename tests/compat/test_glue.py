"""The GLUE tool's call gives geomfeat's numbers, in its shapes and under its names."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import geomfeat.compat.glue as glue
from geomfeat import geometry
from geomfeat.compat.glue import glue_analysis, glue_analysis_dataframe
from geomfeat.compat.glue.analysis import QUANTITIES
from geomfeat.errors import BadInput
from tests.geometry.clouds import normal, simplices, spheres

X = spheres(4, 5, 12, 0.7, 3).mT  # (P, N, M)


def test_known_answers_in_the_order_features_points() -> None:
    found = glue_analysis(simplices(12, 3).mT, n_t=300)
    assert abs(found.capacity - 2 / 3) < 4 * found.details.capacity_se
    assert found.utility * (1 + found.radius**-2) / found.dimension == pytest.approx(found.capacity, rel=1e-9)
    assert found.notes == ()


@pytest.mark.parametrize("form", [X, X.numpy(), list(X), [x.numpy() for x in X], X.float()])
def test_every_form_gives_the_numbers_of_capacity(form: object) -> None:
    found = glue_analysis(form, n_t=40, seed=2, dichotomies="balanced", center="global")
    expected = geometry.capacity(X.mT, n_draws=40, seed=2, dichotomies="balanced", center="global")
    pairs = {
        "capacity": "capacity", "dimension": "dimension", "radius": "radius", "utility": "utility",
        "center_alignment": "center_alignment", "axes_alignment": "axis_alignment",
        "center_axes_alignment": "center_axis_alignment",
    }  # fmt: skip
    for name, ours in pairs.items():
        assert type(getattr(found, name)) is float
        assert getattr(found, name) == pytest.approx(getattr(expected, ours), rel=1e-4), name
    assert set(pairs) | {"details", "notes"} == {f.name for f in dataclasses.fields(found)}


def test_manifolds_of_different_sizes() -> None:
    parts = [normal(12, m, seed=m) for m in (3, 5, 8)]
    found = glue_analysis(parts, n_t=30)
    assert found.capacity == geometry.capacity([p.T for p in parts], n_draws=30).capacity


def test_a_dataframe_has_a_row_for_each_layer() -> None:
    table = glue_analysis_dataframe({"wide": X, "narrow": X[:, :8], "broken": X * math.nan}, n_t=40, seed=1)
    assert table.index.tolist() == ["wide", "narrow", "broken"]
    assert table["n_features"].tolist()[:2] == [12, 8]
    assert table["n_points"].tolist()[0] == 20
    alone = geometry.capacity(X.mT, draws=geometry.common_draws(X.mT, n_draws=40, seed=1))
    assert table.loc["wide", "capacity"] == pytest.approx(alone.capacity)
    assert table.loc["wide", "axes_alignment_se"] == pytest.approx(alone.axis_alignment_se)
    assert np.isnan(table.loc["broken", "capacity"])
    assert "holds 240 NaN" in table.loc["broken", "note"]
    one = glue_analysis_dataframe(X, n_t=20)
    assert one.index.tolist() == [0]
    assert one.index.name == "layer"


def test_features_and_points_that_changed_places_are_noticed() -> None:
    found = glue_analysis(normal(3, 4, 9), n_t=20)
    assert "read as 4 features and 9 or more points" in found.notes[0]
    assert "read as 4 features" in glue_analysis_dataframe(normal(3, 4, 9), n_t=20)["note"].iloc[0]
    with pytest.raises(BadInput, match="these are \\(points, features\\): transpose each"):
        glue_analysis([normal(5, 12), normal(6, 12)])


@pytest.mark.parametrize("backend", ["auto", "cpu", "cuda"])
def test_backends_are_devices(backend: str) -> None:
    if backend == "cuda" and not torch.cuda.is_available():
        with pytest.raises(BadInput, match="torch sees no CUDA device"):
            glue_analysis(X, backend)
    else:
        found = glue_analysis(X, backend, n_t=20)
        assert found.capacity == pytest.approx(glue_analysis(X, n_t=20).capacity, rel=1e-8)
        assert found.details.norms2.device.type == ("cpu" if backend == "auto" else backend)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: glue_analysis(X, "jax"), "backend='jax': use one of 'auto', 'cpu', 'cuda'"),
        (lambda: glue_analysis_dataframe(X, "jax"), "backend='jax'"),
        (lambda: glue_analysis(X[0]), "X must be \\(P, N, M\\)"),
        (lambda: glue_analysis([X]), "every manifold must be \\(features, points\\)"),
        (lambda: glue_analysis([]), "every manifold must be"),
        (lambda: glue_analysis([normal(3, 4), normal(5, 6)]), "give all manifolds the same features"),
        (lambda: glue_analysis(X, n_t=1), "n_draws=1"),
        (lambda: glue_analysis_dataframe({}), "empty mapping"),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()


def test_results_read_as_a_mapping_too() -> None:
    found = glue_analysis(X.numpy(), backend="numpy", n_t=40)
    assert found["dimension"] == found.dimension
    assert dict(found) == {name: getattr(found, name) for name in found}
    assert set(found) == set(found.keys()) == set(QUANTITIES)
    assert len(found) == 7
    assert found["axis_alignment"] == found.axes_alignment
    assert found["center_axis_alignment"] == found.center_axes_alignment
    assert found["notes"] == found.notes
    with pytest.raises(KeyError, match="there are capacity, dimension"):
        found["size"]
    assert {**found}["radius"] == found.radius


def test_the_calls_of_published_scripts() -> None:
    """Class by class from (samples, features), fewer points of each, results by name."""
    features, n_classes, m = X.mT.reshape(20, 12).numpy(), 4, 5
    manifolds = [features[i * m : (i + 1) * m].T for i in range(n_classes)]
    few = glue.preprocess.downsample_manifolds(manifolds, n_points=min(50, 4))
    assert [part.shape for part in few] == [(12, 4)] * 4
    assert glue.glue_analysis(few)["radius"] > 0
    stacked = np.stack(manifolds)
    assert glue.glue_analysis(stacked, backend="numpy")["capacity"] == glue.glue_analysis(manifolds)["capacity"]
    ragged = np.empty(4, dtype=object)
    ragged[:] = [part[:, : 3 + i % 2] for i, part in enumerate(manifolds)]
    assert glue.glue_analysis(ragged)["capacity"] > 0


def test_downsampling_keeps_points_kind_and_order() -> None:
    manifolds = [normal(6, 10, seed=k).numpy() for k in range(3)]
    few = glue.preprocess.downsample_manifolds(manifolds, 4, seed=3)
    for part, whole in zip(few, manifolds, strict=True):
        places = [int(np.flatnonzero((whole == column[:, None]).all(0))[0]) for column in part.T]
        assert places == sorted(set(places))
    again = glue.preprocess.downsample_manifolds(manifolds, n_points=4, seed=3)
    other = glue.preprocess.downsample_manifolds(manifolds, n_points=4, seed=4)
    assert all((a == b).all() for a, b in zip(few, again, strict=True))
    assert any((a != b).any() for a, b in zip(few, other, strict=True))
    array = glue.preprocess.downsample_manifolds(np.stack(manifolds), 4, seed=3)
    np.testing.assert_array_equal(array, np.stack(few))
    tensor = glue.preprocess.downsample_manifolds(torch.from_numpy(np.stack(manifolds)), 4, seed=3)
    np.testing.assert_array_equal(tensor.numpy(), array)
    for bad in (0, 11, 2.5):
        with pytest.raises(BadInput, match="the smallest manifold has 10 points"):
            glue.preprocess.downsample_manifolds(manifolds, bad)
    with pytest.raises(BadInput, match="must be \\(features, points\\)"):
        glue.preprocess.downsample_manifolds([np.zeros(3)], 1)


def test_a_table_under_an_index_of_the_caller() -> None:
    table, matrices = glue.contrib.glue_analysis_dataframe(
        manifolds=list(X), indices=("v1", 3), indices_name=["area", "repeat"], analysis_type="ONE_VERSUS_REST",
        n_hyperplanes=40, shuffle=True, gaussianize=False, bias=True, return_matrix=True, seed=2,
    )  # fmt: skip
    assert table.index.names == ["area", "repeat"]
    assert table.index.tolist() == [("v1", 3)] * 2
    assert table["shuffle"].tolist() == [False, True]
    assert table["seed"].tolist() == [2, 2]
    options = {"n_draws": 40, "dichotomies": "one-vs-rest", "center": "global", "seed": 2}
    expected = [geometry.capacity(X.mT, **options), geometry.shuffled_control(X.mT, **options)]
    for name in ("capacity", "dimension", "radius", "utility", "axis_alignment", "center_axis_alignment_se"):
        assert table[name].tolist() == pytest.approx([getattr(c, name) for c in expected]), name
    for name, found in matrices.items():
        assert found.shape == (2, 4, 4)
        assert np.nanmean(found[0]) == pytest.approx(table[name].iloc[0]), name
    plain = glue.contrib.glue_analysis_dataframe(list(X), n_hyperplanes=40)
    assert plain.index.tolist() == [0]
    assert plain["capacity"].item() == geometry.capacity(X.mT, n_draws=40).capacity


def test_the_first_manifold_against_the_rest_in_every_draw() -> None:
    table = glue.contrib.glue_analysis_dataframe(X, analysis_type="FIRST_VERSUS_REST", n_hyperplanes=30)
    expected = geometry.capacity(X.mT, n_draws=30, dichotomies=[1.0, -1.0, -1.0, -1.0])
    assert table["capacity"].item() == expected.capacity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"analysis_type": "ALL"}, "analysis_type='ALL': use one of 'RANDOM'"),
        ({"gaussianize": True}, "gaussianize=True is not supported"),
        ({"indices": (1,)}, "1 values for 0 names"),
        ({"n_hyperplanes": 1}, "n_draws=1"),
    ],
)
def test_bad_options_of_the_table_are_named(options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        glue.contrib.glue_analysis_dataframe(X, **options)


CLASSES = {"cat": normal(12, 4, seed=1), "dog": normal(12, 5, seed=2), "cow": normal(12, 6, seed=3)}


@pytest.mark.parametrize("arrays", [CLASSES, {name: x.numpy() for name, x in CLASSES.items()}], ids=["torch", "numpy"])
def test_a_mapping_of_classes_is_the_list_of_its_manifolds(arrays: dict[str, object]) -> None:
    listed = list(arrays.values())
    found, expected = glue_analysis(arrays, "numpy", n_t=30), glue_analysis(listed, n_t=30)
    assert dict(found) == dict(expected)
    assert found["dimension"] == expected.dimension
    table = glue_analysis_dataframe(arrays, n_t=30)
    assert table.index.tolist() == [0]
    assert table.equals(glue_analysis_dataframe(listed, n_t=30))
    row = glue.contrib.glue_analysis_dataframe(arrays, (1,), ["repeat"], n_hyperplanes=30)
    assert row.equals(glue.contrib.glue_analysis_dataframe(listed, (1,), ["repeat"], n_hyperplanes=30))
    few = glue.preprocess.downsample_manifolds(arrays, 3)
    assert list(few) == list(arrays)
    for one, other in zip(few.values(), glue.preprocess.downsample_manifolds(listed, 3), strict=True):
        assert np.array_equal(one, other)


def test_a_mapping_of_layers_is_no_single_input() -> None:
    with pytest.raises(BadInput, match=r"wide, narrow.*glue_analysis_dataframe"):
        glue_analysis({"wide": X, "narrow": X[:, :8]})
    by_layer = {"a": list(CLASSES.values()), "b": list(CLASSES.values())}
    assert glue_analysis_dataframe(by_layer, n_t=20).index.tolist() == ["a", "b"]
    with pytest.raises(BadInput, match="mapping"):
        glue_analysis({})
