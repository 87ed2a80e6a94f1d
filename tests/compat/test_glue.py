"""The GLUE tool's call gives geomfeat's numbers, in its shapes and under its names."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from geomfeat import geometry
from geomfeat.compat import glue_analysis, glue_analysis_dataframe
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
