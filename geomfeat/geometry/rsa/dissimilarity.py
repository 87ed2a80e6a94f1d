"""Dissimilarities between conditions, each from one Gram matrix: Euclidean, Mahalanobis, correlation, crossnobis."""

from collections.abc import Hashable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat import labels
from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.copied_patterns import all_apart, distances_apart
from geomfeat.geometry.rsa.rdms import RDMs
from geomfeat.memory import require_memory
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.precision import is_constant, precision_of, roundings
from geomfeat.types import Representation

DISSIMILARITIES = (
    "squared_euclidean", "euclidean", "correlation", "squared_mahalanobis", "mahalanobis", "crossnobis"
)  # fmt: skip
# Multiplications (about 50 ms on one core) below which a product is not worth waking other threads for.
SMALL_PRODUCT = 1e9


def rdm(
    x: Any,
    conditions: Any = None,
    *,
    dissimilarity: str = "squared_euclidean",
    precision: Any = None,
    runs: Any = None,
    name: str = "",
) -> RDMs:
    """Representational dissimilarity matrix of the conditions' mean patterns.

    Args:
        x: a Representation or an array (samples, units).
        conditions: (samples,) which condition each sample is of, anything sortable; the RDM is in their sorted order.
            None: every sample is its own condition.
        dissimilarity, of two patterns of d units with difference v:
            "squared_euclidean"    v'v / d (Walther et al. 2016), and its root "euclidean";
            "squared_mahalanobis"  v'Pv / d with the noise precision P, and its root "mahalanobis";
            "correlation"          1 - Pearson correlation over units;
            "crossnobis"           as squared_mahalanobis, but v'P times the difference in other runs: each run against
                                   the mean of the others, averaged over runs (Walther et al. 2016). 0 on average for
                                   equal patterns, so it can be negative. Runs of any size have equal weight.
        precision: P, (d, d), or (d,) where diagonal; see `noise_precision`. Crossnobis: None is the identity.
        runs: (samples,) the run (session, fold) of each sample, for "crossnobis"; each condition in each run.
        name: name of the matrix; default the layer's name.

    Returns RDMs with one matrix. Raises BadInput for lengths that disagree, a condition that is missing in a run, fewer
    than two runs or conditions, and patterns without variance over units ("correlation"); OutOfMemory for more
    conditions than fit, before anything is allocated.

    >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [3.0, 4.0]])
    >>> rdm(x, ["a", "b", "a", "b"]).vectors.tolist()
    [[12.5]]
    >>> rdm(x, ["a", "b", "a", "b"], dissimilarity="crossnobis", runs=[0, 0, 1, 1]).vectors.tolist()
    [[12.5]]
    """
    if dissimilarity not in DISSIMILARITIES:
        raise BadInput(f"dissimilarity={dissimilarity!r}: use one of {', '.join(map(repr, DISSIMILARITIES))}")
    mahalanobis = dissimilarity in ("squared_mahalanobis", "mahalanobis")
    if mahalanobis != (precision is not None) and dissimilarity != "crossnobis":
        raise BadInput(f"dissimilarity={dissimilarity!r} {'needs' if mahalanobis else 'takes no'} precision=")
    if (dissimilarity == "crossnobis") != (runs is not None):
        raise BadInput("runs= belong to dissimilarity='crossnobis', and it needs them: give both or neither")
    layer = x.layer if isinstance(x, Representation) else ""
    known = x.precision if isinstance(x, Representation) else precision_of(x)
    data = as_tensor(x.x if isinstance(x, Representation) else x, "x", WORKING)
    if data.ndim != 2 or 0 in data.shape:
        raise BadInput(f"x must be (samples, units), got shape {tuple(data.shape)}")
    require_finite(data, "x")
    levels, index = levels_of(conditions if conditions is not None else range(len(data)), data, "conditions")
    if len(levels) < 2:
        raise BadInput("an RDM needs at least 2 conditions, got one: give conditions=")
    # The Gram matrix, and the pairs' distances, sizes and places.
    require_memory(
        32 * len(levels) ** 2,
        f"the RDM of {len(levels)} conditions",
        "give conditions= that group the samples, or fewer samples",
        data.device,
    )
    weights = None if precision is None else _precision(precision, data)
    if runs is None:
        means = condition_means(data, index, len(levels))
        correlated = dissimilarity == "correlation"
        vectors = _correlation(means, levels, known) if correlated else _squared(means, weights, known)
    else:
        vectors = _crossnobis(_run_means(data, index, runs, levels), weights)
    if dissimilarity in ("euclidean", "mahalanobis"):
        vectors = vectors.sqrt()
    return RDMs(vectors, dissimilarity, (name or layer or "0",), levels)


def condition_means(x: Float[Tensor, "n d"], index: Int[Tensor, "n"], count: int) -> Float[Tensor, "conditions d"]:
    """Mean pattern of each of `count` conditions; index (n,) says which one a sample is of."""
    sizes = torch.bincount(index, minlength=count)
    if int(sizes.max()) == int(sizes.min()) == 1:
        return torch.empty_like(x).index_copy_(0, index, x)
    return x.new_zeros(count, x.shape[1]).index_add_(0, index, x) / sizes[:, None]


def levels_of(given: Any, x: Tensor, name: str) -> tuple[tuple[Hashable, ...], Tensor]:
    """The different values in sorted order, and which one each sample has."""
    levels, index = labels.levels_of(given, name, len(x))
    return levels, index.to(x.device)


