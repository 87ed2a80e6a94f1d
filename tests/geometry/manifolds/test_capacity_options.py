"""What can be asked of capacity: draws until an error, given labels, weights, the shuffled control, what changed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import (
    as_manifolds,
    capacity,
    decompose,
    draw_dichotomies,
    shuffled_control,
    what_changed,
)
from geomfeat.geometry.manifolds.random_directions import random_draws
from geomfeat.statistics.influence_functions import stderr
from tests.geometry.clouds import normal, segments, signs, simplices, spheres


def test_draws_are_added_until_the_error_is_small_enough():
    x = spheres(5, 6, 14, 0.8, 4)
    found = capacity(x, n_draws=30, target_se=(0.06, 600), resample=None)
    assert 30 < found.n_draws < 600
    assert found.n_draws % 30 == 0
    assert found.capacity_se / found.capacity <= 0.06
    fixed = capacity(x, n_draws=found.n_draws, resample=None)
    torch.testing.assert_close(fixed.norms2, found.norms2, rtol=1e-9, atol=0)
    for name in ("capacity", "dimension", "radius", "axis_alignment", "capacity_se", "radius_se", "simulated_capacity"):
        assert getattr(found, name) == pytest.approx(getattr(fixed, name), rel=1e-9), name
    assert capacity(x, n_draws=found.n_draws - 30, resample=None).capacity_se / found.capacity > 0.05


def test_a_target_out_of_reach_stops_at_the_cap_and_says_so():
    found = capacity(segments(4, 0.5), n_draws=20, target_se=(1e-4, 50), resample=None)
    assert found.n_draws == 50
    assert any("target_se=0.0001" in note and "allow more" in note for note in found.notes)


@pytest.mark.parametrize("dichotomies", ["random", "one-vs-rest", "balanced"])
@pytest.mark.parametrize("n_manifolds", [3, 9])
def test_the_first_draws_do_not_depend_on_how_many_follow(dichotomies: str, n_manifolds: int):
    few, many = (random_draws(n, 7, n_manifolds, dichotomies, 3) for n in (37, 163))
    assert torch.equal(few.t, many.t[:37])
    assert torch.equal(few.y, many.y[:37])


def test_faces_estimate_the_same_capacity_with_the_variance_of_the_formula():
    """Var |p|^2 = Var k + 2 E k; here E k = E |p|^2 within the errors of 4000 draws."""
    x = spheres(7, 4, 20, 0.8, 4)  # 64 dichotomies: too many to take turns
    found = capacity(x, n_draws=4000, resample=None)
    p2, k = found.norms2, found.faces.double()
    assert abs(float((p2 - k).mean())) < 4 * float((p2 - k).std()) / 4000**0.5
    assert abs(1 / found.capacity_faces - 1 / found.capacity) < 4 * found.capacity_se / found.capacity**2
    assert float(p2.var()) == pytest.approx(float(k.var() + 2 * k.mean()), rel=4 * (2 / 4000) ** 0.5 * 1.5)
    predicted = math.sqrt(float((k.var() + 2 * k.mean()) / k.var()))
    assert found.capacity_se / found.capacity_faces_se == pytest.approx(predicted, rel=0.1)
    assert predicted > 1.5


# With y fixed the cone of this task is known: signs flip, so two classes u, v have the cone of (u, -v) or (u, v).
def test_one_task_is_the_capacity_of_its_own_labels():
    angle = math.pi / 3
    x = torch.tensor([[[1.0, 0.0]], [[math.cos(angle), math.sin(angle)]]], dtype=torch.float64)
    # The statistical dimension of a plane cone of angle a is 1/2 + a / pi (Amelunxen et al. 2014, section 3.2 and 3.4).
    for task, opening in (([1, 1], angle), ([1, -1], math.pi - angle)):
        found = capacity(x, dichotomies=task, n_draws=2000, resample=None)
        assert found.dichotomies == "given"
        assert abs(found.capacity - 2 / (0.5 + opening / math.pi)) < 4 * found.capacity_se
    both = capacity(x, dichotomies=[[1, 1], [1, -1]], n_draws=2000, resample=None)
    assert abs(both.capacity - 2.0) < 4 * both.capacity_se


def test_given_dichotomies_take_turns():
    rows = signs(7, 9, seed=2)
    found = random_draws(25, 4, 9, rows, 0)
    assert torch.equal(found.y[:7], rows)
    assert found.strata is not None
    assert sorted(torch.bincount(found.strata).tolist()) == [3, 3, 3, 4, 4, 4, 4]
    assert torch.equal(found.y, rows[found.strata])
    with pytest.raises(BadInput, match="7 rows for n_draws=5"):
        capacity(spheres(9, 3, 12, 0.5, 2), dichotomies=rows, n_draws=5)


def test_errors_of_a_fixed_set_are_those_within_it():
    """Strata that differ a lot: the spread of the mean is that within them, and of the last incomplete turn."""
    noise = np.random.default_rng(0)
    for n, m in ((20, 2), (23, 4)):
        means, claimed = [], []
        for seed in range(300):
            which = random_draws(n, 1, 6, signs(m, 6, seed=4), seed).strata
            assert which is not None
            value = torch.as_tensor(noise.normal(size=n)) + torch.tensor([0.0, 5.0, 9.0, 2.0]).double()[which]
            means.append(float(value.mean()))
            claimed.append(float(stderr(value, which)) ** 2)
        assert math.sqrt(np.mean(claimed)) == pytest.approx(np.std(means, ddof=1), rel=0.15)


@pytest.mark.parametrize("kind", ["random", "one-vs-rest", "balanced"])
@pytest.mark.parametrize("n_manifolds", [1, 2, 3, 4, 6])
def test_few_classes_go_through_every_dichotomy_equally(kind: str, n_manifolds: int):
    every = {
        "random": 2 ** (n_manifolds - 1),
        "one-vs-rest": {1: 1, 2: 1}.get(n_manifolds, n_manifolds),
        "balanced": {1: 1, 2: 1, 3: 3, 4: 3, 6: 10}[n_manifolds],
    }[kind]
    y = draw_dichotomies(kind, 3 * every, n_manifolds)
    _, counts = torch.unique(y * y[:, :1], dim=0, return_counts=True)
    assert counts.tolist() == [3] * every


@pytest.mark.parametrize("kind", ["random", "one-vs-rest", "balanced"])
@pytest.mark.parametrize("n_manifolds", [1, 2, 3])
def test_one_to_three_classes_have_a_capacity_under_all_labels(kind: str, n_manifolds: int):
    found = capacity(simplices(n_manifolds, 3), n_draws=300, dichotomies=kind, resample=None)
    assert abs(found.capacity - 2 / 3) < 4 * found.capacity_se
    assert any("one class only" in note for note in found.notes) == (n_manifolds == 1)


def test_going_through_all_labels_takes_their_variance_away():
    x = normal(3, 4, 10, seed=2) + 3 * normal(1, 1, 10, seed=1)
    found = capacity(x, n_draws=200, resample=None)
    plain = found.capacity**2 / 3 * float(stderr(found.norms2))
    assert found.capacity_se < 0.95 * plain


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), center=st.sampled_from([None, "global"]))
def test_weights_are_repeated_points(seed: int, center: str | None):
    noise = np.random.default_rng(seed)
    x, labels = noise.normal(size=(12, 6)), noise.integers(0, 3, 12)
    counts = noise.integers(0, 4, 12)
    if not counts.any():
        return
    repeated = as_manifolds(np.repeat(x, counts, 0), np.repeat(labels, counts), center=center)
    weighted = as_manifolds(x, labels, weights=counts, center=center)
    assert weighted.classes == repeated.classes
    first = np.unique(np.repeat(np.arange(12), counts), return_index=True)[1]
    torch.testing.assert_close(weighted.x, repeated.x[first], rtol=1e-12, atol=1e-14)
    a = capacity(x, labels, weights=counts, center=center, n_draws=20, resample=None)
    b = capacity(np.repeat(x, counts, 0), np.repeat(labels, counts), center=center, n_draws=20, resample=None)
    torch.testing.assert_close(a.norms2, b.norms2, rtol=1e-9, atol=1e-12)


def test_positive_weights_change_nothing_without_centring():
    x = spheres(3, 4, 9, 0.7, 3)
    weights = [torch.rand(4, generator=torch.Generator().manual_seed(i)) + 0.1 for i in range(3)]
    assert torch.equal(
        capacity(x, weights=weights, n_draws=20, resample=None).norms2, capacity(x, n_draws=20, resample=None).norms2
    )
    centered = [capacity(x, weights=w, n_draws=20, center="global", resample=None) for w in (weights, None)]
    assert not torch.allclose(centered[0].norms2, centered[1].norms2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0] * 11 + [-1.0]}, "1 of 12 are negative"),
        ({"weights": [1.0] * 11 + [math.nan]}, "1 of 12 are negative, NaN"),
        ({"weights": [1.0] * 3}, "weights has 3 entries, but there are 12 points"),
        ({"weights": [0.0] * 12}, "weights are all 0"),
        ({"weights": [1.0] * 8 + [0.0] * 4}, "no point in manifolds \\[2\\]"),
        ({"target_se": 0.0}, "target_se=0.0"),
        ({"target_se": (0.1, 10)}, "allow a whole number of draws"),
        ({"target_se": 0.1, "draws": (torch.ones(5, 9), torch.ones(5, 3))}, "target_se= needs random draws"),
    ],
)
def test_bad_options_are_named(options: dict, message: str):
    with pytest.raises(BadInput, match=message):
        capacity(spheres(3, 4, 9, 0.7, 3), **options)


@pytest.mark.parametrize(
    "labels", [[0.0, 1.0, math.nan, math.nan], np.array(["a", None, None, "b"], dtype=object)], ids=["NaN", "None"]
)
def test_missing_labels_are_no_class(labels: object):
    with pytest.raises(BadInput, match="2 of 4 labels are missing"):
        capacity(torch.eye(4), labels)


def test_labels_that_have_no_order_are_named():
    with pytest.raises(BadInput, match="cannot be put in order"):
        capacity(torch.eye(3), np.array([1, "a", 2.0], dtype=object))


def test_the_control_shuffles_labels_and_nothing_else():
    x = spheres(4, 6, 20, 0.3, 3)
    labels = np.array(["a"] * 3 + ["b"] * 6 + ["c"] * 6 + ["d"] * 9)
    flat = x.reshape(24, 20)
    control, true = (
        shuffled_control(flat, labels, n_draws=100, center="global"),
        capacity(flat, labels, n_draws=100, resample=None),
    )
    assert (control.classes, control.center, control.n_draws) == (("a", "b", "c", "d"), "global", 100)
    assert control.capacity < true.capacity
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(
        control.norms2, shuffled_control(flat, labels, n_draws=100, center="global", seed=1).norms2
    )
    assert torch.equal(
        shuffled_control(simplices(4, 3), n_draws=30).norms2 > 0,
        capacity(simplices(4, 3), n_draws=30, resample=None).norms2 > 0,
    )
    assert shuffled_control(flat[order], labels, n_draws=20).capacity > 0


def test_what_changed_adds_up():
    before, after = capacity(segments(6, 1.0), n_draws=100), capacity(segments(6, 0.5), n_draws=100)
    one, change = decompose(before), what_changed(before, after)
    assert one.capacity == pytest.approx(math.log(before.capacity), abs=1e-12)
    assert one.capacity == pytest.approx(one.utility + one.radius + one.dimension, abs=1e-10)
    assert change.capacity == pytest.approx(math.log(after.capacity / before.capacity), abs=1e-12)
    assert change.capacity == pytest.approx(change.utility + change.radius + change.dimension, abs=1e-10)
    assert change.radius > 10 * change.radius_se  # a smaller radius is what changed
    points = decompose(capacity(normal(5, 1, 9), n_draws=30))
    assert math.isnan(points.radius)
    assert math.isfinite(points.capacity)


def test_it_prints_short_with_errors():
    text = str(capacity(spheres(4, 5, 12, 0.7, 3), n_draws=50))
    assert len(text.splitlines()) < 20
    assert text.startswith("Capacity of 4 classes, 50 draws, random labels")
    assert "+-" in text
    assert "tensor" not in text
    assert repr(capacity(normal(5, 1, 9), n_draws=30)).endswith(
        "note: 5 of 5 classes have a single point: a point, not a manifold"
    )
