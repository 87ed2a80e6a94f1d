"""Steps of an active-set method: a triangular factor that points enter and leave, and the step that keeps l >= 0.

The held points u_1..u_s have Gram matrix G = R'R with R upper triangular, one column a point, and w = R^-T (U t) is
stored with it: the equality-constrained multipliers are z = R^-1 w, and |w|^2 is the squared norm of the projection. A
point enters as a new last column (a triangular solve); one leaves by plane rotations of the rows below it (Golub & Van
Loan 2013, section 6.5.2), which turn w with them. `settle` is the inner loop of Lawson & Hanson 1974, chapter 23.

All arrays are float64 and larger than what is in use; s says how much is. Rows of R are contiguous, so that every inner
loop runs along a row. `basis` holds the rows of Q' = R^-T U where a method uses them, and has no columns otherwise.

Callers count with `np.int64(0)`, not with 0: numba compiles all that is called once more for a literal number.
"""

import numpy as np
from numba import njit

# The share of `dependent` that is left of it where the held points are near to each other too.
ROUNDED = 1e-2
COMPILED = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}


@njit(**COMPILED)
def append(factor, w, s, gram, own, target, dependent):
    """Add a point with products `gram` (s,) to the held ones, `own` to itself and `target` to t; False if dependent.

    `gram` is overwritten. A point whose squared distance to the span of the held ones is below `dependent` is refused.
    So is one at a larger distance, where two of the held ones are so near to each other that rounding can have made it:
    an error in a product is divided by the squares of the diagonal.
    """
    nearest = 1.0
    for i in range(s):
        nearest = min(nearest, factor[i, i] * factor[i, i])
        x = gram[i] / factor[i, i]
        gram[i] = x
        row = factor[i]
        for j in range(i + 1, s):
            gram[j] -= x * row[j]
    square, along = 0.0, 0.0
    for i in range(s):
        square += gram[i] * gram[i]
        along += gram[i] * w[i]
    rest = own - square
    if not rest > dependent or not rest * nearest > ROUNDED * dependent:
        return False
    length = np.sqrt(rest)
    for i in range(s):
        factor[i, s] = gram[i]
    factor[s, s] = length
    w[s] = (target - along) / length
    return True


@njit(**COMPILED)
def remove(factor, w, basis, s, out):
    """Take the point at position `out` of s away."""
    for i in range(out):
        row = factor[i]
        for j in range(out, s - 1):
            row[j] = row[j + 1]
    # Row i of the shifted factor has one entry too many below its diagonal: rotate rows i and i + 1 to clear it.
    for j in range(out, s - 1):
        factor[out, j] = factor[out, j + 1]
    for i in range(out, s - 1):
        upper, lower = factor[i], factor[i + 1]
        a, b = upper[i], lower[i + 1]
        length = np.sqrt(a * a + b * b)
        cosine, sine = a / length, b / length
        upper[i] = length
        for j in range(i + 1, s - 1):
            x, y = upper[j], lower[j + 1]
            upper[j] = cosine * x + sine * y
            lower[j] = cosine * y - sine * x
        x, y = w[i], w[i + 1]
        w[i] = cosine * x + sine * y
        w[i + 1] = cosine * y - sine * x
        rotate(basis[i], basis[i + 1], cosine, sine)


@njit(**COMPILED)
def rotate(one, other, cosine, sine):
    """Turn two rows in their plane, in place."""
    for j in range(one.shape[0]):
        x, y = one[j], other[j]
        one[j] = cosine * x + sine * y
        other[j] = cosine * y - sine * x


@njit(**COMPILED)
def solve_back(factor, right, s, out):
    """out = R^-1 right."""
    for i in range(s - 1, -1, -1):
        row = factor[i]
        total = right[i]
        for j in range(i + 1, s):
            total -= row[j] * out[j]
        out[i] = total / row[i]


@njit(**COMPILED)
def settle(factor, w, basis, s, weight, index, z):
    """Make all multipliers of the held points positive by letting points go; returns how many are left.

    weight (s,): multipliers before, 0 for points that have just entered. weight and index (s,) follow the points.
    """
    while True:
        solve_back(factor, w, s, z)
        step, first = 2.0, -1
        fresh = False
        for i in range(s):
            if z[i] <= 0.0:
                if weight[i] <= 0.0:
                    fresh = True
                elif weight[i] < step * (weight[i] - z[i]):
                    step, first = weight[i] / (weight[i] - z[i]), i
        if not fresh and first < 0:
            for i in range(s):
                weight[i] = z[i]
            return s
        # Points that have just entered and would turn negative block at once: all of them leave before any step.
        if not fresh:
            for i in range(s):
                weight[i] += step * (z[i] - weight[i])
            weight[first] = 0.0
        for i in range(s - 1, -1, -1):
            if z[i] <= 0.0 and weight[i] <= 0.0:
                remove(factor, w, basis, s, i)
                for j in range(i, s - 1):
                    weight[j], index[j], z[j] = weight[j + 1], index[j + 1], z[j + 1]
                s -= 1