def _run_means(x: Tensor, index: Tensor, runs: Any, levels: tuple[Hashable, ...]) -> Tensor:
    """(runs, conditions, units) mean patterns."""
    folds, fold = levels_of(runs, x, "runs")
    if len(folds) < 2:
        raise BadInput("crossnobis needs at least 2 runs, got one: give runs= of independent measurements")
    n = len(levels)
    cell = fold * n + index
    counts = torch.bincount(cell, minlength=len(folds) * n)
    if not bool(counts.all()):
        empty = int((counts == 0).nonzero()[0])
        raise BadInput(
            f"condition {levels[empty % n]!r} is missing in run {folds[empty // n]!r} ({int((counts == 0).sum())} such "
            "gaps): leave that condition or run out, or merge runs"
        )
    return condition_means(x, cell, len(counts)).reshape(len(folds), n, -1)


def _precision(given: Any, x: Tensor) -> Tensor:
    """The noise precision as (d,) or (d, d)."""
    d = x.shape[1]
    out = require_finite(as_tensor(given, "precision", WORKING), "precision").to(x.device)
    if out.shape not in ((d,), (d, d)):
        raise BadInput(f"precision must be ({d},) or ({d}, {d}) for {d} units, got shape {tuple(out.shape)}")
    if out.ndim == 2 and float((out - out.T).abs().max()) > 1e-6 * float(out.abs().max()):
        raise BadInput("precision is not symmetric: give the inverse of a covariance, see noise_precision()")
    if bool(((out if out.ndim == 1 else out.diagonal()) < 0).any()):
        raise BadInput("precision has negative entries on its diagonal: give the inverse of a covariance")
    return out


def _gram(x: Tensor, precision: Tensor | None) -> Tensor:
    """x P x' of patterns (n, d), or the sum of x_r P x_r' of stacks of them (n, runs, d)."""
    flat = x.reshape(len(x), -1)
    if precision is not None and precision.ndim == 2:
        return (x @ precision).reshape(len(x), -1) @ flat.T
    scaled = flat if precision is None else (x * precision.sqrt()).reshape(len(x), -1)
    if scaled.is_cuda:
        return scaled @ scaled.T
    # numpy calls the product of a matrix with its own transpose by its name, which halves the work. After a small one
    # the threads of its library would spin for longer than it took, on the cores that torch's need next.
    rows = scaled.numpy()
    with libraries_on_one_thread() if len(rows) * rows.size < SMALL_PRODUCT else nullcontext():
        return torch.from_numpy(rows @ rows.T)


def _pairs(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances of a Gram matrix as an upper triangle, and the squared norms that they come from."""
    rows, columns = torch.triu_indices(len(gram), len(gram), 1, device=gram.device)
    norms = gram.diagonal()
    sizes = norms[rows] + norms[columns]
    return sizes - gram[rows, columns] - gram[columns, rows], sizes


def _squared(means: Tensor, weights: Tensor | None, known: torch.dtype) -> Tensor:
    # Far from the origin the norms would drown the distances.
    mean = means.mean(0)
    moved = means - mean
    found = _measured(moved, mean, weights, known)
    if all_apart(*found, weights):
        return found[0] / means.shape[1]
    constant = is_constant(moved.square().mean(0).sqrt(), mean.abs(), known)
    if bool(constant.any()):
        moved[:, constant] = 0.0
        found = _measured(moved, torch.where(constant, 0, mean), weights, known)
    return distances_apart(moved, *found, weights) / means.shape[1]


def _measured(moved: Tensor, mean: Tensor, weights: Tensor | None, known: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances, the norms that they come from, and how near a pattern another may be the same."""
    gram = _gram(moved, weights)
    squared, sizes = _pairs(gram)
    # A share of the norms: float64 products are exact to far less, whatever the precision of the data.
    if float(squared.min()) < 0 and bool((squared < -1e-6 * sizes.abs()).any()):
        raise BadInput("precision gives negative squared distances, so it is the inverse of no covariance")
    away = (gram.diagonal() if weights is None else moved.square().sum(1)).sqrt()
    of_spread, of_size = roundings(known)
    return squared, sizes, of_spread * away + of_size * (away + torch.linalg.vector_norm(mean))


def _correlation(means: Tensor, levels: tuple[Hashable, ...], known: torch.dtype) -> Tensor:
    centered = means - means.mean(1, keepdim=True)
    norms, size = centered.norm(dim=1), means.norm(dim=1)
    flat = is_constant(norms, size, known)
    if bool(flat.any()):
        raise BadInput(
            f"{int(flat.sum())} conditions (the first: {levels[int(flat.nonzero()[0])]!r}) have the same value in "
            "every unit, so their correlation distance is undefined: leave them out, or use 'squared_euclidean'"
        )
    unit = centered / norms[:, None]
    of_spread, of_size = roundings(known)
    squared, sizes = _pairs(unit @ unit.T)
    return distances_apart(unit, squared, sizes, of_spread + of_size * size / norms) / 2


def _crossnobis(means: Tensor, precision: Tensor | None) -> Tensor:
    """With the runs' patterns B_r: sum over r != s of B_r P B_s' is (sum B) P (sum B)' less the sum of B_r P B_r', so
    that one product of the concatenated runs does for all pairs and folds."""
    n_runs, n, d = means.shape
    # A pattern common to all conditions of a run drops out of every difference; it only costs digits.
    common = means.mean(1)
    beside = torch.sub(means.transpose(0, 1), common, out=means.new_empty(n, n_runs, d))
    gram = _gram(beside.sum(1), precision) - _gram(beside, precision)
    return _pairs(gram)[0] / (n_runs * (n_runs - 1) * d)
