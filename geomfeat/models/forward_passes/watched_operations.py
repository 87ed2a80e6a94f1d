"""A mode that sees every operation of a forward pass, at no cost to start-up."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class WatchedOperations(TorchDispatchMode):
    """What subclasses do at every operation, in `__torch_dispatch__`, is no part of what a compiled model compiles.

    torch sees to that by importing its compiler at the first operation, which takes two seconds. Here this is left to
    processes that have imported it before the mode is entered: in others nothing is compiled.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __enter__(self) -> Any:
        kind = type(self)
        if "torch._dynamo" in sys.modules and "_kept_out" not in vars(kind):
            kind.__torch_dispatch__ = torch.compiler.disable(kind.__torch_dispatch__)  # pyright: ignore
            kind._kept_out = True  # pyright: ignore
        return super().__enter__()
