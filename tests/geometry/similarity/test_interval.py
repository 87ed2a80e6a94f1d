"""Intervals of similarities: coverage, the spread they should have, every measure, failures, seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import cka, shape_angle, similarity_interval
from geomfeat.numerics import stream
from geomfeat.registry import available
from geomfeat.types import Estimate, Representation

NAMES = [
    m.name if q == m.name else f"{m.name}.{q}" for m in available(scope="pair") if not m.needs for q in m.quantities
]


def pair(n: int, seed: int) -> tuple[Tensor, Tensor]:
    g = stream(seed, "interval", n)
    a, noise = (torch.randn(n, 3, generator=g, dtype=torch.float64) for _ in range(2))
    return a, a * torch.tensor([1.5, 1.0, 0.5]).double() + 0.8 * noise


def mean_product(a: Representation, b: Representation) -> float:
    """A plain mean over samples, of which everything is known."""
    return float((a.x[:, 0] * b.x[:, 0]).mean())


def test_halves_scatter_as_samples_do() -> None:
    # The variance of a mean over half of n is that of a mean over n, exactly, up to the number of halves drawn.
    a, b = pair(41, 0)
    found = similarity_interval(a, b, mean_product, n_bootstrap=1000)
    values = (a[:, 0] * b[:, 0]).numpy()
    expected = values.std(ddof=1) / 41**0.5
    assert found.stderr == pytest.approx(expected, rel=4 / (2 * 1000) ** 0.5)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * expected, rel=0.12)


@pytest.mark.parametrize("function", [cka, shape_angle], ids=["cka", "shape_angle"])
def test_intervals_hold_the_value_of_many_samples(function: Callable[[Tensor, Tensor], float]) -> None:
    truth = np.mean([function(*pair(3000, s)) for s in (1008, 1009)])
    found = [similarity_interval(*pair(100, s), lambda a, b: function(a.x, b.x), n_bootstrap=40) for s in range(24)]
    held = sum(i.low <= truth <= i.high for i in found)
    # 95 % of 24: 22.8, with a standard error of 1.1; small samples and few halves cost a little more.
    assert 19 <= held <= 24
    assert np.mean([i.stderr for i in found]) == pytest.approx(np.std([i.value for i in found]), rel=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_similarity_has_one(name: str) -> None:
    found = similarity_interval(*pair(24, 1), name, n_bootstrap=20)
    assert found.low < found.value < found.high
    assert found.stderr > 0
    assert found.n_failed == 0


def test_the_seed_decides() -> None:
    name = "cka_linear_unbiased"
    found = [similarity_interval(*pair(20, 1), name, n_bootstrap=20, seed=s) for s in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_no_interval_leads_beyond_the_bounds() -> None:
    a, b = pair(30, 2)
    found = similarity_interval(a, a + 0.01 * b, "neighbour_jaccard", n_bootstrap=40)
    assert 0.8 < found.low <= found.high <= 1


def test_halves_that_fail_are_reported() -> None:
    a, b = torch.randn(20, 12, generator=stream(0, "a")), torch.randn(20, 12, generator=stream(0, "b"))
    found = similarity_interval(a, b, "cca_mean", n_bootstrap=20)
    assert found.n_failed == 20
    assert np.isnan([found.low, found.high, found.stderr]).all()
    assert "20 of 20 halves failed" in found.note
    assert np.isfinite(found.value)
    dead = similarity_interval(a, torch.ones(20, 2), "cca_mean")
    assert np.isnan(dead.value)
    assert "coincide" in dead.note
    odd = similarity_interval(a, b, lambda p, q: float("nan"), n_bootstrap=20)
    assert "gave nan" in odd.note
    assert similarity_interval(a, b, lambda p, q: Estimate(0.5), n_bootstrap=20).stderr == 0


@pytest.mark.parametrize(
    ("n", "measure", "options", "text"),
    [
        (7, "cka_linear_unbiased", {}, "at least 8"),
        (9, "cka_linear_unbiased", {"n_bootstrap": 5}, "n_bootstrap=5"),
        (9, "cka_linear_unbiased", {"level": 95}, "level=95"),
        (9, "two_nn", {}, "not one of two layers"),
        (
            9,
            "rsa_correlation_distance",
            {},
            "use rsa_correlation_distance.cosine, rsa_correlation_distance.correlation",
        ),
        (9, "no_such", {}, "no measure"),
    ],
)
def test_bad_input(n: int, measure: str, options: dict[str, float], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        similarity_interval(*pair(n, 0), measure, **options)


def grouped_pair(n_groups: int, each: int, seed: int) -> tuple[Representation, Representation]:
    """Samples of a group are nearly the same, so that groups are the independent draws."""
    a, b = pair(n_groups, seed)
    groups = torch.arange(n_groups).repeat_interleave(each)
    wobble = 1e-3 * torch.randn(len(groups), 3, generator=stream(seed, "wobble"), dtype=torch.float64)
    return Representation(a[groups] + wobble, groups=groups), Representation(b[groups])


def test_halves_of_groups_scatter_as_groups_do() -> None:
    a, b = grouped_pair(41, 6, 0)
    found = similarity_interval(a, b, mean_product, n_bootstrap=1000)
    values = (a.x[:, 0] * b.x[:, 0]).numpy().reshape(41, 6).mean(1)
    assert found.stderr == pytest.approx(values.std(ddof=1) / 41**0.5, rel=4 / (2 * 1000) ** 0.5)
    assert found.n_groups == 41
    assert "of 41 groups" in str(found)
    alone = similarity_interval(a.with_(groups=None), b, mean_product, n_bootstrap=1000)
    assert alone.n_groups is None
    assert alone.stderr < 0.5 * found.stderr


def test_groups_of_one_sample_are_samples() -> None:
    a, b = (Representation(x) for x in pair(30, 1))
    one = similarity_interval(a.with_(groups=torch.arange(30)), b, "shape_angle", n_bootstrap=50)
    assert (one.low, one.high) == (similarity_interval(a, b, "shape_angle", n_bootstrap=50).low, one.high)


def test_too_few_groups_and_groups_that_differ_are_reported() -> None:
    a, b = grouped_pair(7, 6, 0)
    with pytest.raises(BadInput, match="7 groups: an interval needs at least 8"):
        similarity_interval(a, b, "shape_angle")
    with pytest.raises(BadInput, match="different groups"):
        similarity_interval(a, b.with_(groups=torch.arange(42) % 9), "shape_angle")
