"""Canonical correlations and their averages: published values, definitions, known answers, invariances, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import (
    canonical_correlations,
    cca_mean,
    cca_mean_squared,
    linear_regression_r2,
    pwcca,
    svcca,
)
from geomfeat.geometry.similarity.cca import mean_coordinate, tied_correlations
from geomfeat.numerics import stream
from tests.reference import similarity as reference
from tests.shared_data import shared


def draw(n: int, d: int, *names: object) -> Tensor:
    return torch.randn(n, d, generator=stream(0, n, d, *names), dtype=torch.float64)


def related(n: int = 60, d1: int = 5, d2: int = 8) -> tuple[Tensor, Tensor]:
    a = draw(n, d1, "a")
    return a + 1, a @ draw(d1, d2, "mix") + draw(n, d2, "b")


@pytest.mark.parametrize("pair", ["X-Y", "X-Z"])
def test_published_value_of_svcca(pair: str) -> None:
    """The source's 'SVCCA' of these data keeps one component of each: the correlation of the first ones."""
    data = np.load(shared("refs/kernels/similarity_inputs.npz"))
    expected = json.loads(shared("refs/kernels/similarity_expected.json").read_text())["other"][pair]["SVCCA"]
    a, b = (torch.from_numpy(data[name]) for name in pair.split("-"))
    assert svcca(a, b, n_components=1) == pytest.approx(expected, abs=1e-9)  # their whitening adds 1e-10


@pytest.mark.parametrize(("d1", "d2"), [(5, 8), (8, 5), (3, 3)])
def test_equal_their_definitions(d1: int, d2: int) -> None:
    a, b = related(40, d1, d2)
    correlations, _ = reference.canonical(a.numpy(), b.numpy())
    np.testing.assert_allclose(canonical_correlations(a, b).values, correlations, rtol=1e-8)
    assert cca_mean(a, b) == pytest.approx(correlations.mean(), rel=1e-8)
    assert cca_mean_squared(a, b) == pytest.approx((correlations**2).mean(), rel=1e-8)
    assert pwcca(a, b) == pytest.approx(reference.pwcca(a.numpy(), b.numpy()), rel=1e-8)
    kept = [reference.components(x.numpy(), 0.8) for x in (a, b)]
    assert svcca(a, b, variance=0.8) == pytest.approx(reference.canonical(*kept)[0].mean(), rel=1e-8)
    assert min(k.shape[1] for k in kept) < min(d1, d2)


def test_known_correlations() -> None:
    # Three pairs of sample directions at known angles.
    q = torch.linalg.qr(torch.cat([torch.ones(10, 1).double(), draw(10, 6, "q")], 1)).Q[:, 1:]
    cosines = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    a, b = q[:, :3], q[:, :3] * cosines + q[:, 3:] * (1 - cosines**2).sqrt()
    torch.testing.assert_close(canonical_correlations(a @ draw(3, 3, "m"), b @ draw(3, 3, "n")).values, cosines)
    assert cca_mean(a, b) == pytest.approx(0.5, rel=1e-12)
    # A unit that carries nearly everything decides the weighted mean.
    assert pwcca(a * torch.tensor([1e6, 1, 1]).double(), b) == pytest.approx(0.9, abs=1e-5)


def test_trivial_correlations_are_counted() -> None:
    a, b = draw(12, 8, "a"), draw(12, 7, "b")
    found = canonical_correlations(a, b)
    assert found.n_trivial == 8 + 7 - 11
    assert (found.values > 1 - 1e-9).sum() == 4


