"""Spectra against definitions, known populations and two libraries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import NoVariance
from tests.geometry.clouds import normal
from tests.reference import dimension, geometry as reference
from tests.shared_data import shared


@settings(deadline=None, max_examples=40)
@given(n=st.integers(3, 20), d=st.integers(1, 20), seed=st.integers(0, 10**6), size=st.sampled_from([1e-30, 1.0, 1e30]))
def test_numbers_equal_their_definitions(n: int, d: int, seed: int, size: float):
    x = normal(n, d, seed=seed)
    values = reference.covariance_eigenvalues(x.numpy())
    np.testing.assert_allclose(geometry.covariance_spectrum(size * x).numpy(), values / values[0], rtol=1e-8)
    assert geometry.participation_ratio(size * x) == pytest.approx(reference.participation_ratio(x.numpy()), rel=1e-9)
    assert geometry.effective_rank(size * x) == pytest.approx(reference.effective_rank(x.numpy()), rel=1e-9)
    assert geometry.stable_rank(size * x) == pytest.approx(values.sum() / values[0], rel=1e-9)
    assert 1 <= geometry.stable_rank(x) <= geometry.participation_ratio(x) + 1e-9 <= geometry.effective_rank(x) + 2e-9


@pytest.mark.parametrize("d", [2, 9])
def test_unbiased_ratio_equals_all_quadruples(d: int):
    x = normal(7, d, seed=d) + 3
    expected = reference.participation_ratio_unbiased(x.numpy())
    assert geometry.participation_ratio_unbiased(x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [25, 50, 100])
def test_corrected_ratios_find_the_population_where_the_plain_one_is_far_off(n: int):
    clouds = [normal(n, 50, seed=s) for s in range(30)]
    plain = {25: 16.1, 50: 24.5, 100: 33.1}[n]
    assert np.mean([geometry.participation_ratio(x) for x in clouds]) == pytest.approx(plain, abs=0.3)
    for function in (geometry.participation_ratio_wishart, geometry.participation_ratio_unbiased):
        values = [function(x) for x in clouds]
        error = np.std(values, ddof=1) / 30**0.5
        # The ratio of two unbiased numbers keeps a bias of second order, about var / mean.
        assert abs(np.mean(values) - 50) < 4 * error + np.var(values) / 50


def test_heavy_tails_bias_the_gaussian_correction_but_not_the_free_one():
    def cloud(seed: int) -> torch.Tensor:
        return normal(60, 20, seed=seed) * torch.exp(0.8 * normal(60, 1, seed=1000 + seed))

    gaussian = np.mean([geometry.participation_ratio_wishart(cloud(s)) for s in range(200)])
    free = np.mean([geometry.participation_ratio_unbiased(cloud(s)) for s in range(200)])
    assert abs(free - 20) < abs(gaussian - 20)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_power_law_of_an_exact_spectrum(exponent: float):
    k = torch.arange(1, 201, dtype=torch.float64)
    x = torch.diag(k ** (-exponent / 2))
    fit = geometry.power_law(torch.cat([x, -x]))
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.r2 == pytest.approx(1.0)
    assert fit.stderr < 1e-9
    assert (fit.first, fit.last) == (10, 100)
    assert geometry.power_law(torch.cat([x, -x]), first=1, last=200).exponent == pytest.approx(exponent, abs=1e-9)


def test_power_law_refuses_ranges_that_are_not_there():
    with pytest.raises(BadInput, match="of 3 eigenvalues: need at least 5"):
        geometry.power_law(normal(40, 3))
    with pytest.raises(BadInput, match=r"ranks 0\.\.10"):
        geometry.power_law(normal(40, 30), first=0, last=10)


def test_rankme_equals_its_definition():
    x = normal(12, 8) + 2
    values = np.linalg.svd(x.numpy(), compute_uv=False)
    share = values / values.sum()
    assert geometry.rankme(x) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-10)
    assert geometry.rankme(x, center=True) > geometry.rankme(x)


def test_three_numbers_that_are_called_the_effective_rank_differ_by_factors():
    # A mean far from 0 and a spectrum that decays, as rectified layers have them.
    x = normal(300, 150) * torch.arange(1, 151, dtype=torch.float64) ** -0.5 + 0.5
    singular = np.linalg.svd(x.numpy(), compute_uv=False)
    centered = np.linalg.svd(x.numpy() - x.numpy().mean(0), compute_uv=False)

    def entropy(values: np.ndarray) -> float:
        share = values / values.sum()
        return float(np.exp(-(share * np.log(share)).sum()))

    assert geometry.rankme(x) == pytest.approx(entropy(singular), rel=1e-10)
    assert geometry.rankme(x, center=True) == pytest.approx(entropy(centered), rel=1e-10)
    assert geometry.effective_rank(x) == pytest.approx(entropy(centered**2), rel=1e-10)
    assert 1.4 * geometry.effective_rank(x) < geometry.rankme(x, center=True)
    assert 1.2 * geometry.rankme(x) < geometry.rankme(x, center=True)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(3, 20), d=st.integers(1, 12), seed=st.integers(0, 10**6), share=st.floats(0.01, 1.0))
def test_components_hold_their_share_of_the_variance(n: int, d: int, seed: int, share: float):
    x = normal(n, d, seed=seed) * torch.linspace(2, 0.2, d, dtype=torch.float64)
    assert geometry.components_for_variance(x, share) == min(n - 1, dimension.components(x.numpy(), share))


def test_components_of_an_exact_spectrum():
    x = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64).sqrt())
    found = [geometry.components_for_variance(torch.cat([x, -x]), s) for s in (0.39, 0.4, 0.41, 0.7, 0.9, 0.91, 1.0)]
    assert found == [1, 1, 2, 2, 3, 4, 4]
    with pytest.raises(BadInput, match="share=0"):
        geometry.components_for_variance(x, 0)


@pytest.mark.parametrize("name", ["M1_Sphere", "M2_Affine_3to5", "M5b_Helix2d", "M7_Roll", "M9_Affine", "M12_Norm"])
def test_benchmark_manifolds_equal_the_libraries(name: str):
    expected = json.loads(shared("refs/dimension/expected.json").read_text())[name]["scikit-dimension"]
    x = torch.as_tensor(np.load(shared("refs/dimension/manifolds.npz"))[name])
    assert geometry.participation_ratio(x) == pytest.approx(expected["PR"], rel=1e-9)
    assert geometry.effective_rank(x) == pytest.approx(expected["eff_rank_entropy_eig"], rel=1e-9)
    # The library adds a small constant to every share.
    assert geometry.rankme(x, center=True) == pytest.approx(expected["rankme_entropy_sv_centered"], rel=1e-6)
    assert geometry.stable_rank(x) == pytest.approx(expected["stable_rank_centered"], rel=1e-9)
    assert geometry.components_for_variance(x, 0.9) == expected["pca90"]


@pytest.mark.parametrize("x", [torch.zeros(5, 3), torch.full((5, 3), 0.1), torch.ones(1, 4)])
def test_points_that_coincide_have_no_spectrum(x: torch.Tensor):
    with pytest.raises(NoVariance, match="points coincide"):
        geometry.participation_ratio(x)
    with pytest.raises(BadInput, match="coincide"):
        geometry.effective_rank(x)


def test_jackknife_covers_the_spread_over_data_sets():
    clouds = [normal(80, 10, seed=s) @ torch.diag(torch.linspace(2, 0.2, 10).double()) for s in range(40)]
    values = [geometry.participation_ratio_wishart(x) for x in clouds]
    claimed = [
        geometry.group_jackknife(lambda rows, x=x: geometry.participation_ratio_wishart(x[rows]), 80) for x in clouds
    ]
    assert 0.7 < np.mean(claimed) / np.std(values, ddof=1) < 1.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rounding_makes_no_eigenvalues(dtype: torch.dtype):
    """Three directions of 40 units: however they are held, there are three eigenvalues."""
    exact = normal(200, 3) @ normal(3, 40, seed=1)
    x = exact.to(dtype)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-3
    for held in (x, x.float(), x.double()):
        values = geometry.covariance_spectrum(held)
        assert len(values) == 3
        torch.testing.assert_close(values, geometry.covariance_spectrum(exact), rtol=tolerance, atol=tolerance)
        assert geometry.rankme(held) <= 3
        with pytest.raises(BadInput, match="at least 5 ranks"):
            geometry.power_law(held)


def test_eigenvalues_of_double_precision_count_far_down():
    scales = 10.0 ** -torch.arange(0, 12, 2, dtype=torch.float64)
    x = torch.linalg.qr(normal(50, 6) - normal(50, 6).mean(0)).Q * scales
    assert len(geometry.covariance_spectrum(x)) == 6
    assert len(geometry.covariance_spectrum(x.float())) == 3  # rounding of the largest may be 1e-6 of it


@pytest.mark.parametrize("offset", [2.0**10, 2.0**22, 2.0**30])
def test_a_mean_far_above_the_spread_changes_no_number(offset: float):
    x = (normal(80, 12) * 2**12).round() / 2**12
    numbers = (
        geometry.participation_ratio, geometry.participation_ratio_wishart, geometry.participation_ratio_unbiased,
        geometry.effective_rank, geometry.stable_rank, lambda x: geometry.power_law(x, first=1, last=10).exponent,
        lambda x: geometry.components_for_variance(x, 0.8), lambda x: geometry.rankme(x, center=True),
    )  # fmt: skip
    for number in numbers:
        assert number(x + offset) == pytest.approx(number(x), rel=1e-6)
    single = (x + 2.0**10).float()
    for number in numbers:
        assert number(single) == pytest.approx(number(x), rel=1e-3)


def test_a_share_that_is_reached_exactly_is_found_in_any_precision():
    """Variances 4 to 1, in units of a tenth, which no binary precision holds."""
    x = 0.1 * torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    for dtype in (torch.float64, torch.float32, torch.float16):
        assert geometry.components_for_variance((x + 0.3).to(dtype), 0.8) == 1


def test_points_that_coincide_up_to_rounding_have_no_spectrum():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        last = torch.randint(0, 2, (30, 4), generator=torch.Generator().manual_seed(0)) * torch.finfo(dtype).eps
        with pytest.raises(NoVariance, match=str(dtype).removeprefix("torch.")):
            geometry.stable_rank((3 * (1 + last.double())).to(dtype))
