"""Covariances without a tenth of the samples: equal to those of what remains, shared, forgotten with their layer."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat import geometry
from geomfeat.geometry.dimension import leave_out_spectra
from geomfeat.geometry.dimension.distinct_samples import population_participation_ratio
from geomfeat.geometry.dimension.eigenspectrum import power_law_with_error, spectrum_of
from geomfeat.geometry.dimension.leave_out_spectra import (
    _LAST,
    GROUPS,
    LeaveOut,
    NoVariance,
    jackknife,
    known_of,
    left_out,
)
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import values_alone
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def cloud(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Samples whose spectrum falls, far from the origin."""
    return (normal(n, d, seed=seed) * torch.linspace(1, 0.2, d) + 3).to(dtype)


def without(x: torch.Tensor, g: int) -> torch.Tensor:
    return x[torch.arange(len(x)) % min(GROUPS, len(x)) != g]


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 60), st.integers(1, 40), st.integers(0, 9), st.sampled_from([torch.float32, torch.float64]))
def test_every_part_left_out_has_the_covariance_of_the_rest(n, d, seed, dtype):
    x = cloud(n, d, seed, dtype)
    one = left_out(Representation(x))
    assert one.moments is not None
    assert one.eigenvalues is not None
    assert len(one.moments) == len(one.eigenvalues) == min(GROUPS, n)
    for g, (moments, values) in enumerate(zip(one.moments, one.eigenvalues, strict=True)):
        rest = without(x.double(), g)
        rest = rest - rest.mean(0)
        scatter = rest.T @ rest
        assert moments.n == len(rest)
        expected = [scatter.trace(), scatter.square().sum(), rest.square().sum(1).square().sum()]
        found = torch.tensor([moments.trace, moments.square, moments.fourth], dtype=torch.float64)
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=0)
        exact = torch.linalg.svdvals(rest).square()
        exact = exact[: len(values)] / exact[0]
        np.testing.assert_allclose(values, exact, rtol=1e-4 if dtype == torch.float32 else 1e-8, atol=1e-11)


NUMBERS = {
    "participation_ratio": geometry.participation_ratio,
    "effective_rank": geometry.effective_rank,
    "stable_rank": geometry.stable_rank,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(300, 20), (60, 90), (7, 3)])
@pytest.mark.parametrize("name", NUMBERS)
def test_errors_are_those_of_the_jackknife_over_the_points_themselves(name, shape, dtype):
    function, x = NUMBERS[name], cloud(*shape, dtype=dtype)
    with values_alone():
        again = [float(function(without(x, g))) for g in range(min(GROUPS, len(x)))]
    assert function(x).stderr == pytest.approx(jackknife(again), rel=1e-5)


@pytest.mark.parametrize("gaussian", [True, False])
def test_the_population_ratio_has_the_error_of_the_jackknife(gaussian):
    x = cloud(80, 30)
    alone = geometry.participation_ratio_wishart if gaussian else geometry.participation_ratio_unbiased
    value, error = population_participation_ratio(Representation(x), gaussian=gaussian)
    assert value == alone(x)
    assert error == pytest.approx(jackknife([alone(without(x, g)) for g in range(GROUPS)]), rel=1e-9)


@pytest.mark.parametrize("decay", [0.5, 8.0], ids=["products keep its ranks", "products lose them"])
def test_the_error_of_a_power_law_is_that_of_the_points_themselves(decay):
    ranks = torch.arange(1, 61, dtype=torch.float64)
    x = normal(200, 60) * ranks**-decay
    fit, error = power_law_with_error(x)
    again = [geometry.power_law(without(x, g), first=fit.first, last=fit.last).exponent for g in range(GROUPS)]
    assert fit == geometry.power_law(x)
    assert error == pytest.approx(jackknife(again), rel=1e-5)


def test_numbers_of_one_layer_share_one_decomposition_and_others_do_not(monkeypatch):
    made = []
    monkeypatch.setattr(torch.linalg, "svdvals", lambda x, real=torch.linalg.svdvals: made.append(1) or real(x))
    layer = Representation(cloud(40, 6))
    geometry.effective_rank(layer), geometry.stable_rank(layer), power_law_with_error(layer)
    assert len(made) == 1
    before = geometry.stable_rank(layer).value
    layer.x[0] *= 30  # changed in place: what was kept is no longer of these points
    assert geometry.stable_rank(layer).value != before
    assert len(made) == 2
    geometry.stable_rank(Representation(cloud(40, 6)))
    assert len(made) == 3


def test_numbers_of_several_layers_look_and_replace_nothing():
    one, other = Representation(cloud(40, 6)), Representation(cloud(40, 6, seed=1))
    kept = left_out(one)
    geometry.cka(one, other)
    assert (known_of(one), known_of(other)) == (kept, None)


def test_what_was_kept_goes_with_its_layer():
    _LAST.entries.clear()
    layer = Representation(cloud(40, 6))
    left_out(layer)
    assert len(_LAST.entries) == 1
    del layer
    gc.collect()
    assert not _LAST.entries


def test_tensors_without_a_version_and_large_ones_are_measured_and_not_kept(monkeypatch):
    x = cloud(40, 6)
    expected = geometry.stable_rank(x.clone())
    with torch.inference_mode():
        same = x.clone()
    found = geometry.stable_rank(same)
    assert (found.value, found.stderr) == (expected.value, expected.stderr)
    with torch.inference_mode():
        layer = Representation(same)
        before = geometry.stable_rank(layer).value
        layer.x[0] *= 30  # no version says so
        assert geometry.stable_rank(layer).value != before
    monkeypatch.setattr(leave_out_spectra, "MOST_KEPT", 10)
    left_out(Representation(cloud(40, 6, 1)))
    assert all(kept() is not x for kept, *_ in _LAST.entries.values())


def test_threads_that_take_turns_get_their_own_numbers():
    layers = [Representation(cloud(30, 5, seed)) for seed in range(4)]
    expected = [geometry.stable_rank(Representation(layer.x.clone())).value for layer in layers]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: geometry.stable_rank(layers[i % 4]).value, range(200)))
    assert found == [expected[i % 4] for i in range(200)]


def test_parts_without_which_nothing_varies_leave_no_error():
    x = torch.zeros(20, 3, dtype=torch.float64)
    x[3] = 1.0  # without its part all points coincide
    assert left_out(Representation(x)).moments is None
    assert geometry.stable_rank(x).stderr is None
    with pytest.raises(NoVariance):
        left_out(Representation(torch.ones(5, 2)))
    assert LeaveOut(Spread.of(normal(2, 3), torch.float64)).moments is None


def test_the_spectrum_is_that_of_the_points():
    x = cloud(30, 9)
    torch.testing.assert_close(spectrum_of(left_out(Representation(x))), geometry.covariance_spectrum(x))


@pytest.mark.parametrize("shape", [(60, 12), (25, 40)])
def test_numbers_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(LeaveOut(Spread.of(cloud(*shape), torch.float64)))
    one, two = found
    assert one.eigenvalues is not None
    assert two.eigenvalues is not None
    assert len(one.eigenvalues) == len(two.eigenvalues) == GROUPS
    assert all(torch.equal(a, b) for a, b in zip(one.eigenvalues, two.eigenvalues, strict=True))
    assert one.moments == two.moments