@settings(deadline=None, max_examples=25)
@given(n=st.integers(12, 40), d1=st.integers(1, 9), d2=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_properties(n: int, d1: int, d2: int, seed: int) -> None:
    g = stream(seed, "cca")
    a, b, mix = (torch.randn(m, d, generator=g, dtype=torch.float64) for m, d in ((n, d1), (n, d2), (d1, d1)))
    mix = mix + 3 * torch.eye(d1).double()
    value = cca_mean(a, b)
    assert 0 <= value <= 1 + 1e-12
    assert cca_mean(b, a) == pytest.approx(value, abs=1e-9)
    assert cca_mean(a @ mix + 5, b) == pytest.approx(value, abs=1e-7)
    assert cca_mean(a, a @ mix) == pytest.approx(1, abs=1e-9)
    assert pwcca(a, a @ mix) == pytest.approx(1, abs=1e-9)


def test_weights_of_pwcca_are_of_the_first_layer() -> None:
    a, b = related()
    assert abs(pwcca(a, b) - pwcca(b, a)) > 1e-3


def test_copies_of_units_and_rank_deficient_features_change_nothing() -> None:
    a, b = related()
    assert cca_mean(torch.cat([a, a[:, :2]], 1), b) == pytest.approx(cca_mean(a, b), rel=1e-9)
    assert len(canonical_correlations(a.float() @ draw(5, 30, "wide").float(), b).values) == 5


def test_devices_agree(device: str) -> None:
    a, b = related()
    assert pwcca(a.to(device), b.to(device)) == pytest.approx(pwcca(a, b), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (draw(5, 2), draw(6, 2), "a has 5 samples"),
        (draw(8, 2), draw(8, 7), "b has 7 directions on 8 samples"),
        (draw(8, 20), draw(8, 2), "a has 7 directions"),
        (torch.ones(8, 2), draw(8, 2), "coincide"),
    ],
)
def test_bad_input(a: Tensor, b: Tensor, text: str) -> None:
    for function in (cca_mean, pwcca):
        with pytest.raises(BadInput, match=text):
            function(a, b)


def test_bad_options() -> None:
    a, b = related()
    with pytest.raises(BadInput, match="variance=0"):
        svcca(a, b, variance=0)
    with pytest.raises(BadInput, match="n_components=0"):
        svcca(a, b, n_components=0)
    assert 0 < svcca(draw(8, 20, "a"), draw(8, 20, "b"), n_components=3) < 1


