"""What the reference architectures share: parameterization, initial scale, seeded construction, activations.

Two parameterizations:
- "standard": torch's own layers and their default initial weights.
- "ntk": weights N(0, 1) and a forward multiplier sqrt(gain / fan_in), gain 2 where a ReLU follows and 1 elsewhere
  (Jacot et al. 2018), biases 0 at the start. Width then acts as Karkada 2024 has it: gamma = n^r sets the regime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.errors import BadInput, near
from geomfeat.numerics import stream, times

PARAMETERIZATIONS = ("standard", "ntk")
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


class ScaledLinear(nn.Module):
    """x -> multiplier * W x + b with W ~ N(0, 1): a linear layer in NTK parameterization.

    Not an `nn.Linear`: code that reads a layer's Jacobian off its type must not forget the multiplier.
    """

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.multiplier = math.sqrt(gain / fan_in)
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(fan_out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh N(0, 1) weights and zero biases."""
        _reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., fan_in) -> (..., fan_out)."""
        return F.linear(x, times(self.weight, self.multiplier), self.bias)


class ScaledConv2d(nn.Module):
    """A square, zero-padded convolution in NTK parameterization; fan_in = channels_in * kernel^2."""

    def __init__(
        self, fan_in: int, fan_out: int, kernel: int, *, stride: int = 1, bias: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.multiplier = math.sqrt(gain / (fan_in * kernel * kernel))
        self.stride, self.padding = stride, kernel // 2
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(fan_out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh N(0, 1) weights and zero biases."""
        _reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, fan_in, h, w) -> (n, fan_out, h', w')."""
        return F.conv2d(x, times(self.weight, self.multiplier), self.bias, self.stride, self.padding)


def _reset(weight: nn.Parameter, bias: nn.Parameter | None) -> None:
    nn.init.normal_(weight)
    if bias is not None:
        nn.init.zeros_(bias)


def linear_layer(
    fan_in: int, fan_out: int, parameterization: str, *, bias: bool = True, gain: float = 1.0
) -> nn.Module:
    """A linear layer in the given parameterization (`gain` matters for "ntk" only)."""
    if parameterization == "ntk":
        return ScaledLinear(fan_in, fan_out, bias=bias, gain=gain)
    return nn.Linear(fan_in, fan_out, bias=bias)


def conv_layer(
    fan_in: int,
    fan_out: int,
    kernel: int,
    parameterization: str,
    *,
    stride: int = 1,
    bias: bool = True,
    gain: float = 1,
) -> nn.Module:
    """A convolution with padding kernel // 2 in the given parameterization."""
    if parameterization == "ntk":
        return ScaledConv2d(fan_in, fan_out, kernel, stride=stride, bias=bias, gain=gain)
    return nn.Conv2d(fan_in, fan_out, kernel, stride=stride, padding=kernel // 2, bias=bias)


def activation(name: str) -> tuple[nn.Module, float]:
    """The activation module of that name and the gain of the layer before it (2 for ReLU, else 1)."""
    if name not in ACTIVATIONS:
        raise BadInput(f"no activation {name!r}; there are: {', '.join(ACTIVATIONS)}")
    # A ReLU passes on half of the mean square of a symmetric input; a gain of 2 before it makes up for that (He et al.
    # 2015).
    return ACTIVATIONS[name](), 2.0 if name == "relu" else 1.0


def check_parameterization(name: str) -> str:
    """`name`, or BadInput."""
    if name not in PARAMETERIZATIONS:
        raise BadInput(f"no parameterization {name!r}; near: {near(name, PARAMETERIZATIONS)}")
    return name


@contextmanager
def seeded(seed: int | None, *names: object) -> Iterator[None]:
    """Inside, torch's default initialisers draw from `stream(seed, *names)`; afterwards the CPU generator is as before.

    Torch's layers can only draw from the default generator. Only the CPU one is set, and it is put back. Without a seed
    nothing is set: every call of a factory then gives fresh weights, as a re-initialisation needs them.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream(seed, "init", *names).initial_seed())
        yield


def scaled(model: nn.Module, init_scale: float) -> nn.Module:
    """`model` with every initial weight and bias multiplied by `init_scale`, except those of normalisation layers.

    A bias-free ReLU network of L layers is homogeneous: its output scales as init_scale^L.
    """
    if not init_scale > 0 or not math.isfinite(init_scale):
        raise BadInput(f"init_scale={init_scale} must be a positive number")
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
    if init_scale != 1:
        with torch.no_grad():
            for module in model.modules():
                for parameter in [] if isinstance(module, norms) else module.parameters(recurse=False):
                    parameter.mul_(init_scale)
    return model
