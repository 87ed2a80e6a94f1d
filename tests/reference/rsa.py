"""RDMs, their noise and their comparison written from the definitions: loops over folds, pairs and pairs of pairs."""

from __future__ import annotations

import itertools

import numpy as np


def crossnobis_by_products(
    x: np.ndarray, conditions: np.ndarray, runs: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """Products of the differences in every two runs that have both conditions, weighted by n_a n_b / (n_a + n_b)."""
    out = []
    for a, b in itertools.combinations(sorted(set(conditions)), 2):
        differences, weights = pair_in_runs(x, conditions, runs, a, b)
        above = below = 0.0
        for r, s in itertools.permutations(range(len(weights)), 2):
            above += weights[r] * weights[s] * differences[r] @ precision @ differences[s] / x.shape[1]
            below += weights[r] * weights[s]
        out.append(above / below if below else np.nan)
    return np.array(out)


def pair_in_runs(
    x: np.ndarray, conditions: np.ndarray, runs: np.ndarray, a: object, b: object
) -> tuple[list[np.ndarray], list[float]]:
    """Difference of the means of two conditions, and its weight, in each run that has both."""
    differences, weights = [], []
    for r in sorted(set(runs)):
        of_a, of_b = (x[(runs == r) & (conditions == c)] for c in (a, b))
        if len(of_a) and len(of_b):
            differences.append(of_a.mean(0) - of_b.mean(0))
            weights.append(len(of_a) * len(of_b) / (len(of_a) + len(of_b)))
    return differences, weights


def crossnobis_errors_by_pairs(x: np.ndarray, conditions: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Standard errors with P = I, by least squares on dummies and covariances written out."""
    levels, folds = sorted(set(conditions)), sorted(set(runs))
    cells = [(r, c) for r in folds for c in levels if ((runs == r) & (conditions == c)).any()]
    n = np.array([((runs == r) & (conditions == c)).sum() for r, c in cells])
    y = np.stack([x[(runs == r) & (conditions == c)].mean(0) for r, c in cells])
    design = np.array([[*(r == f for f in folds), *(c == k for k in levels)] for r, c in cells], dtype=float)
    root = np.sqrt(n)[:, None]
    beta = np.linalg.lstsq(root * design, root * y, rcond=None)[0]
    left = root * (y - design @ beta)
    dof = len(cells) - np.linalg.matrix_rank(design)
    covariance = left.T @ left / dof
    square = dof**2 / ((dof - 1) * (dof + 2)) * (np.trace(covariance @ covariance) - np.trace(covariance) ** 2 / dof)
    square = max(square, np.trace(covariance) ** 2 / x.shape[1])
    information = np.linalg.pinv(design.T @ (n[:, None] * design))
    out = []
    for i, j in itertools.combinations(range(len(levels)), 2):
        contrast = np.zeros(design.shape[1])
        contrast[[len(folds) + i, len(folds) + j]] = 1, -1
        along = (contrast @ beta) @ covariance @ (contrast @ beta) - square * contrast @ information @ contrast
        w = np.array(pair_in_runs(x, conditions, runs, levels[i], levels[j])[1])
        share = np.outer(w, w) * (1 - np.eye(len(w)))
        share /= share.sum()
        variance = 4 * max(along, 0) * (share.sum(1) ** 2 / w).sum() + 2 * square * (share**2 / np.outer(w, w)).sum()
        out.append(np.sqrt(variance) / x.shape[1])
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
    return whitened_pairs(u, v, pairs, n)


def whitened_pairs(u: np.ndarray, v: np.ndarray, pairs: list[tuple[int, int]], n: int) -> float:
    """The same of any pairs of n stimuli."""
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
