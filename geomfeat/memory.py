"""How much memory is free, how to recognise a failed allocation, and what to do in either case.

A system that overcommits memory kills the process instead of refusing an allocation, so large allocations are compared
with the free memory first: `require_memory`. Work that can be done in parts uses smaller parts after a failed
allocation: `with_smaller_chunks`.
"""

import contextlib
import errno
import mmap
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from geomfeat.errors import BadInput, OutOfMemory

T = TypeVar("T")
SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kMGT]?)(i?)B\s*")
SHARE = 4  # a block of work may take so many times less than a limit: what is made from it takes memory, too
LITTLE = 2**20  # bytes that are there as long as the process can work at all, so that the system need not be asked
UNKNOWN = 4 * 10**9  # bytes taken to be free where no system call says
# What torch, numpy and the C++ library say on the CPU (Linux, Windows, macOS) and on accelerators.
_FAILED_ALLOCATION = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "failed to allocate",
    "bad allocation",
    "bad_alloc",
    "alloc_failed",
    "invalid buffer size",
    "storage size calculation overflowed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch, numpy and the system say that an allocation failed.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemory):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _FAILED_ALLOCATION)


@dataclass(frozen=True)
class _Limit:
    most: int
    at_start: dict[torch.device, int]  # bytes that were taken when the limit began

    def left(self, device: torch.device) -> int:
        """Bytes up to the limit; what was taken before it does not count."""
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        return self.most - (_taken(device) - self.at_start.get(device, 0))


_limit: ContextVar[_Limit | None] = ContextVar("memory limit", default=None)


@contextlib.contextmanager
def memory_limit(most: float | str) -> Iterator[None]:
    """Within, calls take at most about so much memory beyond what the process holds at the start.

    Work that can be done in blocks takes smaller ones; what does not fit raises OutOfMemory, which says what does,
    before it begins. On an accelerator the limit is for the memory of each of its devices.

    Args:
        most: bytes, or a text such as "4 GB" or "512 MiB". Limits within limits: the smaller one counts.

    Raises BadInput for what is no size above 0.

    >>> with memory_limit("1.5 GB"):
    ...     free_bytes() <= 1.5e9
    True
    """
    devices = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]
    size = min([bytes_of(most), *(outer.left(devices[0]) for outer in [_limit.get()] if outer is not None)])
    token = _limit.set(_Limit(size, {device: _taken(device) for device in devices}))
    try:
        yield
    finally:
        _limit.reset(token)


def bytes_of(size: float | str) -> int:
    """A number of bytes, given as one or as a text. BadInput for what is no size above 0.

    >>> bytes_of("1.5 GB"), bytes_of("2 kiB"), bytes_of(100)
    (1500000000, 2048, 100)
    """
    if isinstance(size, str):
        found = SIZE.fullmatch(size)
        if found is None:
            raise BadInput(f"{size!r} is not a size of memory: give bytes, or a text such as '4 GB' or '512 MiB'")
        number, unit, binary = found.groups()
        count = float(number) * (1024 if binary else 1000) ** " kMGT".index(unit or " ")
    else:
        count = float(size)
    if not 1 <= count < float("inf"):
        raise BadInput(f"{size!r} is not a size of memory: give bytes above 0, or a text such as '4 GB'")
    return int(count)


