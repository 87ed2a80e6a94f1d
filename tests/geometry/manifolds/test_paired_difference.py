"""Paired differences: exact draws, honest errors, and as much gain as is claimed."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from geomfeat.activations import extract
from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import capacity, capacity_by_layer, capacity_difference, common_draws
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import train_at_gamma
from geomfeat.types import Representation
from tests.geometry.clouds import normal, simplices, spheres
from tests.reference import capacity_paired as reference


def rotation(n: int, seed: int = 5) -> torch.Tensor:
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


@pytest.fixture(scope="module")
def layers() -> dict[str, Representation]:
    """Hidden layers of a small network on digits of five classes, before and after training."""
    data = load_data("digits", n=200)
    few = data.labels < 5
    inputs, labels = data.inputs[few][:40], data.labels[few][:40]
    start = mlp(hidden=(64, 64), seed=0)
    trained = train_at_gamma(start, inputs, labels, gamma=3.0, target_loss=0.05).model
    found = {}
    for at, model in (("init", start), ("trained", trained)):
        for layer, rep in extract(model, inputs, layers=["act1", "fc2"], labels=labels, progress=False).items():
            found[f"{layer} {at}"] = rep
    return found


@pytest.mark.parametrize(("k", "n"), [(12, 30), (30, 12)])
def test_shared_directions_are_those_of_the_definition(k: int, n: int) -> None:
    """Both sides of the noise are taken from the function itself: t in the span of x is linear in z alone."""
    from geomfeat.geometry.manifolds.paired_difference import directions_of_samples

    x, z = normal(k, n, seed=1), normal(7, k, seed=2)
    t = directions_of_samples(x, z)
    basis = torch.linalg.svd(x, full_matrices=False)[2]
    np.testing.assert_allclose(t @ basis.T @ basis, reference.shared_directions(x.numpy(), z.numpy()), atol=1e-10)
    rest = t - t @ basis.T @ basis
    assert float(rest.square().mean()) == pytest.approx(max(0, n - k) / n, abs=0.25)


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e-12])
def test_directions_are_standard_normal_however_degenerate_the_points(scale: float) -> None:
    """Ten points, five of them within `scale` of the others' span: singular values from 1 down to rounding."""
    x = normal(5, 8, seed=1)
    x = torch.cat([x, x + scale * normal(5, 8, seed=2)])
    t, y = common_draws(x, torch.arange(10) // 5, n_draws=20000)
    covariance = t.T @ t / len(t)
    assert float((covariance - torch.eye(8)).abs().max()) < 5 * math.sqrt(2 / len(t))
    assert float(t.mean(0).abs().max()) < 5 / math.sqrt(len(t))
    assert float((t.T @ y / len(t)).abs().max()) < 5 / math.sqrt(len(t))


@settings(deadline=None, max_examples=10)
@given(n=st.integers(3, 30), seed=st.integers(0, 10**6), wider=st.integers(0, 10))
def test_rotation_scale_and_idle_units_leave_every_draw_as_it_is(n: int, seed: int, wider: int) -> None:
    x = normal(3, 4, n, seed=seed)
    size = normal(3, 4, 1, seed=seed + 1).exp()
    moved = torch.cat([x * size, torch.zeros(3, 4, wider, dtype=WORKING)], 2) @ rotation(n + wider)
    found = [capacity(p, draws=common_draws(p, n_draws=20), resample=None).norms2 for p in (x, moved)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-9)


def test_common_draws_give_the_exact_answer() -> None:
    found = capacity(
        simplices(12, 3), draws=common_draws(simplices(12, 3), n_draws=400, dichotomies="balanced"), resample=None
    )
    assert abs(found.capacity - 2 / 3) < 4 * found.capacity_se


def test_known_difference_of_simplices() -> None:
    """2/3 and 2/5, pairs of different widths and samples: only y is common, and it does not matter here."""
    found = capacity_difference(capacity(simplices(12, 3), n_draws=300), capacity(simplices(12, 5), n_draws=300))
    for value, se, exact in [
        (found.difference, found.difference_se, 2 / 5 - 2 / 3),
        (found.log_difference, found.log_difference_se, math.log(3 / 5)),
        (found.inverse_difference, found.inverse_difference_se, 1.0),
    ]:
        assert abs(value - exact) < 4 * se
        assert 0 < se < 0.1
    assert any("widths 36 and 60" in note for note in found.notes)


def test_errors_are_those_of_leaving_draws_out() -> None:
    x = spheres(8, 6, 20, 0.8, 4)  # 128 dichotomies: too many to take turns, the draws are independent
    a, b = (capacity(p, n_draws=80, resample=None) for p in (x, x + 0.3 * normal(8, 6, 20, seed=9)))
    found = capacity_difference(a, b)
    expected = reference.difference_stderr(a.norms2.numpy(), b.norms2.numpy(), 8)
    claimed = (found.difference_se, found.log_difference_se, found.inverse_difference_se)
    np.testing.assert_allclose(claimed, expected, rtol=0.02)
    assert found.correlation == pytest.approx(np.corrcoef(a.norms2, b.norms2)[0, 1])
    assert found.difference_se_unpaired == pytest.approx(math.hypot(a.capacity_se, b.capacity_se))
    assert found.difference == pytest.approx(b.capacity - a.capacity)
    assert found.gain == pytest.approx((found.log_difference_se_unpaired / found.log_difference_se) ** 2)


def test_dichotomies_that_take_turns_add_no_error_of_their_own() -> None:
    x = spheres(4, 6, 20, 0.8, 4) + 2 * normal(1, 1, 20, seed=7)
    a, b = (capacity(p, n_draws=80, resample=None) for p in (x, x + 0.3 * normal(4, 6, 20, seed=9)))
    assert a.strata is not None
    found = capacity_difference(a, b)
    assert found.difference_se_unpaired == pytest.approx(math.hypot(a.capacity_se, b.capacity_se))
    independent = capacity_difference(replace(a, strata=None), b)
    assert found.difference_se_unpaired < 0.9 * independent.difference_se_unpaired


def test_the_same_points_differ_by_nothing() -> None:
    x = spheres(5, 6, 20, 0.8, 4)
    found = capacity_difference(capacity(x, n_draws=40), capacity(3 * x, n_draws=40), same_samples=True)
    assert abs(found.log_difference) < 1e-9
    assert found.log_difference_se < 1e-9
    assert found.correlation == pytest.approx(1.0)


def test_paired_errors_cover_the_spread_over_seeds(layers: dict[str, Representation]) -> None:
    a, b = layers["act1 trained"], layers["fc2 trained"]
    runs = [
        capacity_difference(
            *(capacity(rep, draws=common_draws(rep, n_draws=30, seed=seed), resample=None) for rep in (a, b))
        )
        for seed in range(24)
    ]
    for name in ("difference", "log_difference", "inverse_difference"):
        spread = np.std([getattr(r, name) for r in runs], ddof=1)
        paired = np.mean([getattr(r, f"{name}_se") for r in runs])
        assert 0.75 < paired / spread < 1.3, (name, paired, spread)
        assert np.mean([getattr(r, f"{name}_se_unpaired") for r in runs]) > 1.5 * spread


@pytest.mark.parametrize(("a", "b", "least"), [("fc2 init", "fc2 trained", 2.0), ("act1 trained", "fc2 trained", 2.0)])
def test_sharing_samples_gains_more_than_sharing_labels(
    layers: dict[str, Representation], a: str, b: str, least: float
) -> None:
    """The error falls by a factor of `least` against independent draws, and below that of y alone."""
    pair = layers[a], layers[b]
    shared = capacity_difference(*(capacity(rep, draws=common_draws(rep), resample=None) for rep in pair))
    _, y = common_draws(pair[0])
    t = normal(200, 64, seed=1), normal(200, 64, seed=2)
    alone = (capacity(rep, draws=(own, y), resample=None) for rep, own in zip(pair, t, strict=True))
    labels_alone = capacity_difference(*alone)
    assert shared.log_difference_se_unpaired > least * shared.log_difference_se
    assert shared.log_difference_se < 0.75 * labels_alone.log_difference_se
    assert shared.gain == pytest.approx((shared.log_difference_se_unpaired / shared.log_difference_se) ** 2)


def test_layers_of_any_width_share_their_draws_and_say_so(layers: dict[str, Representation]) -> None:
    found = capacity_by_layer(layers, n_draws=40, resample=None)
    first, *_, last = found.values()
    shared = capacity_difference(first, last)
    assert shared.notes == ()
    assert str(shared).startswith("Capacity of b minus a, 40 common draws")
    own = capacity(layers[list(layers)[-1]], n_draws=40, resample=None)
    assert any("t is not common" in note for note in capacity_difference(first, own).notes)


def test_what_cannot_be_compared_is_reported() -> None:
    x = spheres(4, 5, 12, 0.7, 3)
    a = capacity(x, n_draws=30, resample=None)
    for other, message in [
        (capacity(x, n_draws=31, resample=None), "n_draws is 30 in a and 31"),
        (capacity(x, n_draws=30, dichotomies="balanced", resample=None), "dichotomies is random in a and balanced"),
        (capacity(x[:3], n_draws=30, resample=None), "number of classes is 4 in a and 3"),
    ]:
        with pytest.raises(BadInput, match=message):
            capacity_difference(a, other)
    centered = capacity_difference(a, capacity(x, n_draws=30, center="global", resample=None))
    assert any("center=None, b center='global'" in note for note in centered.notes)
    with pytest.raises(BadInput, match="seed is 0 in a and 1 in b"):
        capacity_difference(a, capacity(x, n_draws=30, seed=1, resample=None))


def test_draws_that_are_uncertified_in_either_are_left_out() -> None:
    a = capacity(spheres(4, 5, 12, 0.7, 3), n_draws=30)
    assert capacity_difference(a, replace(a, certified=torch.arange(30) >= 2)).n_draws == 28
    found = capacity_difference(a, replace(a, certified=torch.arange(30) >= 29))
    assert math.isnan(found.difference)
    assert any("no difference" in note for note in found.notes)


def test_bad_counts_are_named() -> None:
    with pytest.raises(BadInput, match="n_draws=1"):
        common_draws(torch.ones(2, 3, 4), n_draws=1)
