"""Networks whose derivatives need no check: chains of torch's own modules, of which every derivative is known."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from geomfeat.models.functional import Functional
from geomfeat.models.readouts.reading import reads_usually

_KNOWN = "made of known modules"
SMOOTH = (
    nn.Sequential, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LogSoftmax,
    nn.Softmax, nn.LayerNorm, nn.GroupNorm, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
# Smooth where their input is not 0.
BENT_AT_ZERO = (nn.ReLU, nn.LeakyReLU)
# With the running statistics that they have in evaluation mode.
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)


def of_known_modules(f: Functional) -> bool:
    """Whether a network is deterministic and its backward passes are its derivative, but where a unit is exactly 0.

    True for modules of these very classes, without hooks or a `forward` of the user's, in a Sequential or alone.

    >>> from geomfeat.models.functional import functional
    >>> of_known_modules(functional(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
    True
    """
    if _KNOWN not in f.known:
        hooked = any(getattr(torch_modules, name, None) for name in _GLOBAL_HOOKS)
        f.known[_KNOWN] = (
            reads_usually(f.readout) and not hooked and all(_is_known(module) for module in f.model.modules())
        )
    return f.known[_KNOWN]


def _is_known(module: nn.Module) -> bool:
    kind = type(module)
    return (
        (kind in SMOOTH or kind in BENT_AT_ZERO or (kind in NORMS and module.running_mean is not None))
        and "forward" not in vars(module)
        and kind.forward.__module__.startswith("torch.nn.modules.")
        and module._compiled_call_impl is None
        and not any(getattr(module, name) for name in _HOOKS)
        and all(p is None or (type(p) is nn.Parameter and not p.is_complex()) for p in module._parameters.values())
    )


def outputs_and_bends(f: Functional, inputs: Any) -> tuple[Tensor, bool]:
    """Outputs (n, C) of known modules, and whether the input of any bent one holds an exact 0, where it bends."""
    bends = []

    def look(_module: nn.Module, args: tuple[Any, ...]) -> None:
        bends.append(not bool(args[0].all()))

    with torch.no_grad(), ExitStack() as stack:
        for module in f.model.modules():
            if type(module) in BENT_AT_ZERO:
                stack.callback(module.register_forward_pre_hook(look).remove)
        return f(f.theta, inputs), any(bends)
