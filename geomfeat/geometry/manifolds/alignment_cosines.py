"""Cosines between centres and axes of every pair of manifolds, with the influence of every draw on each.

Centres are means over the draws, and axes start there: a draw counts through its own axis and through the centres of
all others. The slope of |cos(a, b)| with a is sign(cos) (b - cos a) / |a| for unit vectors a, b. With centres and axes
of i and j (unit vectors c_i, a_di; over the draws d in which they move), a centre that moves by m_i turns

    |cos(a_i, a_j)|   by   m_i . T_ij,    T_ij = mean_d sign (cos a_di - a_dj) / |axis_di|
    |cos(c_i, a_j)|   by   m_i . K_ij,    K_ij = mean_d sign (a_dj - cos c_i) / |centre_i|
    |cos(c_j, a_i)|   by   m_i . H_ij,    H_ij = mean_d sign (cos a_di - c_j) / |axis_di|

and the first and second through the centre of j as well. Axes are sums of the points that carry anchors, so that these
slopes are products of their weights with the points, and what a draw does is a sum over the points that carry its own.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geomfeat._numba.pair_moves import OTHER_AXES, influences, weights_of_slopes
from geomfeat._numba.threads import in_threads
from geomfeat.geometry.manifolds.anchor_points import Anchors
from geomfeat.numerics import WORKING, matmul

# Doubles of the slopes that are held at once.
CHUNK_DOUBLES = 2**23
# Manifolds that one thread takes at a time.
PIECE = 5


class Pairs(NamedTuple):
    """value, signed for centres; its influence; which pairs of different manifolds the draws define."""

    value: Float[Tensor, "P P"]
    influence: Float[Tensor, "draws P P"]
    defined: Bool[Tensor, "P P"]


class Counts(NamedTuple):
    """Draws in which both axes move (P, P), and in which one does (P,); 1 at least."""

    moving: Float[Tensor, "P P"]
    seen: Float[Tensor, "P"]


def cosines_of(anchors: Anchors) -> list[tuple[Float[Tensor, "P P"], Bool[Tensor, "P P"]]]:
    """Of centres (signed), of axes, and of centres (first) with axes (means of |cos|); and which pairs have them."""
    there, moves = anchors.active.any(0), anchors.seen.length > 0
    apart = ~torch.eye(len(there), dtype=torch.bool)
    counts, both = _counts(anchors), _together(moves)
    centers = matmul(anchors.unit, anchors.unit.T).clamp_(-1.0, 1.0)
    axes, across = (a.abs().sum(0) for a in (anchors.seen.cosine, anchors.seen.across))
    return [
        (centers, apart & there & there[:, None]),
        (axes / counts.moving, apart & (both > 0)),
        (across / counts.seen, apart & there[:, None] & moves.any(0)),
    ]


def _together(moves: Tensor) -> Tensor:
    return matmul(moves.T.to(WORKING), moves.to(WORKING))


def _counts(anchors: Anchors) -> Counts:
    moves = anchors.seen.length > 0
    return Counts(_together(moves).clamp_min(1), moves.sum(0).clamp_min(1).to(WORKING))


def pairs_of(anchors: Anchors) -> list[Pairs]:
    """Cosines of centres, of axes, and of centres with axes, as `cosines_of`, with the influence of every draw."""
    (draws, n_manifolds), seen, counts = anchors.active.shape, anchors.seen, _counts(anchors)
    found = cosines_of(anchors)
    (centers, _), (axes, _), (across, _) = found
    moves = seen.length > 0
    over = torch.where(moves, 1 / torch.where(moves, seen.length, 1.0), 0.0) / counts.seen
    inverse = (torch.where(seen.across < 0, -1.0, 1.0) * over[:, None]).sum(0)
    given = (
        anchors.start, anchors.index, anchors.weight, anchors.owner, anchors.share, anchors.size,
        seen.length, seen.cosine, seen.across, *counts, torch.stack([axes, centers, across]), inverse,
        _turned(anchors, counts),
    )  # fmt: skip
    known = [np.ascontiguousarray(a.numpy()) for a in given]
    of_axes, of_centers, of_both = (np.zeros((draws, n_manifolds, n_manifolds)) for _ in range(3))
    in_threads(lambda i, j: influences(*[*known, of_axes, of_centers, of_both, i, j]), draws)
    made = (torch.from_numpy(a) for a in (of_centers, of_axes, of_both))
    return [Pairs(value, influence, defined) for (value, defined), influence in zip(found, made, strict=True)]


def _turned(anchors: Anchors, counts: Counts) -> Float[Tensor, "u 4 P"]:
    """Products of the points of every manifold i with its T_ij, K_ij, H_ij and c_j, but for the c in K and H."""
    weights, n_manifolds = _weights(anchors, counts), len(anchors.centers)
    points, unit, ends = anchors.points.numpy(), anchors.unit.numpy(), anchors.sizes.cumsum(0).tolist()
    blocks = [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    out = np.empty((len(points), 4, n_manifolds))
    size = max(1, CHUNK_DOUBLES // (4 * n_manifolds * points.shape[1]))
    for first in range(0, n_manifolds, size):
        some = slice(first, min(n_manifolds, first + size))
        # What the axes of j in `some` add to T_ij and K_ij, for every i.
        others = np.empty((len(blocks[some]), 2, n_manifolds, points.shape[1]))

        def turn_others(begin: int, end: int, first: int = first, others: np.ndarray = others) -> None:
            for j in range(begin, end):
                block = blocks[first + j]
                others[j] = _sums(weights[block, OTHER_AXES:], points[block])

        def turn(begin: int, end: int, some: slice = some, others: np.ndarray = others) -> None:
            for i in range(begin, end):
                block = blocks[i]
                axes, centers = _sums(weights[block, :OTHER_AXES, some], points[block])
                slopes = np.stack([axes - others[:, 0, i], others[:, 1, i], centers, unit[some]])
                products = points[block] @ slopes.reshape(-1, points.shape[1]).T
                out[block, :, some] = products.reshape(len(products), 4, len(others))

        in_threads(turn_others, len(others), share=PIECE)
        in_threads(turn, n_manifolds, share=PIECE)
    return torch.from_numpy(out)


def _sums(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(2, P, r) sums of points (u, r) with weights (u, 2, P)."""
    u, kinds, n_manifolds = weights.shape
    return (weights.reshape(u, kinds * n_manifolds).T @ points).reshape(kinds, n_manifolds, points.shape[1])


def _weights(anchors: Anchors, counts: Counts) -> np.ndarray:
    """(u, 4, P) see `_numba.pair_moves.weights_of_slopes`."""
    seen = anchors.seen
    given = (*anchors.sparse[1:], seen.length, seen.cosine, seen.across, *counts)
    known, n_manifolds = [np.ascontiguousarray(a.numpy()) for a in given], len(anchors.centers)
    out = np.zeros((len(anchors.points), 4, n_manifolds))
    in_threads(lambda i, j: weights_of_slopes(*[*known, out, i, j]), n_manifolds, share=PIECE)
    return out
