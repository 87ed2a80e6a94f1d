"""Does a hyperplane through the origin have all of these points on one side: one problem, with a proof either way.

For unit rows z_j let m be the distance of their convex hull from the origin. Gordan 1873: some w has z_j . w > 0 for
all j exactly if m > 0. Both answers come with a witness that is checked, whatever method found it:

    a direction w proves       m >= min_j z_j . w / |w|                                        (1)
    multipliers l >= 0 prove   m <= |sum_j l_j z_j| / sum_j l_j                                (2)

The method is column generation: the nearest point of the hull of a few rows (non-negative least squares of e = (0, 1)
on the rows (z_j, 1), whose residual is a multiple of (-w, |w|^2)) is priced against all rows, and the worst of them
join. It stops at the first witness: a hull of some rows that holds the origin settles it for all rows. What is left
undecided goes to a linear programme, whose answer needs a witness as well.
"""

import numpy as np
from scipy.optimize import linprog, nnls

# A margin of unit rows below this counts as none: it is the rounding of rows that meet at the origin.
TOUCH = 1e-10
RIDGE = 1e-12
ROUNDS = 200


def separates(rows: np.ndarray) -> bool | None:
    """Is there a w with rows @ w > 0? None if neither answer could be proved. Rows (k, n) must have unit length.

    >>> separates(np.array([[1.0, 0.0], [0.0, 1.0]])), separates(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    (True, False)
    """
    if not len(rows):
        return True
    w = _least_squares(rows)
    if _clears(rows, w):
        return True
    answer = _by_columns(rows, np.argsort(rows @ w)[: 2 * rows.shape[1]])
    return _by_linear_programme(rows) if answer is None else answer


def _least_squares(rows: np.ndarray) -> np.ndarray:
    gram = rows.T @ rows
    return np.linalg.solve(gram + RIDGE * np.trace(gram) * np.eye(len(gram)), rows.sum(0))


def _clears(rows: np.ndarray, w: np.ndarray) -> bool:
    """Witness (1)."""
    return bool((rows @ w).min() > TOUCH * np.linalg.norm(w))


def _meets(rows: np.ndarray, l: np.ndarray) -> bool:
    """Witness (2)."""
    return bool(l.sum() > 0 and np.linalg.norm(l @ rows) <= TOUCH * l.sum())


def _by_columns(rows: np.ndarray, held: np.ndarray) -> bool | None:
    target = np.zeros(rows.shape[1] + 1)
    target[-1] = 1.0
    lifted = np.column_stack([rows, np.ones(len(rows))])
    for _ in range(ROUNDS):
        try:
            l, _ = nnls(lifted[held].T, target, maxiter=30 * max(10, len(held)))
        except RuntimeError:  # no convergence: the linear programme is asked
            return None
        if _meets(rows[held], l):
            return False
        residual = target - l @ lifted[held]
        if _clears(rows, -residual[:-1]):
            return True
        price = lifted @ residual
        price[held] = -np.inf
        joining = np.argsort(-price)[: max(8, rows.shape[1] // 2)]
        joining = joining[price[joining] > 0]
        if not len(joining):
            return None
        held = np.concatenate([held[l > 0], joining])
    return None


def _by_linear_programme(rows: np.ndarray) -> bool | None:
    """Largest margin within the unit box, by HiGHS; its w and its multipliers are the witnesses."""
    k, n = rows.shape
    found = linprog(
        np.r_[np.zeros(n), -1.0], A_ub=np.column_stack([-rows, np.ones(k)]), b_ub=np.zeros(k),
        bounds=[(-1, 1)] * n + [(None, 1)], method="highs",
    )  # fmt: skip
    if found.x is None:
        return None
    if _clears(rows, found.x[:-1]):
        return True
    return False if _meets(rows, np.maximum(-found.ineqlin.marginals, 0.0)) else None