def block_bytes(usual: int, device: torch.device | str = "cpu") -> int:
    """Bytes that a block of work may take: the usual ones, or fewer within a `memory_limit`."""
    limit = _limit.get()
    return usual if limit is None else max(1, min(usual, limit.left(torch.device(device)) // SHARE))


def _taken(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_bytes()


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Bytes that can be allocated on a device, within a `memory_limit` and those of the process and its container."""
    device, limit = torch.device(device), _limit.get()
    within = [] if limit is None else [limit.left(device)]
    if device.type == "cuda":
        # What torch holds without using it is free for tensors too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(0, min([torch.cuda.mem_get_info(device)[0] + held, *within]))
    return max(0, min([_of_the_machine(), *_of_the_container(), *_of_the_process(), *within]))


def resident_bytes() -> int:
    """Bytes of memory that this process takes now; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    psutil = _psutil()
    return psutil.Process().memory_info().rss if psutil else 0


def require_memory(needed: float, what: str, remedy: str, device: torch.device | str = "cpu") -> None:
    """OutOfMemory, naming both sizes and the remedy, where `needed` bytes on a device are more than are free.

    Args:
        what: what takes them, the subject of the sentence: "the kernel of 50000 samples".
        remedy: what to do instead: "use fewer samples".

    >>> require_memory(2**10, "the kernel of 11 samples", "use fewer samples")
    >>> require_memory(2**60, "the kernel of 4e8 samples", "use fewer samples")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    geomfeat.errors.OutOfMemory: the kernel of 4e8 samples takes 1.2e+09 GB, and ... are free: use fewer samples
    """
    if needed <= LITTLE and _limit.get() is None:
        return
    free = free_bytes(device)
    if needed > free:
        raise OutOfMemory(f"{what} takes {in_gigabytes(needed)}, and {in_gigabytes(free)} are free: {remedy}")


def with_more_rows(basis: torch.Tensor, most: int, remedy: str) -> torch.Tensor:
    """A matrix of rows that come one by one, with room for twice as many, up to `most`; OutOfMemory if there is none.

    >>> with_more_rows(torch.ones(2, 3), 10, "stop").shape
    torch.Size([4, 3])
    """
    rows = min(most, 2 * len(basis))
    size = rows * basis.shape[1] * basis.element_size()
    require_memory(size, f"a basis of {rows} vectors of {basis.shape[1]} numbers", remedy, basis.device)
    return torch.cat([basis, basis.new_zeros(rows - len(basis), basis.shape[1])])


def in_gigabytes(size: float) -> str:
    """A number of bytes for a message.

    >>> in_gigabytes(2.5e9)
    '2.5 GB'
    """
    return f"{size / 1e9:.2g} GB"


def with_smaller_chunks(work: Callable[[int], T], budget: int, smallest: int, remedy: Callable[[], str]) -> T:
    """`work(budget)`, with half the budget again and again while memory runs out, down to `smallest`.

    Raises OutOfMemory with the text of `remedy()` when the smallest chunks do not fit either.
    """
    while True:
        try:
            return work(budget)
        except (MemoryError, RuntimeError, OSError, OutOfMemory) as error:
            if not is_out_of_memory(error):
                raise
            if budget <= smallest:
                raise OutOfMemory(remedy()) from error
        # Outside the except block, so that the traceback does not keep the tensors of the failed try alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        budget = max(budget // 2, smallest)


def _of_the_machine() -> int:
    """What the kernel can give without taking it from others: free pages, caches that it can drop, and swap."""
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        sizes = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1}
        if "MemAvailable:" in sizes:
            return sizes["MemAvailable:"] + sizes.get("SwapFree:", 0)
    psutil = _psutil()
    if psutil:
        return psutil.virtual_memory().available + psutil.swap_memory().free
    if sys.platform == "win32":
        return _of_windows()
    # POSIX names neither of these, macOS has the second: half of what is installed, since others use it too.
    for pages, share in (("SC_AVPHYS_PAGES", 1.0), ("SC_PHYS_PAGES", 0.5)):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            size = os.sysconf(pages) * mmap.PAGESIZE
            if size > 0:
                return int(share * size)
    return UNKNOWN


def _psutil() -> Any:
    """The module where it is installed: an optional package, which dask brings along; else None."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def _of_windows() -> int:
    """Free physical memory by the system's own call."""
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32), ("load", ctypes.c_uint32), ("total", ctypes.c_ulonglong),
            ("available", ctypes.c_ulonglong), ("total_file", ctypes.c_ulonglong), ("free_file", ctypes.c_ulonglong),
            ("total_virtual", ctypes.c_ulonglong), ("free_virtual", ctypes.c_ulonglong),
            ("extended", ctypes.c_ulonglong),
        )  # fmt: skip

    status = Status(length=ctypes.sizeof(Status))
    with contextlib.suppress(AttributeError, OSError):
        system = getattr(ctypes, "windll", None)  # there on Windows only
        if system is not None and system.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return int(status.available)
    return UNKNOWN


def _of_the_container() -> list[int]:
    """What is left of a control group's limit, of the second version or the first; nothing where there is no limit."""
    found = []
    for folder, limit, used, dropped in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most, now = (int((Path(folder) / name).read_text()) for name in (limit, used))
            caches = dict(line.split() for line in (Path(folder) / "memory.stat").read_text().splitlines())
            found.append(most - now + int(caches.get(dropped, 0)))
    return found


def _of_the_process() -> list[int]:
    """What is left of the process's limit on its address space; nothing where there is no limit."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            return [limit - pages * mmap.PAGESIZE]
    return []
