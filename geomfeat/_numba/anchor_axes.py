"""Anchors of one draw after the other: their axes, the cosines of these, and what they carry of the direction.

An anchor is a sum of few points, so that it is made again where it is needed and never kept: all that is wanted of a
draw is found while its axes are in the cache. b and c (see `geometry.manifolds.glue_geometry`) come from the Gram
matrices of unit rows; draws in which these are too near to dependent for that are left to a method with more digits.
"""

import numpy as np
from numba import njit

from geomfeat._numba.cholesky_update import COMPILED

# An axis below this share of its anchor's length is rounding: the manifold always answers with the same anchor.
NO_AXIS = 1e-10
# So is one below this many roundings of the points.
ROUNDINGS = 2.0
# Sum of the inverse squared singular values of m unit rows, over m: above it, a Gram matrix costs too many digits.
MOST_INVERSE = 100.0


@njit(**COMPILED)
def see(
    points, start, index, weight, owner, used, centers, unit, own, shift, facing, rounding, t, p, norm, along, carried,
    length, cosine, across, b, c, w_b, w_c, q_b, q_c, clear, first, last,
):  # fmt: skip
    """Everything of the draws first..last that is `used`; the others keep what is there.

    points (u, r): less the mean anchors of their manifolds, centers (P, r); the anchors of draw d, less these, are sums
    of points index[e] with weights weight[e] of the manifolds owner[e], e from start[d] to start[d + 1]. unit: the
    centres over their length; own (P, P): their inner products; facing: the centres plus `shift` (r,), over their
    length. t, p (draws, r): direction and projection.

    Gives norm (draws, P): |s + shift|. along: (s - centre) . facing. carried: (s + shift) . p. length: of the axes, 0
    where there is none. cosine, across (draws, P, P): of the axes with each other, and of centres (first) with axes. b,
    c, with w (draws, P) and q (draws, r); clear (draws,): whether these can be relied on.
    """
    n_manifolds, r = centers.shape
    s, tau, size = np.zeros((n_manifolds, r)), np.zeros(n_manifolds), np.sqrt(np.diag(own))
    row, which = np.zeros(n_manifolds, np.int64), np.zeros(n_manifolds, np.int64)
    room = np.zeros((3, n_manifolds, n_manifolds))
    for d in range(first, last):
        if not used[d]:
            continue
        m = summed(points, start[d], start[d + 1], index, weight, owner, s, row, which)
        for a in range(m):
            i = which[a]
            near, norm[d, i], along[d, i], carried[d, i] = seen_as(s[a], centers[i], shift, facing[i], p[d])
            long = np.sqrt(np.dot(s[a], s[a]))
            if not long > max(NO_AXIS * (near + size[i]), ROUNDINGS * rounding[i]):
                long = 0.0
            length[d, i] = long
            s[a] *= 1.0 / long if long > 0.0 else 0.0
            tau[a] = np.dot(s[a], t[d])
        axes, here = s[:m], which[:m]
        products, with_centers = np.dot(axes, axes.T), np.dot(axes, unit.T)
        for a in range(m):
            for e in range(m):
                cosine[d, here[a], here[e]] = products[a, e]
            for j in range(n_manifolds):
                across[d, j, here[a]] = with_centers[a, j]
        b[d], sure = on_axes(axes, here, length[d], products, tau, t[d], w_b[d], q_b[d], room)
        c[d], clear[d] = on_both(axes, here, length[d], products, tau, t[d], w_c[d], q_c[d], room, centers, own, size)
        clear[d] = clear[d] and sure


@njit(**COMPILED)
def seen_as(moved, center, shift, facing, p):
    """|s|, |s + shift|, moved . facing and (s + shift) . p for an anchor s = center + moved."""
    bare, far, along, carried = 0.0, 0.0, 0.0, 0.0
    for x in range(len(moved)):
        near = moved[x] + center[x]
        there = near + shift[x]
        bare += near * near
        far += there * there
        along += moved[x] * facing[x]
        carried += there * p[x]
    return np.sqrt(bare), np.sqrt(far), along, carried