@pytest.mark.parametrize("n", [300, 4000])
def test_weak_directions_of_single_precision_count(n: int) -> None:
    """Down to what rounding of the features can make, whatever the number of samples."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, 12, generator=draws, dtype=torch.float64) * 0.4 ** torch.arange(12)  # to 4e-5 of the largest
    y = x @ torch.randn(12, 12, generator=draws, dtype=torch.float64) + 5
    assert abs(cca_mean(x.float(), y.float()) - 1) < 1e-2
    assert canonical_correlations(x.float(), y.float()).values.shape == (12,)
    copies = torch.cat([x.float(), (x.float() @ torch.ones(12, 3)) / 7], 1)
    assert canonical_correlations(copies, copies).values.shape == (12,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_makes_no_directions_to_correlate(dtype: torch.dtype) -> None:
    a, b = draw(80, 3, "code") @ draw(3, 30, "wide"), draw(80, 4, "b")
    for held in (a.to(dtype), a.to(dtype).double()):
        assert len(canonical_correlations(held, b).values) == 3
        assert cca_mean(held, b) == pytest.approx(cca_mean(draw(80, 3, "code"), b), abs=1e-2)


def test_a_mean_far_above_the_spread_leaves_the_directions() -> None:
    a, b = ((x * 2**12).round() / 2**12 for x in related())
    for offset in (2.0**22, 2.0**30):
        assert cca_mean(a + offset, b) == pytest.approx(cca_mean(a, b), rel=1e-6)
    assert cca_mean((a + 1024).float(), b) == pytest.approx(cca_mean(a, b), rel=1e-3)


@pytest.mark.parametrize("measure", [cca_mean, cca_mean_squared, pwcca, svcca, linear_regression_r2])
@pytest.mark.parametrize("d", [29, 100])
def test_copies_of_samples_are_no_new_samples(measure: Callable[..., float], d: int) -> None:
    """Features of 30 samples in 29 or more dimensions say everything about others, however often they are given."""
    a, b = draw(30, d, "a"), draw(30, 3, "b")
    options: dict[str, Any] = {"variance": 1.0} if measure is svcca else {}
    with pytest.raises(BadInput, match="29 directions on 30 samples, so"):
        measure(a, b, **options)
    with pytest.raises(BadInput, match="29 directions on 120 samples, 30 of them different"):
        measure(a.repeat(4, 1), b.repeat(4, 1), **options)
    few = a[:, :3]
    twice = measure(few.repeat(2, 1), b.repeat(2, 1), **options)
    assert twice == pytest.approx(measure(few, b, **options), rel=1e-9)


def test_copies_do_not_hide_correlations_that_are_one_whatever_the_data() -> None:
    a, b = draw(12, 8, "a"), draw(12, 7, "b")
    found = canonical_correlations(a.repeat(3, 1), b.repeat(3, 1))
    assert found.n_trivial == canonical_correlations(a, b).n_trivial == 8 + 7 - 11
    torch.testing.assert_close(found.values[:4], torch.ones(4, dtype=torch.float64))


def shared_directions(n: int = 60, own: int = 3) -> tuple[Tensor, Tensor]:
    """Four directions in common, and others of each alone."""
    common = draw(n, 4, "common")
    a, b = (torch.cat([common, draw(n, own, name)], 1) @ draw(4 + own, 4 + own, name, "mix") for name in "ab")
    return a, b


@pytest.mark.parametrize("trial", range(5))
def test_weights_of_tied_correlations_do_not_depend_on_rounding(trial: int) -> None:
    a, b = shared_directions()
    assert int((canonical_correlations(a, b).values > 1 - 1e-12).sum()) == 4
    value, g = pwcca(a, b), stream(trial, "moves")
    rows, units = torch.randperm(len(a), generator=g), torch.randperm(a.shape[1], generator=g)
    turn = torch.linalg.qr(draw(b.shape[1], b.shape[1], "turn", trial)).Q
    moved = a * (1 + 1e-15 * torch.randn(a.shape, generator=g, dtype=a.dtype))
    for x, y in ((moved, b), (a[rows], b[rows]), (a[:, units], b), (a, b @ turn), (a * 3 + 1, b - 2)):
        assert pwcca(x, y) == pytest.approx(value, rel=1e-9)
    single = pwcca(a.float(), b.float())
    assert single == pytest.approx(value, rel=1e-4)


def test_weights_of_tied_correlations_are_the_mean_over_all_rotations() -> None:
    a, b = shared_directions()
    found = canonical_correlations(a, b)
    units, weights = a - a.mean(0), []
    for k in range(4000):
        turn = torch.linalg.qr(draw(4, 4, "rotation", k)).Q
        variates = torch.cat([found.variates[:, :4] @ turn, found.variates[:, 4:]], 1)
        weights.append((variates.T @ units).abs().sum(1))
    mean = torch.stack(weights).mean(0)
    assert pwcca(a, b) == pytest.approx(float(found.values @ mean / mean.sum()), rel=1e-3)


def test_ties_are_runs_of_angles_within_what_they_are_known_to() -> None:
    values = torch.tensor([1.0, 1 - 5e-15, 0.8, 0.8 - 1e-9, 0.5], dtype=torch.float64)
    sizes = [[s.stop - s.start for s in tied_correlations(values, known)] for known in (1e-12, 1e-6)]
    assert sizes == [[2, 2, 1], [2, 2, 1]]
    assert len(tied_correlations(torch.tensor([0.8, 0.8 - 1e-5, 0.2]).double(), 1e-6)) == 3
    sphere = draw(200_000, 3, "sphere")
    sphere = sphere / sphere.norm(dim=1, keepdim=True)
    assert mean_coordinate(3) == pytest.approx(float(sphere[:, 0].abs().mean()), rel=5e-3)


def test_copies_in_one_layer_alone_are_different_samples_of_the_other() -> None:
    few, all_different = draw(6, 3, "few").repeat(2, 1), draw(12, 4, "different")
    together = [canonical_correlations(a, b).n_trivial for a, b in ((few, all_different), (all_different, few))]
    assert together == [0, 0]  # 3 and 4 directions of 12 samples; of 6, two would have to agree
    assert canonical_correlations(few, all_different[:6].repeat(2, 1)).n_trivial == 2
