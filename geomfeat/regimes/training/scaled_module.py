"""A network at a chosen richness for your own training loop: scaled outputs, learning rates and loss.

`train_at_gamma` does all of it by itself. In another loop, train

    f = (net(w) - net(w0)) / gamma         at_richness(net, gamma=...)
    by a rule on w with its rate scaled     parameter_groups(wrapped, lr, rule=...)

on a loss of f. "sgd" rules, whose step is proportional to the gradient, take eta0 gamma^2; "adam" rules, whose step
does not depend on its size, take eta0 gamma. For gradient descent, eta0 on gamma^2 times the loss is the same (Chizat
et al. 2019 write 1 / alpha^2 before the loss); for Adam a factor on the loss does nothing.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.models.functional import Readout, copied, differentiable_attention, output_tensor, unwrapped
from geomfeat.regimes.training.layer_rates import rate_factors
from geomfeat.regimes.training.objective import Loss, loss_at_zero, loss_of, prepared_targets
from geomfeat.regimes.training.richness import FLOAT64_BELOW, Richness

RULES = ("sgd", "adam")
logger = logging.getLogger(__name__)


class AtRichness(nn.Module):
    """A module whose forward is (net(x) - net0(x)) / gamma, or net(x) / gamma if not centred.

    Attributes:
        net: the network itself, not a copy: training the wrapper trains it, and `net.state_dict()` are its weights.
        richness: `Richness`, with `gamma`.
        start: net at w0, which follows device and precision, but is neither trained nor in parameters() or
            state_dict(); None if not centred. It is in evaluation mode, but for BatchNorm, which follows the mode.
    """

    def __init__(self, net: nn.Module, richness: Richness, centered: bool, readout: Readout | None) -> None:
        super().__init__()
        self.net, self.richness, self.readout = net, richness, readout
        # In a tuple: torch would register a module that is set as an attribute, and its weights would count twice.
        self._held: tuple[nn.Module, ...] = (frozen_copy(net),) if centered else ()

    @property
    def gamma(self) -> float:
        """What the outputs are divided by."""
        return self.richness.gamma

    @property
    def held_networks(self) -> tuple[nn.Module, ...]:
        """Networks that are no modules of this one; their BatchNorm statistics are estimated with its own."""
        return self._held

    @property
    def start(self) -> nn.Module | None:
        """The network as it was when it was wrapped."""
        return self._held[0] if self._held else None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The scaled outputs, in the shape of the network's own."""
        with differentiable_attention():  # the fused kernels round differently with a gradient and without
            after = self._outputs(self.net, args, kwargs)
            if self.start is None:
                return after / self.gamma
            with torch.no_grad():
                before = self._outputs(self.start, args, kwargs)
        return (after - before) / self.gamma

    def _outputs(self, net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        # On copies, since a network that works in place on its input must not change it for the other.
        own = [a.clone() if isinstance(a, Tensor) else a for a in args]
        named = {k: v.clone() if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        seen = kwargs or (args[0] if len(args) == 1 else args)
        return output_tensor(net(*own, **named), seen, self.readout)

    def train(self, mode: bool = True) -> "AtRichness":
        """As for every module; BatchNorm of the frozen network follows."""
        super().train(mode)
        for net in self._held:
            _follow(net, mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AtRichness":
        # Every way to another device or precision (to, cuda, double, half) ends here.
        super()._apply(fn, recurse)
        for net in self._held:
            net._apply(fn, recurse)
        return self


def at_richness(
    model: nn.Module,
    richness: Richness | float | None = None,
    *,
    gamma: float | None = None,
    centered: bool = True,
    readout: Readout | None = None,
) -> AtRichness:
    """Wrap a network so that its outputs are f = (net(x) - net0(x)) / gamma, to be trained in any loop.

    Args:
        model: any module; its current weights become w0, and are trained in place.
        richness, gamma: exactly one of them; a number is gamma. In float32, gamma below 1e-3 costs digits: take
            model.double() there.
        centered: False for net(x) / gamma.
        readout: (output, inputs) -> tensor; by default the output itself, its `logits`, else its first tensor (tuples
            of recurrent layers, outputs of transformers). Its shape stays as it is.

    f is exactly 0 at the start, but with dropout in training mode, where it is 0 up to the dropped units.
    To continue from a checkpoint, load w0 into the model, wrap it, then load the weights.

    Raises BadInput for none or both of richness and gamma, for TorchScript, and in forward for an output without a
    tensor of floating point.

    Source: Chizat et al. 2019, equation 2, with h = net - net0 and alpha = 1 / gamma.

    >>> net = nn.Linear(3, 2)
    >>> wrapped = at_richness(net, gamma=0.1)
    >>> float(wrapped(torch.ones(4, 3)).detach().abs().max()), len(list(wrapped.parameters()))
    (0.0, 2)
    """
    if (richness is None) == (gamma is None):
        raise BadInput("give exactly one of richness= (a Richness) and gamma=")
    model = unwrapped(model)
    given = gamma if richness is None else richness
    knob = given if isinstance(given, Richness) else Richness(given or 0.0)
    first = next(model.parameters(), None)
    if first is not None and first.dtype != torch.float64 and knob.gamma < FLOAT64_BELOW:
        logger.warning("gamma=%g in %s leaves few digits to net(x) - net0(x): use model.double()", knob.gamma,
                       first.dtype)  # fmt: skip
    return AtRichness(model, knob, centered, readout)


def parameter_groups(
    model: nn.Module,
    lr: float,
    gamma: float | None = None,
    *,
    rule: str = "sgd",
    weight_decay: float = 0.0,
    lr_multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer on the raw weights, with the learning rate scaled by the richness.

    Args:
        model: a wrapped network, or a plain one with `gamma`.
        lr: eta0. rule: "sgd" (also with momentum) for lr gamma^2, "adam" (also RMSprop, AdamW, Rprop, sign and other
            normalised rules) for lr gamma.
        weight_decay: as the optimizer has it, on the raw weights: gradient descent and AdamW shrink them by it times
            the scaled rate, so by lr gamma^2 or lr gamma times weight_decay a step.
        lr_multipliers: factors by layer, see `rate_factors`; layers with factor 0 are left out.

    Set Adam's eps far below the gradients, which are 1 / gamma of the unscaled loss's.

    Raises BadInput for values out of range, or nothing to train.

    >>> groups = parameter_groups(at_richness(nn.Linear(3, 2), gamma=0.1), 0.5)
    >>> optimizer = torch.optim.SGD(groups)
    >>> round(optimizer.param_groups[0]["lr"], 6)
    0.005
    """
    if gamma is None:
        if not isinstance(model, AtRichness):
            raise BadInput("gamma= is needed for a model that at_richness() has not wrapped")
        gamma = model.gamma
    for name, value, fine, what in (
        ("lr", lr, 0 < lr < math.inf, "positive and finite"),
        ("gamma", gamma, 0 < gamma < math.inf, "positive and finite"),
        ("rule", rule, rule in RULES, f"one of {', '.join(RULES)}"),
        ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "at least 0 and finite"),
    ):
        if not fine:
            raise BadInput(f"{name}={value!r} must be {what}")
    net = model.net if isinstance(model, AtRichness) else model
    factors = rate_factors(net, lr_multipliers)
    by_factor: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and factors[name] > 0:
            by_factor.setdefault(factors[name], []).append(parameter)
    if not by_factor:
        raise BadInput("the model has no trainable parameters (requires_grad is False, or the factor 0, for all)")
    # Training runs on u = (w - w0) / gamma: its gradient is gamma times that in w, and its step moves w by gamma times
    # as much. Adam's steps do not depend on the size of the gradient, so only the second factor remains.
    rate = lr * (gamma**2 if rule == "sgd" else gamma)
    return [{"params": p, "lr": rate * factor, "weight_decay": weight_decay} for factor, p in by_factor.items()]


def relative_loss(f: Tensor, targets: Any, loss: Loss = "mse", unit: float | None = None) -> Tensor:
    """The loss that `train_at_gamma` lowers, a scalar: of outputs f (n, C), over its value at f = 0.

    targets: (n,) classes or (n, C) values. unit: the value at f = 0 of all samples, for batches; default of these ones.

    >>> float(relative_loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])))
    1.0
    """
    if f.ndim != 2:
        raise BadInput(f"f must be (n, C) outputs, got {tuple(f.shape)}: flatten them to one row per sample")
    ready = prepared_targets(as_goal(targets, "targets").to(f.device), loss, f.shape[1], f.dtype)
    unit = loss_at_zero(f, ready, loss) if unit is None else unit
    if not unit > 0:
        raise BadInput(f"unit={unit} must be positive: it is the loss of f = 0 on all samples")
    return loss_of(f, ready, loss) / unit


def frozen_copy(net: nn.Module) -> nn.Module:
    """A copy that is not trained, in evaluation mode but for its BatchNorm."""
    frozen = copied(net).requires_grad_(False).eval()
    _follow(frozen, net.training)
    return frozen


def _follow(net: nn.Module, mode: bool) -> None:
    """BatchNorm takes the statistics of the batch, or the running ones; else only dropout depends on the mode."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train(mode)
