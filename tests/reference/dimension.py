"""Slow definitions of dimension from neighbours, pairs and trials: loops over points, likelihoods on a grid."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.optimize import minimize_scalar


def neighbour_distances(x: np.ndarray, i: int) -> list[float]:
    """Distances from point i to all others, nearest first."""
    return sorted(float(np.sqrt(((x[i] - x[j]) ** 2).sum())) for j in range(len(x)) if j != i)


def gride(x: np.ndarray, n1: int, n2: int) -> float:
    """The d that maximises the likelihood of mu = r_n2 / r_n1, with n - 1 for n on log d (no bias at n2 = 2)."""
    mu = np.array([(r := neighbour_distances(x, i))[n2 - 1] / r[n1 - 1] for i in range(len(x))])
    n = len(mu)

    def loss(d: float) -> float:
        return -(
            (n - 1) * math.log(d) + (n2 - n1 - 1) * np.log(mu**d - 1).sum() - ((n2 - 1) * d + 1) * np.log(mu).sum()
        )

    return float(minimize_scalar(loss, bounds=(1e-3, 100), method="bounded", options={"xatol": 1e-10}).x)


def mle(x: np.ndarray, k: int) -> float:
    """Inverse of the average over points of the inverse likelihood estimates."""
    inverse = []
    for i in range(len(x)):
        r = neighbour_distances(x, i)
        inverse.append(sum(math.log(r[k - 1] / r[j]) for j in range(k - 1)) / (k - 1))
    return 1 / float(np.mean(inverse))


def local_mle(x: np.ndarray, k: int) -> np.ndarray:
    """(k - 2) / sum of log(r_k / r_j), point by point."""
    out = []
    for i in range(len(x)):
        r = neighbour_distances(x, i)
        out.append((k - 2) / sum(math.log(r[k - 1] / r[j]) for j in range(k - 1)))
    return np.array(out)


def correlation_integral(x: np.ndarray, radius: float) -> float:
    """Share of the pairs of points that are no further apart than the radius."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    return sum(math.dist(x[i], x[j]) <= radius for i, j in pairs) / len(pairs)


def participation_ratio_of_trials(x: np.ndarray) -> float:
    """(tr C)^2 / tr C^2 by averaging over all distinct stimuli and all pairs of different trials; x (trials, n, d)."""
    pairs = list(itertools.permutations(range(len(x)), 2))
    above, below = [], []
    for i, j, k, l in itertools.permutations(range(x.shape[1]), 4):
        u, w = x[:, i] - x[:, j], x[:, k] - x[:, l]
        above.append(np.mean([u[a] @ u[b] for a, b in pairs]) * np.mean([w[c] @ w[e] for c, e in pairs]) / 4)
        below.append(np.mean([(u[a] @ w[c]) * (u[b] @ w[e]) for a, b in pairs for c, e in pairs]) / 4)
    return float(np.mean(above) / np.mean(below))


def participation_ratio_of_unequal_trials(x: np.ndarray, stimulus: np.ndarray) -> float:
    """The same from all pairs of different trials of every stimulus, each moment by itself; x (n, d)."""
    trials = [x[stimulus == i] for i in range(stimulus.max() + 1)]
    pairs = [list(itertools.permutations(range(len(t)), 2)) for t in trials]

    def own(i: int) -> float:
        return float(np.mean([trials[i][a] @ trials[i][b] for a, b in pairs[i]]))

    def squared(i: int, j: int) -> float:
        products = trials[i] @ trials[j].T
        return float(np.mean([products[a, c] * products[b, e] for a, b in pairs[i] for c, e in pairs[j]]))

    def in_common(i: int, j: int, k: int) -> float:
        one, two = (trials[i] @ trials[other].mean(0) for other in (j, k))
        return float(np.mean([one[a] * two[b] for a, b in pairs[i]]))

    def product(i: int, j: int) -> float:
        return float(trials[i].mean(0) @ trials[j].mean(0))

    above, below = [], []
    for i, j, k, l in itertools.permutations(range(len(trials)), 4):
        above.append((own(i) + own(j) - 2 * product(i, j)) * (own(k) + own(l) - 2 * product(k, l)) / 4)
        below.append(squared(i, k) - 2 * in_common(i, k, l) + product(i, k) * product(j, l))
    return float(np.mean(above) / np.mean(below))


def participation_ratio_of_groups(x: np.ndarray, groups: np.ndarray) -> float:
    """(tr C)^2 / tr C^2 by averaging over all four samples of different groups."""
    above, below = [], []
    for four in itertools.permutations(range(len(x)), 4):
        if len(set(groups[list(four)])) == 4:
            i, j, k, l = x[list(four)]
            above.append((i - j) @ (i - j) * ((k - l) @ (k - l)) / 4)
            below.append(((i - j) @ (k - l)) ** 2 / 4)
    return float(np.mean(above) / np.mean(below))


def shared_variance(x: np.ndarray) -> np.ndarray:
    """Cross-validated spectrum of two trials (2, n, d): directions of either, products of both, one at a time."""
    n, d = x.shape[1:]
    halves = [half - half.mean(0) for half in x]
    out = np.zeros(min(n - 1, d))
    for train, test in (halves, halves[::-1]):
        values, vectors = np.linalg.eigh(train.T @ train)
        for k, column in enumerate(np.argsort(-values)[: len(out)]):
            u = vectors[:, column]
            out[k] += sum((u @ train[i]) * (u @ test[i]) for i in range(n)) / (n - 1) / 2
    return out


def components(x: np.ndarray, share: float) -> int:
    """Fewest principal components whose variance is at least that share of the total."""
    values = sorted(np.linalg.eigvalsh(np.cov(x.T)).tolist() if x.shape[1] > 1 else [1.0], reverse=True)
    held = 0.0
    for count, value in enumerate(values, 1):
        held += value
        if held >= share * sum(values) * (1 - 1e-12):
            return count
    return len(values)


def overlap_variance(score: np.ndarray, x: np.ndarray, k: int) -> float:
    """Sum of s_i s_j over all i and j that are one point, or of which one is among the k nearest of the other."""
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    near = [set(np.argsort(row, kind="stable")[1 : k + 1].tolist()) for row in distance]
    pairs = itertools.product(range(len(x)), repeat=2)
    return sum(score[i] * score[j] for i, j in pairs if i == j or i in near[j] or j in near[i])
