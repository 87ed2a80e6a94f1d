"""How much of a Jacobian to hold at a time, and what to do when it does not fit after all."""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from geomfeat.errors import OutOfMemory
from geomfeat.models.functional import Functional, n_samples, take

T = TypeVar("T")
BUDGET = 2**30  # bytes of Jacobian entries held at a time, unless told otherwise


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch and Python say that an allocation failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "out of memory" in text)


def with_smaller_chunks(work: Callable[[int], T], budget: int, smallest: int, remedy: Callable[[], str]) -> T:
    """`work(budget)`, with half the budget again and again while memory runs out, down to `smallest`.

    Raises OutOfMemory with the text of `remedy()` when the smallest chunks do not fit either.
    """
    while True:
        try:
            return work(budget)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if budget <= smallest:
                raise OutOfMemory(remedy()) from error
        # Outside the except block, so that the traceback no longer keeps the tensors of the failed try alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        budget = max(budget // 2, smallest)


def free_bytes(device: torch.device) -> int:
    """Memory that is free now on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def saved_bytes(f: Functional, inputs: object) -> tuple[int, int]:
    """Bytes that one sample's backward pass keeps: (all activations, the largest one), without the parameters.

    Measured, not guessed: the tensors that autograd saves during one forward pass of one sample.
    """
    parameters = {t.data_ptr() for t in (*f.theta.values(), *f.fixed.values())}
    total, largest, seen = 0, 0, set()

    def pack(t: Tensor) -> Tensor:
        nonlocal total, largest
        key = t.untyped_storage().data_ptr() if t.layout is torch.strided else id(t)
        if key not in seen and t.data_ptr() not in parameters:
            seen.add(key)
            total += t.numel() * t.element_size()
            largest = max(largest, t.numel() * t.element_size())
        return t

    one = take(inputs, slice(0, 1)) if n_samples(inputs) > 1 else inputs
    theta = {k: v.detach().requires_grad_() for k, v in f.theta.items()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        f(theta, one)
    return total, largest
