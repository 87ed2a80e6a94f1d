"""What is free, what a failed allocation looks like, refusing in time, and halving chunks while memory runs out."""

from __future__ import annotations

import ctypes
import errno
import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat import memory
from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.memory import (
    block_bytes,
    bytes_of,
    free_bytes,
    is_out_of_memory,
    memory_limit,
    require_memory,
    with_smaller_chunks,
)
from geomfeat.models.functional import functional
from geomfeat.tangent.jacobians.rows import JacobianRows
from tests.peak_memory import needs_peaks, printed_by

HUGE = 2**58  # more bytes than any machine has address space for


def test_halves_down_to_what_fits() -> None:
    tried = []

    def work(budget: int) -> int:
        tried.append(budget)
        if budget > 10:
            raise MemoryError
        return budget

    assert with_smaller_chunks(work, 64, 3, lambda: "") == 8
    assert tried == [64, 32, 16, 8]


def test_gives_up_after_the_smallest_with_the_remedy() -> None:
    tried = []

    def work(budget: int) -> int:
        tried.append(budget)
        raise MemoryError

    with pytest.raises(OutOfMemory, match="buy more"):
        with_smaller_chunks(work, 10, 4, lambda: "buy more")
    assert tried == [10, 5, 4]


def test_free_bytes(device: str) -> None:
    assert free_bytes(torch.device(device)) > 2**20


def test_chunks_are_halved_where_an_allocation_is_refused_in_time() -> None:
    def work(budget: int) -> int:
        if budget > 2:
            require_memory(HUGE, "the work", "do less")
        return budget

    assert with_smaller_chunks(work, 16, 1, lambda: "") == 2


