"""Draws in parallel: compiled kernels that let go of Python's lock, on as many threads as torch uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock

import torch
from threadpoolctl import ThreadpoolController

# Calls from several Python threads wait for each other: overlapping limits would not restore what was there before.
_ONE_AT_A_TIME = Lock()


def in_threads(function: Callable[[int, int], None], n: int, share: int = 8) -> None:
    """Call function(first, last) over 0..n in pieces of about `share`, each on one thread.

    Matrix products inside a piece run on its thread alone. Pieces are fixed by n, so that a result never depends on the
    number of threads. A function must not call this one again.

    >>> done = []
    >>> in_threads(lambda first, last: done.append((first, last)), 10)
    >>> sorted(done)
    [(0, 8), (8, 10)]
    """
    pieces = [(i, min(n, i + share)) for i in range(0, n, share)]
    workers = min(torch.get_num_threads(), len(pieces))
    with _ONE_AT_A_TIME, _libraries().limit(limits=1, user_api="blas"):
        if workers <= 1:
            for first, last in pieces:
                function(first, last)
            return
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda piece: function(*piece), pieces))


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  compiled products use its library: it must be loaded to be counted

    return ThreadpoolController()
