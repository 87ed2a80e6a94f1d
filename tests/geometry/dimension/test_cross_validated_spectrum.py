"""Cross-validated PCA: its definition, a known power law under noise, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry import cross_validated_spectrum, power_law
from geomfeat.geometry.dimension._cross_validated_spectrum import shared_products
from tests.geometry.clouds import normal
from tests.reference import dimension as reference


def recorded(seed: int, *, exponent: float = 1.0, trials: int = 2, n: int = 300, d: int = 120) -> torch.Tensor:
    """(trials, n, d): eigenvalues k^-exponent, and noise of .2 in every unit."""
    scales = torch.arange(1, d + 1, dtype=torch.float64) ** (-exponent / 2)
    return normal(n, d, seed=seed) * scales + 0.2 * normal(trials, n, d, seed=100 + seed)


@pytest.mark.parametrize(("n", "d"), [(20, 6), (9, 12)])
def test_variance_equals_its_definition(n: int, d: int) -> None:
    x = normal(2, n, d) + 2 * normal(1, n, d, seed=1)
    halves = [(torch.tensor([0]), torch.tensor([1]))]
    expected = reference.shared_variance(x.numpy())
    np.testing.assert_allclose(shared_products(x, halves).sum(0), expected, rtol=1e-8, atol=1e-10)
    found = cross_validated_spectrum(3 * x + 1, first=1, last=5)
    np.testing.assert_allclose(found.variance, (expected / expected.sum())[: len(found.rank)], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("exponent", [0.7, 1.0])
def test_a_known_power_law_is_found_under_noise(exponent: float) -> None:
    found = [cross_validated_spectrum(recorded(s, exponent=exponent), first=3, last=30) for s in range(4)]
    mean = np.mean([one.power_law.exponent for one in found])
    assert abs(mean - exponent) < 0.08
    plain = np.mean([power_law(recorded(s, exponent=exponent).mean(0), first=3, last=30).exponent for s in range(4)])
    assert abs(plain - exponent) > 2 * abs(mean - exponent)
    assert all(one.exponent_se < 0.1 for one in found)


def test_errors_are_those_of_repeated_recordings() -> None:
    found = [cross_validated_spectrum(recorded(s, n=120, d=40), first=1, last=12) for s in range(60)]
    spread = np.std([one.power_law.exponent for one in found], ddof=1)
    assert 0.7 < np.mean([one.exponent_se for one in found]) / spread < 1.5


def test_noise_alone_has_no_variance() -> None:
    noise = normal(2, 60, 10)
    assert abs(float(shared_products(noise, [(torch.tensor([0]), torch.tensor([1]))]).sum())) < 1.5
    assert float(noise[0].var(0).sum()) > 8
    with pytest.raises(BadInput, match="signal ends at rank"):
        cross_validated_spectrum(normal(2, 60, 30, seed=3))


def test_more_trials_are_halved_many_times() -> None:
    x = recorded(0, trials=5, n=80, d=30)
    found = cross_validated_spectrum(x, first=1, last=10)
    assert found.n_splits == 10
    assert found.power_law.exponent == cross_validated_spectrum(x, first=1, last=10).power_law.exponent
    assert found.power_law.exponent != cross_validated_spectrum(x, first=1, last=10, seed=1).power_law.exponent


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (normal(1, 10, 3), {}, "1 trials of 10 stimuli"),
        (normal(3, 5, 3), {}, "3 trials of 5 stimuli"),
        (normal(3, 5), {}, "must be"),
        (normal(2, 20, 9), {"n_splits": 0}, "n_splits=0"),
        (normal(2, 20, 3), {}, "need at least 5 ranks"),
        (torch.full((3, 8, 6), 0.1), {}, "are equal"),
    ],
)
def test_bad_trials_are_named(x: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cross_validated_spectrum(x, **options)
