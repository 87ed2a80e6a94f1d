"""A simulated GPU: its tensors say that they are there, hold their values on the CPU, and refuse others beside them.

Code runs on it with real values, so that what decides by a value (`item()`, a loop until convergence) is reached too,
which fake tensors without values stop at. It changes torch for the whole process: run it in one of its own,

    python -m tests.simulated_gpu

which makes every check of benchmarks/gpu_check.py on it and prints, as JSON, name -> largest difference to the CPU, or
the error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from geomfeat import numerics

NAME = "simulated"
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
# These take tensors of the CPU beside those of a GPU: copies, and small indices.
MIXED = (
    "aten::copy_",
    "aten::_to_copy",
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
)


class OnGpu(Tensor):
    """A tensor on the simulated GPU; `held` has its values."""

    held: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=torch.device(NAME, 0), requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    @property
    def is_cuda(self) -> bool:
        return True

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.held.numpy(force=True)
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu()")

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class SimulatedGpu(TorchDispatchMode):
    """Within it, tensors can be made on and moved to device "simulated"."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; to say so in every operation takes as long as the operation

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the values; its result is where torch leaves it. RuntimeError for tensors of two devices."""
    given: list[tuple[Any, Any]] = []  # tensors, and what holds their values

    def held(value: Any) -> Any:
        if isinstance(value, Tensor):
            values = value.held if isinstance(value, OnGpu) else value
            given.append((value, values))
            return values
        return _mapped(held, value)

    values, options = [held(value) for value in args], {name: held(value) for name, value in kwargs.items()}
    ours = any(value is not values for value, values in given)
    if ours and any(value is values and value.ndim for value, values in given):
        name = func._schema.name
        if name not in MIXED:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {NAME}:0 and cpu")
    device = options.get("device")
    there = ours if device is None else torch.device(device).type == NAME
    if there and device is not None:
        options["device"] = torch.device("cpu")

    def home(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return _mapped(home, value)
        for ours, values in given:
            if value is values:
                return ours  # changed in place
        return OnGpu(value) if there else value

    return home(func(*values, **options))


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Lists and tuples, as operations take and return them, with their entries changed; other values as they are."""
    return type(value)(map(change, value)) if type(value) in (list, tuple) else value


def set_up() -> str:
    """Make torch know the device; returns its name."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) is then a copy that is seen here
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # `held` would stay behind
    return NAME


def allow() -> None:
    """Let geomfeat, as far as it is imported, take the simulated GPU where a device is named."""
    real = numerics.resolve_device

    def resolve(device: Any, like: Tensor | None = None) -> torch.device:
        return torch.device(NAME, 0) if str(device).startswith(NAME) else real(device, like)

    for module in list(sys.modules.values()):
        if getattr(module, "resolve_device", None) is real:
            vars(module)["resolve_device"] = resolve


def _within(work: Callable[[], Any]) -> Any:
    with SimulatedGpu():
        return work()


def main() -> None:
    """Print the differences of all checks whose names hold the first argument."""
    sys.path.insert(0, str(BENCHMARKS))
    gpu_check = import_module("gpu_check")
    set_up()
    allow()
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    pairs = {name: pair for name, pair in gpu_check.pairs_of(NAME).items() if only in name}
    found = {name: gpu_check.compared(here, partial(_within, there)) for name, (here, there) in pairs.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
