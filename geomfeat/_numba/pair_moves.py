"""Influence of every draw on the cosines of pairs of manifolds, through the sparse weights of the anchors.

See `geometry.manifolds.alignment_cosines`. Points are less the mean anchor of their manifold, so that an anchor less
this is the sum of a draw's points with their weights.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED

# What a slope is made of: axes of its own manifold for axes and for other centres, and axes of the other manifold.
OWN_AXES, OWN_CENTERS, OTHER_AXES, OTHER_CENTERS = 0, 1, 2, 3


@njit(**COMPILED)
def weights_of_slopes(
    start, index, weight, owner, length, cosine, across, moving, seen, out, first, last
):  # fmt: skip
    """Weights (u, 4, P) of the points in the slopes of cosines with the manifolds first..last, in place.

    The slope of |cos| with an axis is sign (other - cos axis) / length. Kinds: see above; sums over draws, which are
    over `moving` (P, P), draws with both axes, and `seen` (P,), those with the axis.
    """
    for d in range(len(start) - 1):
        for e in range(start[d], start[d + 1]):
            i = owner[e]
            one = length[d, i]
            if one == 0.0:
                continue
            for j in range(first, last):
                if j == i:
                    continue
                value = across[d, j, i]
                sign = 1.0 if value >= 0.0 else -1.0
                share = weight[e] / one * sign / seen[i]
                point, middle = out[index[e]], weight[e] / one
                point[OTHER_CENTERS, j] += share
                point[OWN_CENTERS, j] += share * value / one
                other = length[d, j]
                if other > 0.0:
                    value = cosine[d, i, j]
                    sign = 1.0 if value >= 0.0 else -1.0
                    share = middle * sign / moving[i, j]
                    point[OWN_AXES, j] += share * value / one
                    point[OTHER_AXES, j] += share / other


@njit(**COMPILED)
def influences(
    start, index, weight, owner, share, size, length, cosine, across, moving, seen, means, inverse, turned, of_axes,
    of_centers, of_both, first, last,
):  # fmt: skip
    """Influence of the draws first..last on cosines of axes, of centres, and of centres (first) with axes, in place.

    turned (u, 4, P): points times the slopes of axes with axes, of centres with axes, of axes with centres (but for the
    centre itself, see `inverse`), and times unit centres. share (P,): of draws in which the manifold is active. means
    (3, P, P): cosines of axes, of centres, and of centres with axes; inverse (P, P): of the last, means of sign /
    length.
    """
    n_manifolds, draws = len(share), len(start) - 1
    moved = np.zeros((4, n_manifolds, n_manifolds))
    for d in range(first, last):
        moved[:] = 0.0
        for e in range(start[d], start[d + 1]):
            i = owner[e]
            by = weight[e] / share[i]
            for kind in range(4):
                for j in range(n_manifolds):
                    moved[kind, i, j] += by * turned[index[e], kind, j]
        for i in range(n_manifolds):
            for j in range(n_manifolds):
                if i == j:
                    continue
                total = 0.0
                if size[i] > 0.0:
                    total += (moved[3, i, j] - means[1, i, j] * moved[3, i, i]) / size[i]
                if size[j] > 0.0:
                    total += (moved[3, j, i] - means[1, i, j] * moved[3, j, j]) / size[j]
                of_centers[d, i, j] = total
                total = moved[0, i, j] + moved[0, j, i]
                if length[d, i] > 0.0 and length[d, j] > 0.0:
                    total += (abs(cosine[d, i, j]) - means[0, i, j]) * draws / moving[i, j]
                of_axes[d, i, j] = total
                total = moved[2, j, i] - inverse[i, j] * moved[3, j, i]
                if size[i] > 0.0:
                    total += (moved[1, i, j] - means[2, i, j] * moved[3, i, i]) / size[i]
                if length[d, j] > 0.0:
                    total += (abs(across[d, i, j]) - means[2, i, j]) * draws / seen[j]
                of_both[d, i, j] = total
