"""Pieces of work on threads leave the matrix libraries as they were."""

from __future__ import annotations

from threading import Thread
from time import sleep

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info

from geomfeat.compiled.threads import in_threads


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_calls_from_several_threads_restore_the_threads_of_matrix_products() -> None:
    scipy.linalg.inv(np.eye(2))
    before, inside = blas_threads(), []

    def work(*_: int) -> None:
        sleep(0.02)
        inside.append(blas_threads())

    callers = [Thread(target=in_threads, args=(work, 1)) for _ in range(4)]
    for k, caller in enumerate(callers):
        caller.start()
        sleep(0.005 * k)
    for caller in callers:
        caller.join()
    assert before
    assert [set(seen) for seen in inside] == [{1}] * 4
    assert blas_threads() == before


def test_an_error_in_a_piece_restores_them_too() -> None:
    before = blas_threads()

    def fail(first: int, last: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_threads(fail, 3)
    assert blas_threads() == before
