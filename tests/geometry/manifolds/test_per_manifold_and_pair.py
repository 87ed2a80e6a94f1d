"""Values of every class and pair, and their errors, against definitions by loops and by leaving draws out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from geomfeat.geometry.manifolds import Capacity, alignment_cosines, capacity, project_on_cones
from tests.geometry.clouds import normal, segments, signs, spheres
from tests.reference import geometry as whole, glue as reference

MANIFOLD = ["cost", "active", "anchor_norm", "center_norm", "axis_ratio"]
PAIR = ["center_cosine", "axis_alignment", "center_axis_alignment"]


def solved(x: torch.Tensor, draws: int):
    n_manifolds, points, n = x.shape
    t, y = normal(draws, n, seed=3), signs(draws, n_manifolds, seed=3)
    found = project_on_cones(x.reshape(-1, n), torch.arange(n_manifolds).repeat_interleave(points), t, y)
    dense = np.zeros((draws, n_manifolds * points))
    for row, support, weight in zip(dense, found.support.numpy(), found.multipliers.numpy(), strict=True):
        row[support[support >= 0]] = weight[support >= 0]
    return t, y, list(dense.reshape(draws, n_manifolds, points)), ~found.inside.numpy(), float(found.norms2.mean())


CLOUDS = {"plain": spheres(5, 6, 14, 0.8, 4), "inside": spheres(4, 8, 6, 0.8, 4)}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_values_equal_their_definitions(cloud: str):
    x = CLOUDS[cloud]
    t, y, dense, use, _ = solved(x, 40)
    found = capacity(x, draws=(t, y), resample=None)
    assert (found.frac_inside > 0) == (cloud == "inside")
    assert found.radius_mean == pytest.approx(reference.radius_mean(x.numpy(), t.numpy(), dense, use), rel=1e-8)
    expected = reference.per_manifold(x.numpy(), t.numpy(), y.numpy(), dense, use)
    for name in MANIFOLD:
        np.testing.assert_allclose(getattr(found.per_manifold, name), expected[name], rtol=1e-9, err_msg=name)
    expected = reference.per_pair(x.numpy(), dense, use)
    for name in PAIR:
        np.testing.assert_allclose(getattr(found.per_pair, name), expected[name], rtol=1e-9, err_msg=name)


def test_errors_equal_those_of_leaving_one_draw_out():
    x, n = CLOUDS["plain"], 30
    t, y, dense, use, _ = solved(x, n)
    found = capacity(x, draws=(t, y), resample=None)
    assert use.all()

    def some(rows: np.ndarray) -> tuple:
        return x.numpy(), t.numpy()[rows], y.numpy()[rows], [dense[d] for d in rows], use[rows]

    def scalars(rows: np.ndarray) -> np.ndarray:
        points, t_, y_, l, used = some(rows)
        out = whole.glue(points, t_, y_, l, used, float(found.norms2[rows].mean()))
        return np.array([*out.values(), reference.radius_mean(points, t_, l, used)])

    names = [
        "dimension",
        "radius",
        "utility",
        "center_alignment",
        "axis_alignment",
        "center_axis_alignment",
        "radius_mean",
    ]
    ours = np.array([getattr(found, f"{name}_se") for name in names])
    np.testing.assert_allclose(ours, reference.jackknife_se(scalars, n), rtol=0.1)

    def classes(rows: np.ndarray) -> np.ndarray:
        return np.stack([reference.per_manifold(*some(rows))[name] for name in MANIFOLD])

    ours = np.stack([getattr(found.per_manifold, f"{name}_se") for name in MANIFOLD])
    np.testing.assert_allclose(ours, reference.jackknife_se(classes, n), rtol=0.1)

    def cosines(rows: np.ndarray) -> np.ndarray:
        points, _, _, l, used = some(rows)
        return np.stack([reference.per_pair(points, l, used)[name] for name in PAIR])

    ours = np.stack([getattr(found.per_pair, f"{name}_se") for name in PAIR])
    np.testing.assert_allclose(ours, reference.jackknife_se(cosines, n), rtol=0.15)


def everything(found: Capacity) -> dict[str, np.ndarray]:
    out = {k: v for k, v in vars(found).items() if isinstance(v, float)}
    for group in (found.per_manifold, found.per_pair):
        out |= {f"{type(group).__name__}.{k}": v.numpy() for k, v in vars(group).items() if k != "classes"}
    return {k: np.asarray(v) for k, v in out.items()}


@pytest.mark.parametrize("dichotomies", ["random", "given"])
def test_stated_errors_are_the_spread_over_seeds(dichotomies: str):
    """Every number with an error. 60 runs tell a spread to 9 %; per class and pair, the mean over them is held."""
    x = spheres(7, 5, 16, 0.8, 4)
    labels = signs(3, 7, seed=5) if dichotomies == "given" else dichotomies
    runs = [everything(capacity(x, n_draws=60, seed=seed, dichotomies=labels, resample=None)) for seed in range(60)]
    for name in [k for k in runs[0] if f"{k}_se" in runs[0] and k not in ("frac_inside", "frac_nonseparable")]:
        spread = np.std([r[name] for r in runs], axis=0, ddof=1)
        claimed = np.mean([r[f"{name}_se"] for r in runs], axis=0)
        assert 0.75 < np.nanmean(claimed / spread) < 1.3, (name, claimed / spread)


def test_slopes_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    x = CLOUDS["plain"]
    whole = everything(capacity(x, n_draws=30, resample=None))
    monkeypatch.setattr(alignment_cosines, "CHUNK_DOUBLES", 2 * 4 * 5 * 14)  # two of five classes at once
    for name, value in everything(capacity(x, n_draws=30, resample=None)).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-12, err_msg=name)


def test_costs_add_up_to_the_classes_over_the_capacity():
    x = spheres(6, 20, 30, 1.0, 6)
    x[2] *= 1e6
    found = capacity(x, n_draws=60, resample=None)
    assert found.frac_inside == 0
    assert float(found.per_manifold.cost.sum()) == pytest.approx(6 / found.capacity, rel=1e-9)


def test_draws_inside_their_cone_have_no_cost_of_any_class():
    found = capacity(spheres(6, 20, 8, 1.0, 6), n_draws=60, resample=None)
    assert 0 < found.frac_inside < 1
    assert float(found.per_manifold.cost.sum()) == pytest.approx(float(found.norms2[~found.inside].mean()), rel=1e-9)


def test_the_larger_class_costs_more_and_close_classes_are_seen():
    x = segments(6, 0.5)
    x[0, :, 6] *= 8  # a long segment
    x[5] = x[4] + 0.3 * x[5]  # two classes close together
    labels = np.repeat(["ant", "bee", "cat", "dog", "eel", "fox"], 2)
    found = capacity(x.reshape(12, 12), labels, n_draws=300, resample=None)
    assert found.classes == ("ant", "bee", "cat", "dog", "eel", "fox")
    cost = pd.DataFrame(found.per_manifold.columns()).set_index("class")
    ant, bee = cost.loc["ant"], cost.loc["bee"]
    assert ant["cost"] > bee["cost"] + 2 * (ant["cost_se"] + bee["cost_se"])
    pairs = pd.DataFrame(found.per_pair.columns())
    assert len(pairs) == 30
    worst = pairs.loc[pairs["center_cosine"].idxmax()]
    assert {worst["class"], worst["other"]} == {"eel", "fox"}
