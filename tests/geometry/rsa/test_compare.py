"""Comparators of RDMs: definitions, in bootstrap samples too, known answers, laws, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, compare_rdms, rdm
from geomfeat.geometry.rsa.compare import COMPARATORS, RANKED, similarities
from geomfeat.geometry.similarity import cka
from geomfeat.numerics import stream
from tests.reference.rsa import resampled_similarity, similarity, whitened_pairs


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "compare", *shape), dtype=torch.float64)


def example(k: int, n: int = 6, seed: int = 0, tied: bool = False) -> RDMs:
    vectors = draw(k, n * (n - 1) // 2, seed=seed) + 1.5
    return RDMs(vectors.mul(2).round() if tied else vectors)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_comparators_equal_their_definitions_in_every_sample(comparator: str, tied: bool, device: str) -> None:
    a, b = example(2, tied=tied), example(3, seed=1, tied=tied)
    samples = [list(range(6)), [0, 0, 1, 2, 3, 4], [5, 5, 5, 2, 2, 1], [0, 1, 2, 3, 4], [1, 3, 4, 4, 4, 4]]
    counts = torch.stack([torch.bincount(torch.tensor(s), minlength=6) for s in samples]).double()
    found = similarities(a.vectors.to(device), b.vectors.to(device), comparator, counts.to(device)).cpu()
    for s, i, j in itertools.product(range(5), range(2), range(3)):
        one, other = a.matrices[i].numpy(), b.matrices[j].numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = resampled_similarity(one, other, samples[s], comparator)
        if comparator == "whitened_cosine" and s == 4:
            expected = float("nan")  # one stimulus four times of six: its own equation has no x_i in it
        assert float(found[s, i, j]) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), (s, i, j)
    torch.testing.assert_close(compare_rdms(a, b, comparator), found[0])
    # The loop that is shorter depends on the numbers of RDMs and samples; the result does not.
    torch.testing.assert_close(similarities(a.vectors, b.vectors, comparator, counts[:1]), found[:1])


def test_rank_comparators_are_those_of_a_statistics_package() -> None:
    a, b = example(1, 20), example(1, 20, seed=1, tied=True)
    u, v = a.vectors[0].numpy(), b.vectors[0].numpy()
    assert float(compare_rdms(a, b, "spearman")) == pytest.approx(stats.spearmanr(u, v).statistic, rel=1e-12)
    c = example(1, 20, seed=2)
    w = c.vectors[0].numpy()
    assert float(compare_rdms(a, c, "kendall_tau_a")) == pytest.approx(stats.kendalltau(u, w).statistic, rel=1e-12)
    assert float(compare_rdms(a, c, "rho_a")) == pytest.approx(stats.spearmanr(u, w).statistic, rel=1e-12)


def test_rho_a_is_spearman_averaged_over_random_orders_of_ties() -> None:
    a, b = RDMs(torch.tensor([1.0, 1, 1, 2, 2, 3])), RDMs(torch.tensor([1.0, 3, 2, 5, 4, 6]))
    orders = itertools.product(itertools.permutations([1.0, 2, 3]), itertools.permutations([4.0, 5]))
    broken = [RDMs(torch.tensor([*first, *second, 6.0])) for first, second in orders]
    mean = sum(float(compare_rdms(c, b, "spearman")) for c in broken) / len(broken)
    assert float(compare_rdms(a, b, "rho_a")) == pytest.approx(mean, rel=1e-12)


def test_whitened_cosine_of_squared_distances_is_biased_linear_cka() -> None:
    x, y = draw(12, 5), draw(12, 30)
    found = compare_rdms(rdm(x), rdm(y), "whitened_cosine")
    assert float(found) == pytest.approx(cka(x, y, estimator="biased"), rel=1e-12)


def test_the_whitening_is_by_the_covariance_that_noise_gives_to_distances() -> None:
    n, d = 4, 60
    distances = torch.stack([rdm(draw(2 * n, d, seed=s), list(range(n)) * 2, dissimilarity="crossnobis",
                                 runs=[0] * n + [1] * n).vectors[0] for s in range(600)])  # fmt: skip
    measured = torch.cov(distances.T)
    contrasts = torch.zeros(6, n, dtype=torch.float64)
    for row, (i, j) in enumerate(itertools.combinations(range(n), 2)):
        contrasts[row, i], contrasts[row, j] = 1, -1
    expected = (contrasts @ contrasts.T) ** 2
    scale = float((measured * expected).sum() / expected.square().sum())
    error = scale * 4 * (2 / 600) ** 0.5
    assert float((measured - scale * expected).abs().max()) < 4 * error


@settings(deadline=None, max_examples=30)
@given(n=st.integers(4, 9), seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6), how=st.sampled_from(COMPARATORS))
def test_laws(n: int, seed: int, scale: float, how: str) -> None:
    a, b = example(1, n, seed), example(1, n, seed + 1)
    value = float(compare_rdms(a, b, how))
    assert -1 <= value <= 1
    assert float(compare_rdms(b, a, how)) == pytest.approx(value, abs=1e-12)
    assert float(compare_rdms(a, a, how)) == pytest.approx(1, abs=1e-12)
    assert float(compare_rdms(RDMs(scale * a.vectors), b, how)) == pytest.approx(value, abs=1e-9)
    order = torch.randperm(n, generator=stream(seed, "order")).tolist()
    assert float(compare_rdms(a.take(order), b.take(order), how)) == pytest.approx(value, abs=1e-9)
    shifted = float(compare_rdms(RDMs(a.vectors + 7), b, how))
    bent = float(compare_rdms(RDMs(a.vectors.exp()), b, how))
    assert (abs(shifted - value) < 1e-9) == (how in ("correlation", *RANKED))
    assert (abs(bent - value) < 1e-9) == (how in RANKED)


def test_rounding_decides_no_order() -> None:
    a = RDMs(torch.tensor([1.0, 1 + 1e-15, 1 - 1e-15, 2, 2, 3], dtype=torch.float64))
    clean = RDMs(torch.tensor([1.0, 1, 1, 2, 2, 3]))
    other = example(1, 4)
    for how in RANKED:
        torch.testing.assert_close(compare_rdms(a, other, how), compare_rdms(clean, other, how), rtol=0, atol=0)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_two_rdms_are_compared_on_the_pairs_that_both_have(
    comparator: str, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = example(3, 6), example(2, 6, seed=1)
    a.vectors[0, [3, 8]] = b.vectors[1, [2, 8, 14]] = torch.nan
    with caplog.at_level("WARNING"):
        found = compare_rdms(RDMs(a.vectors.to(device)), RDMs(b.vectors), comparator).cpu()
    assert "compared on the pairs of conditions that both have: 11 to 15 of 15" in caplog.text
    pairs = list(itertools.combinations(range(6), 2))
    for i, j in itertools.product(range(3), range(2)):
        both = (~(a.vectors[i].isnan() | b.vectors[j].isnan())).numpy()
        u, v = a.vectors[i].numpy()[both], b.vectors[j].numpy()[both]
        if comparator == "whitened_cosine":
            expected = whitened_pairs(u, v, [pair for pair, there in zip(pairs, both, strict=True) if there], 6)
        else:
            expected = similarity(u, v, comparator)
        assert float(found[i, j]) == pytest.approx(expected, rel=1e-9), (i, j)
    complete = compare_rdms(example(3, 6).select("1"), example(2, 6, seed=1).select("0"), comparator)
    torch.testing.assert_close(found[1:2, :1], complete)


def test_two_pairs_in_common_are_no_similarity(caplog: pytest.LogCaptureFixture) -> None:
    a, b = example(2, 4), example(1, 4, seed=1)
    a.vectors[0, :4] = torch.nan
    with caplog.at_level("WARNING"):
        found = compare_rdms(a, b)
    assert found.isnan().tolist() == [[True], [False]]
    assert "2 to 6 of 6; 1 have fewer than 3 and are NaN" in caplog.text


def test_what_is_undefined_is_nan() -> None:
    flat, zero, other = RDMs(torch.ones(6)), RDMs(torch.zeros(6)), example(1, 4)
    for how in ("correlation", "spearman"):
        assert bool(compare_rdms(flat, other, how).isnan())
    for how in ("cosine", "correlation", "spearman", "whitened_cosine"):
        assert bool(compare_rdms(zero, other, how).isnan())
    for how in ("rho_a", "kendall_tau_a"):
        assert float(compare_rdms(flat, other, how)) == 0


def test_bad_input_is_reported_clearly() -> None:
    with pytest.raises(BadInput, match="comparator='pearson'"):
        compare_rdms(example(1), example(1), "pearson")
    with pytest.raises(BadInput, match="different conditions"):
        compare_rdms(example(1), example(1, 7))
    with pytest.raises(BadInput, match="another order"):
        compare_rdms(example(1), example(1).take([1, 0, 2, 3, 4, 5]))
