"""Work in parallel: functions that release the GIL, on as many threads as torch uses.

Libraries' own threads are no help here: after each operation they spin for the next one and take the cores from the
compiled kernels that follow, and on a busy machine each waits for all others at the end of every operation.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, lru_cache
from threading import Event, RLock, local

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

# Calls from several Python threads wait for each other: overlapping limits would not restore what was there before.
_ONE_AT_A_TIME = RLock()
# How many threads the outermost `libraries_on_one_thread` found; None outside of it.
_available: int | None = None
# What threads know of themselves: whether they are one of the pool, and so part of the work of another call, and what
# is set when that call is given up.
_thread = local()
# Points in a piece of a product: fewer waste the packing of the other factor, more leave a thread without work.
PIECE = 512


def in_threads(function: Callable[[int, int], object], n: int, share: int = 8) -> None:
    """Call function(first, last) over 0..n in pieces of about `share`, each on one thread.

    Matrix products inside a piece run on its thread alone. Pieces are fixed by n, so that a result never depends on the
    number of threads. What a piece calls sees the caller's context variables, and does its own pieces one by one. No
    piece is at work any more when this returns, or raises the error of one or an interruption.

    >>> done = []
    >>> in_threads(lambda first, last: done.append((first, last)), 10)
    >>> sorted(done)
    [(0, 8), (8, 10)]
    """
    pieces = [(i, min(n, i + share)) for i in range(0, n, share)]
    with libraries_on_one_thread() as available:
        workers = min(available, len(pieces))
        if workers <= 1:
            for first, last in pieces:
                function(first, last)
            return
        pool, inference = _pool(os.getpid(), available), torch.is_inference_mode_enabled()
        contexts = [copy_context() for _ in pieces]  # of each piece: no two threads may be in one
        stop = Event()

        def one(k: int) -> None:
            _thread.stop = stop
            # Each thread has a mode of its own, and only inference mode may write to tensors that were made in it.
            with torch.inference_mode(inference):
                contexts[k].run(function, *pieces[k])

        work = [pool.submit(one, k) for k in range(len(pieces))]
        try:
            for piece in work:
                piece.result()
        except BaseException:
            stop.set()
            for piece in work:
                piece.cancel()
            wait(work)
            raise


def given_up() -> bool:
    """Whether the call that this piece of work is of was interrupted or has failed; long pieces look now and then.

    >>> given_up()
    False
    """
    return getattr(_thread, "of_pool", False) and _thread.stop.is_set()


def in_pieces(function: Callable[[int, int], object], n: int, device: torch.device, share: int = 1) -> None:
    """`in_threads` on the CPU; on another device the same pieces one after the other.

    >>> done = []
    >>> in_pieces(lambda first, last: done.append((first, last)), 3, torch.device("meta"), share=2)
    >>> done
    [(0, 2), (2, 3)]
    """
    if device.type == "cpu":
        in_threads(function, n, share)
        return
    for first in range(0, n, share):
        function(first, min(n, first + share))


@contextmanager
def libraries_on_one_thread() -> Iterator[int]:
    """Within it, torch and BLAS use the calling thread alone; yields how many threads there are for `in_threads`.

    That is one within a piece of its work, whose call keeps the libraries to one thread already.

    >>> with libraries_on_one_thread():
    ...     torch.get_num_threads()
    1
    """
    global _available
    if getattr(_thread, "of_pool", False):
        yield 1
        return
    with _ONE_AT_A_TIME:
        if _available is not None:
            yield _available
            return
        _available = torch.get_num_threads()
        try:
            with _libraries().limit(limits=1):
                yield _available
        finally:
            _available = None


def products(v: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, k) inner products of v (n, r) and points (k, r), of one precision, in pieces of points.

    >>> products(np.eye(2), np.array([[1.0, 2.0]])).tolist()
    [[1.0], [2.0]]
    """
    out = np.empty((len(v), len(points)), points.dtype)
    in_threads(lambda i, j: np.matmul(v, points[i:j].T, out=out[:, i:j]), len(points), share=PIECE)
    return out


@lru_cache(1)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Threads that wait for work without spinning: made once, and again in a forked process, which has none of them."""
    return ThreadPoolExecutor(workers, thread_name_prefix=f"geomfeat-{process}", initializer=_alone)


def _alone() -> None:
    """Torch's operations stay on this thread: OpenMP has a limit for each thread, and that of the caller is another."""
    _thread.of_pool = True
    torch.get_num_threads()  # torch sets a limit of its own at its first call in a thread
    _libraries().select(user_api="openmp").limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  compiled products use its library: it must be loaded to be counted

    return ThreadpoolController()
