"""Pieces of work on threads leave the matrix libraries as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from threading import Barrier, Thread, get_ident
from time import sleep

import numpy as np
import pytest
import scipy.linalg
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from geomfeat._numba.threads import PIECE, given_up, in_pieces, in_threads, libraries_on_one_thread, products


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Whatever the environment asks for, there is something to restore."""
    with threadpool_limits(2, user_api="blas"):
        yield


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_calls_from_several_threads_restore_the_threads_of_matrix_products() -> None:
    scipy.linalg.inv(np.eye(2))
    before, inside = blas_threads(), []

    def work(*_: int) -> None:
        sleep(0.02)
        inside.append(torch.get_num_threads())

    callers = [Thread(target=in_threads, args=(work, 1)) for _ in range(4)]
    for k, caller in enumerate(callers):
        caller.start()
        sleep(0.005 * k)
    for caller in callers:
        caller.join()
    assert before
    assert inside == [1] * 4  # BLAS obeys one Python thread alone, the first that ever limited it
    assert blas_threads() == before


def test_an_error_in_a_piece_restores_them_too() -> None:
    before = blas_threads()

    def fail(first: int, last: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_threads(fail, 3)
    assert blas_threads() == before


def test_within_a_call_libraries_keep_to_one_thread_and_pieces_get_all_of_them() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with libraries_on_one_thread() as available:
            inside = torch.get_num_threads(), set(blas_threads())
            with libraries_on_one_thread() as nested:
                assert nested == available == 2
        assert inside == (1, {1})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_in_pieces_are_the_products(dtype: type) -> None:
    draw = np.random.default_rng(0)
    v, points = draw.standard_normal((7, 5)).astype(dtype), draw.standard_normal((2 * PIECE + 3, 5)).astype(dtype)
    found = products(v, points)
    assert found.dtype == dtype
    rounding = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, np.einsum("ir,jr->ij", v, points), rtol=rounding, atol=rounding)


@pytest.mark.parametrize(("device", "inside"), [("cpu", 1), ("meta", 2)])
def test_pieces_are_the_same_on_another_device_which_the_caller_works_on_alone(device: str, inside: int) -> None:
    before, done = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        in_pieces(lambda i, j: done.append((i, j, torch.get_num_threads())), 5, torch.device(device), share=2)
    finally:
        torch.set_num_threads(before)
    assert sorted(done) == [(0, 2, inside), (2, 4, inside), (4, 5, inside)]


def test_pieces_may_write_to_what_was_made_in_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with torch.inference_mode():
        found = torch.zeros(4)
        in_threads(lambda i, j: found[i:j].fill_(i), 4, share=1)
    assert found.tolist() == [0, 1, 2, 3]


def test_a_piece_does_the_pieces_of_its_own_calls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    both, said = Barrier(2), ContextVar("said", default="nothing")
    said.set("something")

    def outer(first: int, last: int) -> None:
        both.wait(20)  # two pieces at a time
        own = []
        with libraries_on_one_thread() as available:
            in_threads(lambda i, j: own.append((i, j, get_ident())), 3, share=2)
        found.append((get_ident(), own, available, said.get()))

    found: list[tuple[int, list[tuple[int, int, int]], int, str]] = []
    in_threads(outer, 2, share=1)
    assert len({thread for thread, *_ in found}) == 2
    assert found == [(thread, [(0, 2, thread), (2, 3, thread)], 1, "something") for thread, *_ in found]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_no_piece_is_at_work_after_an_error_and_long_ones_see_that(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    both, ended = Barrier(2), []

    def work(first: int, _: int) -> None:
        if first < 2:
            both.wait(20)
        if first == 0:
            raise error
        while not given_up():
            sleep(0.001)
        ended.append(first)

    with pytest.raises(error):
        in_threads(work, 9, share=1)
    assert 1 in ended
    assert set(ended) <= {1, 2}  # the thread of the failed piece may have begun the next one
    assert not given_up()
    in_threads(lambda first, _: ended.append(first if not given_up() else None), 2, share=1)
    assert sorted(ended[-2:]) == [0, 1]