def test_what_torch_and_numpy_really_say_is_recognised() -> None:
    with pytest.raises(RuntimeError) as torch_says:
        torch.empty(HUGE // 8, dtype=torch.float64)
    with pytest.raises(MemoryError) as numpy_says:
        np.empty(HUGE // 8, dtype=np.float64)
    with pytest.raises(RuntimeError) as torch_counts:
        torch.empty(2**62, 8, dtype=torch.float64)
    assert is_out_of_memory(torch_says.value)
    assert is_out_of_memory(numpy_says.value)
    assert is_out_of_memory(torch_counts.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                     "tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("Unable to allocate 1.5 GiB for an array with shape (1,)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
        OutOfMemory("refused in time"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_allocation_that_failed_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError(errno.ENOENT, "gone")]
)
def test_other_errors_are_not_mistaken_for_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_refusal_names_both_sizes_and_the_remedy() -> None:
    require_memory(1, "one byte", "use none")
    with pytest.raises(OutOfMemory, match=r"the kernel takes .* GB, and .* GB are free: use fewer samples"):
        require_memory(HUGE, "the kernel", "use fewer samples")


def test_a_limit_counts_for_little_memory_too() -> None:
    with memory_limit(10_000), pytest.raises(OutOfMemory, match="use none"):
        require_memory(100_000, "a table", "use none")


def test_limits_of_the_process_and_its_container_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_the_container", lambda: [2**20])
    assert free_bytes() <= 2**20
    monkeypatch.setattr(memory, "_of_the_process", lambda: [-5])
    assert free_bytes() == 0


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A system without /proc, control groups and psutil."""

    def missing(self: Path, *_: Any, **__: Any) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(memory, "_psutil", lambda: None)
    return monkeypatch


def test_psutil_is_asked_where_there_is_no_proc(without_proc: pytest.MonkeyPatch) -> None:
    said = SimpleNamespace(
        virtual_memory=lambda: SimpleNamespace(available=5_000),
        swap_memory=lambda: SimpleNamespace(free=300),
        Process=lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=77)),
    )
    without_proc.setattr(memory, "_psutil", lambda: said)
    assert (memory.free_bytes(), memory.resident_bytes()) == (5_300, 77)


def test_without_free_pages_half_of_the_installed_memory_counts(without_proc: pytest.MonkeyPatch) -> None:
    sizes = {"SC_AVPHYS_PAGES": 1000, "SC_PHYS_PAGES": 9000}
    without_proc.setattr(memory.os, "sysconf", sizes.__getitem__)
    assert memory.free_bytes() == 1000 * mmap.PAGESIZE
    # macOS knows no free pages, and Python then raises ValueError.
    without_proc.setattr(memory.os, "sysconf", lambda name: 9000 if name == "SC_PHYS_PAGES" else int("unknown name"))
    assert memory.free_bytes() == 4500 * mmap.PAGESIZE
    assert memory.resident_bytes() == 0


def test_a_system_without_sysconf_has_a_guess(without_proc: pytest.MonkeyPatch) -> None:
    without_proc.delattr(memory.os, "sysconf")
    assert memory.free_bytes() == memory.UNKNOWN
    require_memory(1, "one byte", "use none")


def test_windows_is_asked_by_its_own_call(without_proc: pytest.MonkeyPatch) -> None:
    def answer(reference: Any) -> int:
        status = reference._obj
        assert status.length == ctypes.sizeof(status) == 64
        status.available = 123_456
        return 1

    without_proc.setattr(memory.sys, "platform", "win32")
    system = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=answer))
    without_proc.setattr(ctypes, "windll", system, raising=False)
    assert memory.free_bytes() == 123_456
    system.kernel32.GlobalMemoryStatusEx = lambda _: 0
    assert memory.free_bytes() == memory.UNKNOWN


def test_within_a_limit_less_is_free_and_blocks_are_smaller() -> None:
    usual = 2**30
    with memory_limit("64 MB"):
        assert free_bytes() <= 64e6
        assert 0 < block_bytes(usual) <= 16e6
        assert block_bytes(10) == 10
        with pytest.raises(OutOfMemory, match=r"the kernel takes 0.1 GB, and 0.0\d+ GB are free: use less"):
            require_memory(1e8, "the kernel", "use less")
        with memory_limit("1 TB"):  # a limit within another one does not lift it
            assert free_bytes() <= 64e6
    assert block_bytes(usual) == usual
    assert free_bytes() > 64e6


def test_what_was_taken_within_a_limit_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 300_000_000)  # taken before: it does not count
    with memory_limit(200e6):
        assert free_bytes() == 200_000_000
        monkeypatch.setattr(memory, "resident_bytes", lambda: 340_000_000)
        assert free_bytes() == 160_000_000
        monkeypatch.setattr(memory, "resident_bytes", lambda: 900_000_000)
        assert free_bytes() == 0
        assert block_bytes(2**30) == 1


def test_what_a_gpu_held_before_a_limit_does_not_count_however_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {0: 500, 1: 900}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held[device.index])
    with memory_limit(1000):
        held[1] += 200
        left = {name: block_bytes(10**9, name) * memory.SHARE for name in ("cuda", "cuda:0", "cuda:1")}
    assert left == {"cuda": 800, "cuda:0": 1000, "cuda:1": 800}


def test_rows_of_a_jacobian_that_pass_a_limit_are_refused() -> None:
    f = functional(torch.nn.Linear(100, 100))
    rows = JacobianRows(f, torch.ones(50, 100))
    with memory_limit("5 MB"), pytest.raises(OutOfMemory, match="Jacobian rows of 50 samples x 100 outputs"):
        rows(torch.ones(50, 100))


def test_a_limit_ends_with_an_error_in_it() -> None:
    with pytest.raises(ZeroDivisionError), memory_limit(100e6):
        bytes_of(1 // 0)
    assert block_bytes(2**30) == 2**30


@pytest.mark.parametrize("size", ["", "4", "4 XB", "-1 GB", "GB", 0, -1.0, float("nan"), float("inf")])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(BadInput, match="is not a size of memory: give bytes"):
        bytes_of(size)


KERNEL = """
import torch
from torch import nn
import geomfeat as gf
from tests.peak_memory import PeakMemory

class Sines(nn.Module):  # no layer of a known kind: its kernel takes rows of its Jacobian

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(64, 800) / 8), nn.Parameter(torch.randn(800, 3) / 30)

    def forward(self, x):
        return torch.tanh(x @ self.a.sin()) @ self.b.cos()

torch.manual_seed(0)
net, x = Sines(), torch.randn(50, 64)
gf.ntk(net, x[:4], outputs="trace")
peak = PeakMemory()
with gf.memory_limit("40 MB"):
    within = gf.ntk(net, x, outputs="trace").gram
limited = peak.added
whole = gf.ntk(net, x, outputs="trace").gram
torch.testing.assert_close(within, whole)
print(limited, peak.added)
"""


@needs_peaks
def test_a_kernel_stays_within_its_limit() -> None:
    limited, whole = map(float, printed_by(KERNEL).split())
    assert limited < 1.2 * 40
    assert whole > 2 * 40
