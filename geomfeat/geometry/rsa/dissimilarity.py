"""Dissimilarities between conditions, each from one Gram matrix: Euclidean, Mahalanobis, correlation, crossnobis."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat import labels
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.copied_patterns import all_apart, distances_apart
from geomfeat.geometry.rsa.crossnobis import FEWEST_RUNS, cell_means, crossnobis_distances, gaps
from geomfeat.geometry.rsa.crossnobis_errors import distance_errors
from geomfeat.geometry.rsa.given_precision import as_precision, whitened, whitened_by_run
from geomfeat.geometry.rsa.products import gram, squared_distances
from geomfeat.geometry.rsa.rdms import RDMs
from geomfeat.memory import require_memory
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.precision import is_constant, precision_of, roundings
from geomfeat.types import Representation

DISSIMILARITIES = (
    "squared_euclidean", "euclidean", "correlation", "squared_mahalanobis", "mahalanobis", "crossnobis"
)  # fmt: skip


def rdm(
    x: Any,
    conditions: Any = None,
    *,
    dissimilarity: str = "squared_euclidean",
    precision: Any = None,
    runs: Any = None,
    errors: bool = False,
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
            "crossnobis"           as squared_mahalanobis, but v'P times the difference in other runs, averaged over
                                   all pairs of different runs (Walther et al. 2016). 0 on average for equal patterns,
                                   so it can be negative. Each run counts by the trials of the pair, n_a n_b / (n_a +
                                   n_b), so that noise of unequal trials costs least; equal numbers count alike. A
                                   pair uses the runs that have both conditions; it is NaN, with a note, below two.
        precision: P, (d, d), or (d,) where diagonal; see `noise_precision`. Crossnobis: None is the identity, and
            {run: P}, of `noise_precision_by_run`, whitens each run by its own.
        runs: (samples,) the run (session, fold) of each sample, for "crossnobis".
        errors: also the standard error of each distance, as `.stderr`, for "crossnobis": from the spread of the
            conditions over runs, for Gaussian noise that trials average out (Diedrichsen et al. 2020).
        name: name of the matrix; default the layer's name.

    Returns RDMs with one matrix. Raises BadInput for lengths that disagree, fewer than two runs or conditions, no pair
    of conditions with two runs, and patterns without variance over units ("correlation"); OutOfMemory for more
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
    if errors and runs is None:
        raise BadInput("errors=True needs dissimilarity='crossnobis' and its runs=: other distances have no errors")
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
    names = (name or layer or "0",)
    if runs is not None:
        vectors, stderr, notes = _crossvalidated(data, index, runs, levels, precision, errors)
        return RDMs(vectors, dissimilarity, names, levels, stderr, tuple(notes))
    weights = None if precision is None else as_precision(precision, data.shape[1], data.device)
    means = condition_means(data, index, len(levels))
    correlated = dissimilarity == "correlation"
    vectors = _correlation(means, levels, known) if correlated else _squared(means, weights, known)
    if dissimilarity in ("euclidean", "mahalanobis"):
        vectors = vectors.sqrt()
    return RDMs(vectors, dissimilarity, names, levels)


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


def _crossvalidated(
    x: Tensor, index: Tensor, given_runs: Any, levels: tuple[Hashable, ...], precision: Any, errors: bool
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Crossnobis distances, their errors where asked for, and notes."""
    runs, run = levels_of(given_runs, x, "runs")
    if len(runs) < FEWEST_RUNS:
        raise BadInput("crossnobis needs at least 2 runs, got one: give runs= of independent measurements")
    means, counts = cell_means(x, index, run, len(levels), len(runs))
    if isinstance(precision, Mapping):
        means, weights = whitened_by_run(means, precision, runs), None
    else:
        weights = None if precision is None else as_precision(precision, x.shape[1], x.device)
    vectors = crossnobis_distances(means, counts, weights)
    notes = gaps(counts, levels, runs)
    if bool(vectors.isnan().all()):
        raise BadInput(f"no two conditions share 2 runs: {notes[0]}; leave conditions or runs out, or merge runs")
    if not errors:
        return vectors, None, notes
    stderr = distance_errors(whitened(means, weights), counts)
    if bool(stderr.isnan().all()):
        notes.append("no errors: the conditions and runs leave fewer than 2 degrees of freedom for the noise")
    return vectors, stderr, notes


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
    products = gram(moved[:, None], weights)
    squared, sizes = squared_distances(products)
    # A share of the norms: float64 products are exact to far less, whatever the precision of the data.
    if float(squared.min()) < 0 and bool((squared < -1e-6 * sizes.abs()).any()):
        raise BadInput("precision gives negative squared distances, so it is the inverse of no covariance")
    away = (products.diagonal() if weights is None else moved.square().sum(1)).sqrt()
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
    squared, sizes = squared_distances(unit @ unit.T)
    return distances_apart(unit, squared, sizes, of_spread + of_size * size / norms) / 2
