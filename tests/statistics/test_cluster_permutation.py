"""Cluster-based permutation test: p by explicit enumeration, no more false clusters than asked for, onsets."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from geomfeat.errors import BadInput
from geomfeat.statistics.cluster_permutation import cluster_test, exchange_test, sign_flips


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def masses(t: np.ndarray, threshold: float) -> list[tuple[int, int, float]]:
    """(first, last, mass) of every run of one sign beyond the threshold, bin by bin."""
    found, start = [], None
    for k in range(len(t) + 1):
        side = 0 if k == len(t) or abs(t[k]) <= threshold else np.sign(t[k])
        if start is not None and side != start[1]:
            found.append((start[0], k - 1, float(abs(sum(t[start[0] : k])))))
            start = None
        if side and start is None:
            start = (k, side)
    return found


def test_p_is_the_share_of_all_sign_flips_with_a_mass_as_large() -> None:
    x = noise(7, 12)
    x[:, 5:9] += 1.2
    x[:, 10] -= 1.0
    found = cluster_test(x, forming_p=0.1, n_permutations=1000)
    threshold = stats.t.ppf(0.95, 6)
    largest = []
    for signs in product([1, -1], repeat=7):  # all of them, opposite ones too
        t = stats.ttest_1samp(x * np.array(signs)[:, None], 0).statistic
        largest.append(max([mass for *_, mass in masses(t, threshold)], default=0.0))
    wanted = masses(stats.ttest_1samp(x, 0).statistic, threshold)
    assert len(wanted) >= 2
    assert [(c.first, c.last) for c in found.clusters] == [(a, b) for a, b, _ in wanted]
    assert [c.mass for c in found.clusters if c.first == 5] == pytest.approx([m for a, _, m in wanted if a == 5])
    for cluster, (_, _, mass) in zip(found.clusters, wanted, strict=True):
        assert cluster.p == np.mean(np.array(largest) >= mass * (1 - 1e-9))
    assert (found.exact, found.n_permutations, found.smallest_p) == (True, 64, 1 / 64)


def test_noise_gives_false_clusters_at_the_error_rate() -> None:
    repeats = 400
    rho = 0.7  # neighbouring bins are alike, as responses are
    false = []
    for seed in range(repeats):
        x = noise(8, 20, seed=seed)
        for k in range(1, 20):
            x[:, k] = rho * x[:, k - 1] + (1 - rho**2) ** 0.5 * x[:, k]
        false.append(len(cluster_test(x).found) > 0)
    error = (0.05 * 0.95 / repeats) ** 0.5
    # With 128 flips the largest p at most .05 is 6 / 128; ties make the test no more than that.
    assert 0.05 - 4 * error < np.mean(false) < 0.05 + 2.6 * error


def test_a_signal_is_found_in_its_bins_and_not_before() -> None:
    x = noise(10, 30)
    x[:, 12:20] += 2.5
    found = cluster_test(x, 0.1 * np.arange(30))
    [cluster] = found.found
    assert (cluster.first, cluster.last) == (12, 19)
    assert (round(cluster.start, 6), round(cluster.stop, 6)) == (1.2, 1.9)
    assert found.significant.tolist() == [12 <= k < 20 for k in range(30)]
    assert cluster_test(-x).found[0].p == cluster.p
    assert found.plot().get_xlabel() == "time (s)"


def test_many_groups_are_drawn_at_random_and_seeded() -> None:
    x = noise(20, 15) + 0.3
    one, again, other = (cluster_test(x, n_permutations=500, seed=s) for s in (0, 0, 1))
    assert [c.p for c in one.clusters] == [c.p for c in again.clusters]
    assert [c.p for c in one.clusters] != [c.p for c in other.clusters]
    assert (one.exact, one.n_permutations) == (False, 500)
    assert all(c.p >= 1 / 500 for c in one.clusters)


def test_exchange_of_labels_is_that_of_all_signs() -> None:
    d = noise(6, 9, 4)  # groups, bins, units
    d[:, 6:] += 0.9
    grams = np.einsum("gtu,htu->tgh", d, d)
    found = exchange_test(grams, forming_p=0.1)
    sums = []
    for signs in product([1, -1], repeat=5):
        s = np.array([1, *signs])
        sums.append([sum(s[i] * s[j] * grams[k, i, j] for i in range(6) for j in range(6) if i != j) for k in range(9)])
    z = np.array(sums) / np.sqrt(np.mean(np.square(sums), axis=0))
    threshold = np.quantile(z, 0.9, axis=0)
    spans = [slice(a, b + 1) for a in range(9) for b in range(a, 9)]
    largest = [max([row[s].sum() for s in spans if (row[s] > threshold[s]).all()], default=0.0) for row in z]
    [cluster] = [c for c in found.clusters if c.last == 8]
    assert cluster.first == 6
    assert cluster.mass == pytest.approx(z[0, 6:].sum())
    assert cluster.p == np.mean(np.array(largest) >= cluster.mass - 1e-9)


def test_exchange_of_labels_gives_false_clusters_at_the_error_rate() -> None:
    repeats = 300
    false = []
    for seed in range(repeats):
        d = noise(7, 12, 5, seed=seed)
        false.append(len(exchange_test(np.einsum("gtu,htu->tgh", d, d)).found) > 0)
    assert np.mean(false) < 0.05 + 2.6 * (0.05 * 0.95 / repeats) ** 0.5
    assert np.mean(false) > 0.01


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match=r"5 groups: the smallest p that can be reached is 2\^-4 = 0.0625.*at least 6"):
        cluster_test(noise(5, 9))
    with pytest.raises(BadInput, match="finite numbers"):
        cluster_test(np.full((8, 3), np.nan))
    with pytest.raises(BadInput, match="an entry for each of 9 bins"):
        cluster_test(noise(8, 9), [1.0, 2.0])
    with pytest.raises(BadInput, match="forming_p=2"):
        cluster_test(noise(8, 9), forming_p=2)
    with pytest.raises(BadInput, match="draw 20"):
        sign_flips(30, 10, 0.05, 0)


def test_courses_without_any_spread_do_not_fail() -> None:
    assert cluster_test(np.zeros((8, 4))).clusters == ()
    assert cluster_test(np.ones((8, 4))).found[0].p == 1 / 128
