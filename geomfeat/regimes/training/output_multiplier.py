"""A network whose outputs are c (net(x) - net0(x)), and which is otherwise what it was: class, names, type of outputs.

`at_richness` wraps a network and returns a tensor. Here the copy stays an instance of the network's own class, so that
names of parameters, a Trainer, and code that reads `output.logits` work as before. As torch's parametrizations do, the
copy gets a class of its own, made from the old one.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import copied, differentiable_attention
from geomfeat.models.nested_inputs import map_inputs
from geomfeat.models.readouts.main_output import main_output
from geomfeat.numerics import times
from geomfeat.regimes.training.richness import FLOAT64_BELOW
from geomfeat.regimes.training.scaled_module import frozen_copy

logger = logging.getLogger(__name__)


class ScaledOutputs(nn.Module):
    """What the class of a network with scaled outputs has before its own: see `with_scaled_outputs`.

    Attributes:
        output_multiplier: c. start_network: net at w0, not among the modules, parameters or state of the network.
    """

    output_multiplier: float
    _start_network: tuple[nn.Module, ...]

    @property
    def held_networks(self) -> tuple[nn.Module, ...]:
        """Networks that are no modules of this one; their BatchNorm statistics are estimated with its own."""
        return self._start_network

    @property
    def start_network(self) -> nn.Module:
        """The network as it was when its outputs were scaled."""
        return self._start_network[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network itself returns, with its main tensor (`main_output`) scaled."""
        if kwargs.get("past_key_values") is not None:
            raise BadInput("past_key_values= is for generation: scaled outputs are for training, without a cache")
        with differentiable_attention():  # the fused kernels round differently with a gradient and without
            before = self._before(args, kwargs)
            output = super().forward(*args, **kwargs)
        if kwargs.get("labels") is not None and getattr(output, "loss", None) is not None:
            raise BadInput(
                "the loss that the model itself computes from labels= is that of unscaled outputs: leave labels out "
                "and take the loss from output.logits (transformers.Trainer does so with compute_loss_func=)"
            )
        after = main_output(output).tensor
        return _with(output, after, times(after - before, self.output_multiplier))

    def _before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The outputs at w0, in the mode of this network, module by module."""
        start = dict(self.start_network.named_modules())
        for name, module in self.named_modules():
            if name in start:
                start[name].training = module.training
        # Only dropout at work draws anything, and looking for devices takes as long as a small layer.
        drawing = self.parameters() if self.training else ()
        devices = {p.device.index for p in drawing if p.device.type == "cuda"}
        # Dropout drops the same units in both, so that the outputs are 0 at the start and its noise is not scaled up.
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices), enabled=self.training):
            # On copies, since a network that works in place on its input must not change it for the other.
            return main_output(self.start_network(*map(_cloned, args), **_cloned(kwargs))).tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ScaledOutputs:
        # Every way to another device or precision (to, cuda, double, half) ends here.
        super()._apply(fn, recurse)
        for net in self._start_network:
            net._apply(fn, recurse)
        return self


def with_scaled_outputs(model: nn.Module, multiplier: float) -> nn.Module:
    """A copy of the network with outputs c (net(x) - net0(x)): 0 at the start, c times the change afterwards.

    Args:
        model: any module; its weights become w0. Where it returns more than a tensor (outputs of transformers, tuples,
            mappings), the one that `main_output` finds is scaled and the rest stays. If its outputs are scaled already,
            the multipliers multiply and w0 stays.
        multiplier: c, positive. In float32, above 1e3 it costs digits: take model.double() there.

    `state_dict()` holds the weights alone, not w0: to go on from a checkpoint, scale the network with its initial
    weights, then load.

    Raises BadInput for a multiplier that is not positive, for TorchScript; when called, for a loss that the network
    itself computes from labels, and for a cache of a generation.

    Source: Chizat et al. 2019, equation 2, with alpha = c.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> scaled, x = with_scaled_outputs(net, 5.0), torch.ones(1, 3)
    >>> float(scaled(x).detach().abs().max()), isinstance(scaled, nn.Sequential)
    (0.0, True)
    >>> _ = nn.init.constant_(scaled[2].bias, 1.0), nn.init.zeros_(net[2].bias)
    >>> bool(torch.allclose(scaled(x), 5 * (1 - scaled.start_network[2].bias)))
    True
    """
    if isinstance(multiplier, bool) or not isinstance(multiplier, int | float) or not 0 < multiplier < math.inf:
        raise BadInput(f"multiplier={multiplier!r} must be a positive number")
    first = next(model.parameters(), None)
    if first is not None and first.dtype != torch.float64 and multiplier > 1 / FLOAT64_BELOW:
        logger.warning("a multiplier of %g leaves few digits in %s to the change: use model.double()", multiplier,
                       first.dtype)  # fmt: skip
    clone = copied(model)
    if isinstance(clone, ScaledOutputs):
        clone.output_multiplier *= multiplier
        return clone
    start, own = frozen_copy(model), type(clone)
    forward = functools.wraps(own.forward)(lambda self, *args, **kwargs: ScaledOutputs.forward(self, *args, **kwargs))
    # A Trainer reads from the signature of forward which columns of the data the network takes.
    made: Any = type(own.__name__, (ScaledOutputs, own), {"forward": forward, "__module__": own.__module__})
    clone.__class__ = made
    clone.__dict__["output_multiplier"] = float(multiplier)
    clone.__dict__["_start_network"] = (start,)
    return clone


def _cloned(value: Any) -> Any:
    return map_inputs(value, torch.clone) if isinstance(value, Tensor | Mapping | tuple) else value


def _with(output: Any, old: Tensor, new: Tensor) -> Any:
    """What a network returned, with another tensor in the place of one; all else is the same object."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        for key, value in output.items():
            changed[key] = _with(value, old, new)
        return changed
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        values = {f.name: _with(getattr(output, f.name), old, new) for f in dataclasses.fields(output) if f.init}
        return dataclasses.replace(output, **values)
    if isinstance(output, tuple | list):
        parts = [_with(value, old, new) for value in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output
