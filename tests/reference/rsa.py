"""RDMs, their noise and their comparison written from the definitions: loops over folds, pairs and pairs of pairs."""

from __future__ import annotations

import itertools

import numpy as np


def crossnobis_by_folds(x: np.ndarray, conditions: np.ndarray, runs: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Each run against the mean of the other runs' condition means, for every pair of conditions."""
    levels, folds = sorted(set(conditions)), sorted(set(runs))
    means = {(r, c): x[(runs == r) & (conditions == c)].mean(0) for r in folds for c in levels}
    out = []
    for a, b in itertools.combinations(levels, 2):
        products = []
        for r in folds:
            rest = np.mean([means[q, a] - means[q, b] for q in folds if q != r], axis=0)
            products.append((means[r, a] - means[r, b]) @ precision @ rest / x.shape[1])
        out.append(np.mean(products))
    return np.array(out)


def distances_by_pairs(means: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """v'Pv / d for every pair."""
    return np.array([(a - b) @ precision @ (a - b) / len(a) for a, b in itertools.combinations(means, 2)])


def correlation_by_pairs(means: np.ndarray) -> np.ndarray:
    """One minus the correlation for every pair."""
    return np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(means, 2)])


def shrunk_to_diagonal(r: np.ndarray, dof: int) -> np.ndarray:
    """Schaefer & Strimmer: the share of shrinkage from the variance of every product of standardised residuals."""
    n, d = r.shape
    s = r.T @ r / dof
    above = below = 0.0
    for i, j in itertools.permutations(range(d), 2):
        w = r[:, i] * r[:, j] / np.sqrt(s[i, i] * s[j, j])
        above += n / dof**2 * w.var(ddof=1)
        below += (w.sum() / dof) ** 2
    share = min(1.0, above / below)
    return np.where(np.eye(d, dtype=bool), s, (1 - share) * s)


def shrunk_to_identity(r: np.ndarray, dof: int) -> np.ndarray:
    """Ledoit & Wolf, with the sum over samples written out."""
    n, d = r.shape
    s = sum(np.outer(row, row) for row in r) / n
    target = np.trace(s) / d * np.eye(d)
    total = ((s - target) ** 2).sum()
    noise = min(total, sum(((np.outer(row, row) - s) ** 2).sum() for row in r) / n**2)
    return (noise / total * target + (1 - noise / total) * s) * n / dof


def rank(v: np.ndarray) -> np.ndarray:
    """1 + how many are smaller + half of how many others are equal (to 12 digits: sums of ranks carry rounding)."""
    v = np.round(v, 12)
    return np.array([1 + (v < x).sum() + ((v == x).sum() - 1) / 2 for x in v])


def similarity(u: np.ndarray, v: np.ndarray, comparator: str) -> float:
    """One number for two vectors of dissimilarities."""
    if comparator == "cosine":
        return float(u @ v / np.sqrt((u @ u) * (v @ v)))
    if comparator == "correlation":
        return float(np.corrcoef(u, v)[0, 1])
    if comparator == "spearman":
        return float(np.corrcoef(rank(u), rank(v))[0, 1])
    if comparator == "rho_a":
        n, mean = len(u), (len(u) + 1) / 2
        return float(12 * ((rank(u) - mean) @ (rank(v) - mean)) / (n**3 - n))
    if comparator == "kendall_tau_a":
        signs = [np.sign(u[i] - u[j]) * np.sign(v[i] - v[j]) for i, j in itertools.combinations(range(len(u)), 2)]
        return float(np.mean(signs))
    raise ValueError(comparator)


def whitened(u: np.ndarray, v: np.ndarray, stimuli: list[int]) -> float:
    """u'V^-1 v / sqrt(u'V^-1 u v'V^-1 v) with V of every pair of pairs that are of different stimuli."""
    n = len(stimuli)
    pairs = [(i, j) for i, j in itertools.combinations(range(n), 2) if stimuli[i] != stimuli[j]]
    contrasts = np.zeros((len(pairs), n))
    for row, (i, j) in enumerate(pairs):
        contrasts[row, i], contrasts[row, j] = 1, -1
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    return float(u @ inverse @ v / np.sqrt((u @ inverse @ u) * (v @ inverse @ v)))


def resampled(matrix: np.ndarray, stimuli: list[int]) -> np.ndarray:
    """Upper triangle of the resampled matrix without the pairs of a stimulus with its copy."""
    pairs = itertools.combinations(range(len(stimuli)), 2)
    return np.array([matrix[stimuli[i], stimuli[j]] for i, j in pairs if stimuli[i] != stimuli[j]])


def resampled_similarity(a: np.ndarray, b: np.ndarray, stimuli: list[int], comparator: str) -> float:
    """`similarity` of two square matrices in one bootstrap sample of stimuli."""
    u, v = resampled(a, stimuli), resampled(b, stimuli)
    return whitened(u, v, stimuli) if comparator == "whitened_cosine" else similarity(u, v, comparator)


def best_rdm(data: np.ndarray, comparator: str) -> np.ndarray:
    """The RDM of highest mean similarity with those of all subjects (k, pairs)."""
    if comparator == "cosine":
        return np.mean([v / np.sqrt(v @ v) for v in data], axis=0)
    if comparator == "correlation":
        return np.mean([(v - v.mean()) / v.std() for v in data], axis=0)
    if comparator == "spearman":
        return np.mean([(r - r.mean()) / r.std() for r in map(rank, data)], axis=0)
    return np.mean([rank(v) for v in data], axis=0)


def ceiling_by_loop(data: np.ndarray, comparator: str) -> tuple[float, float]:
    """Lower and upper noise ceiling: each subject against the best RDM of the others, and of all."""
    everyone = range(len(data))
    rest = [best_rdm(data[[j for j in everyone if j != k]], comparator) for k in everyone]
    lower = np.mean([similarity(rest[k], data[k], comparator) for k in everyone])
    upper = np.mean([similarity(best_rdm(data, comparator), data[k], comparator) for k in everyone])
    return float(lower), float(upper)