@njit(**COMPILED)
def on_axes(axes, here, length, products, tau, t, w, q, room):
    """b of one draw, with w and q in place, from unit axes of the manifolds `here`; and whether it is clear."""
    gram, inner, n = room[0], room[2, 0], np.int64(0)  # with its type: see `cholesky_update`
    kept = np.empty(len(here), np.int64)
    for a in range(len(here)):
        if length[here[a]] > 0.0:
            kept[n] = a
            n += 1
    for a in range(n):
        for e in range(a + 1):
            gram[a, e] = products[kept[a], kept[e]]
        inner[a] = tau[kept[a]]
    sure = solved(gram, room[1], inner, n)
    q[:] = t
    total = 0.0
    for a in range(n):
        i = here[kept[a]]
        total += inner[a] * tau[kept[a]]
        add(q, axes[kept[a]], -inner[a])
        w[i] = inner[a] / length[i]
    return total, sure


@njit(**COMPILED)
def on_both(axes, here, length, products, tau, t, w, q, room, centers, own, size):
    """The same for c: centres and axes side by side, next to (0, t)."""
    gram, inner, whole, n = room[0], room[2, 0], np.empty(len(here)), np.int64(0)
    kept = np.empty(len(here), np.int64)
    for a in range(len(here)):
        whole[n] = np.hypot(size[here[a]], length[here[a]])
        if whole[n] > 0.0:
            kept[n] = a
            n += 1
    for a in range(n):
        i = here[kept[a]]
        for e in range(a + 1):
            j = here[kept[e]]
            product = own[i, j] + products[kept[a], kept[e]] * length[i] * length[j]
            gram[a, e] = product / whole[a] / whole[e]
        inner[a] = tau[kept[a]] * length[i] / whole[a]
    sure = solved(gram, room[1], inner, n)
    q[:] = t
    total = 0.0
    for a in range(n):
        i = here[kept[a]]
        w[i] = inner[a] / whole[a]
        total += w[i] * tau[kept[a]] * length[i]
        add(q, axes[kept[a]], -w[i] * length[i])
        add(q, centers[i], w[i])
    return total, sure


@njit(**COMPILED)
def summed(points, begin, end, index, weight, owner, s, row, which):
    """Sums of the points of one draw in the first rows of s, of the manifolds `which`; returns how many there are."""
    row[:] = -1
    m = 0
    for e in range(begin, end):
        i = owner[e]
        if row[i] < 0:
            row[i], which[m] = m, i
            s[m] = 0.0
            m += 1
        add(s[row[i]], points[index[e]], weight[e])
    return m


@njit(**COMPILED)
def add(to, what, times):
    """to += times * what."""
    for x in range(to.shape[0]):
        to[x] += times * what[x]


@njit(**COMPILED)
def solved(gram, factor, right, n):
    """right = G^-1 right for the lower triangle of G (n, n), of unit rows; False where it is too near to singular."""
    trace = 0.0
    for a in range(n):
        row = factor[a]
        for e in range(a):
            total = gram[a, e]
            for x in range(e):
                total -= row[x] * factor[e, x]
            row[e] = total / factor[e, e]
        rest = gram[a, a]
        for x in range(a):
            rest -= row[x] * row[x]
        if not rest * MOST_INVERSE * n > 1.0:
            return False
        row[a] = np.sqrt(rest)
    # The inverse, a column at a time, in the upper triangle: row a of it has column a, below its diagonal entry.
    for a in range(n):
        trace += 1.0 / (factor[a, a] * factor[a, a])
        for e in range(a + 1, n):
            row = factor[e]
            total = -row[a] / factor[a, a]
            for x in range(a + 1, e):
                total -= row[x] * factor[a, x]
            total /= row[e]
            factor[a, e] = total
            trace += total * total
    for a in range(n):
        total = right[a]
        for x in range(a):
            total -= factor[a, x] * right[x]
        right[a] = total / factor[a, a]
    for a in range(n - 1, -1, -1):
        right[a] /= factor[a, a]
        for x in range(a):
            right[x] -= factor[a, x] * right[a]
    return trace <= MOST_INVERSE * n
