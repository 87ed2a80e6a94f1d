"""Copies of one architecture that differ in their seed, trained side by side by plain gradient descent at scale gamma.

Their weights are stacked, so that torch.func.vmap takes one step of all of them at once; where an architecture cannot
be batched (paths that depend on the data, fused recurrences) the same step is taken one network after the other.
"""

import copy
import logging
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout, call_with, copied, functional, in_dtype, output_matrix, uses_of
from geomfeat.models.modules import in_precision
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.objective import (
    Loss,
    loss_at_zero,
    loss_of,
    objective,
    prepared_targets,
    require_gradient,
    top_curvature,
)
from geomfeat.tangent import ntk_diagonal
from geomfeat.tangent.jacobians.gradients import plain_gradient

logger = logging.getLogger(__name__)
Values = dict[str, Tensor]

CURVATURE_ROUNDS = 8  # power iterations from the gradient; the top of a tangent kernel stands well apart
# Of 1 / curvature, half of the largest stable step: leaves room for curvature that grows while features are learned.
SHARE = 0.5
MEAN_OVER = 16  # samples that the mean of the tangent kernel is taken over


@dataclass(frozen=True, eq=False)
class Family:
    """S networks of one architecture as stacked tensors.

    Attributes:
        model: one of them, in evaluation mode; only its structure is used. uses: see `uses_of`.
        start: trainable weights by name, each (S, ...). fixed: frozen ones and buffers.
    """

    model: nn.Module
    uses: tuple[tuple[str, str], ...]
    start: Values
    fixed: Values

    @property
    def n_seeds(self) -> int:
        """Number of networks S."""
        return len(next(iter(self.start.values())))

    @property
    def n_weights(self) -> int:
        """Trainable weights of one network."""
        return sum(t[0].numel() for t in self.start.values())

    def network(self, values: Mapping[str, Tensor], i: int) -> nn.Module:
        """The i-th network as a module, with stacked `values`; what they leave out is as in fixed."""
        out = copy.deepcopy(self.model)
        dtype = next(iter(values.values())).dtype
        out = in_precision(out, next(iter(values.values())).device, dtype.to_real())
        named = {**dict(out.named_parameters()), **dict(out.named_buffers())}
        with torch.no_grad():
            for name, stacked in {**self.fixed, **values}.items():
                named[name].copy_(stacked[i])
        return out

    def to(self, dtype: torch.dtype) -> "Family":
        """The same in another precision."""
        device = next(iter(self.start.values())).device
        return Family(in_precision(copy.deepcopy(self.model), device, dtype), self.uses, cast(self.start, dtype),
                      cast(self.fixed, dtype))  # fmt: skip


def cast(values: Mapping[str, Tensor], dtype: torch.dtype) -> Values:
    """Floating tensors in another precision, integer buffers as they are."""
    return {name: in_dtype(t, dtype) for name, t in values.items()}


def family(models: Sequence[nn.Module]) -> Family:
    """Stack networks of one architecture; BadInput where they differ in names or shapes, or have nothing to train."""
    own = [copied(model).eval() for model in models]
    states = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in own]
    for state in states[1:]:
        odd = sorted({*state} ^ {*states[0]}) or [n for n in state if state[n].shape != states[0][n].shape]
        if odd:
            raise BadInput(f"build returns different architectures for different seeds at one width: see {odd[:3]}")
    trainable = [n for n, p in own[0].named_parameters() if p.requires_grad]
    if not trainable:
        raise BadInput("the models that build returns have no trainable parameters")
    stacked = {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
    start = {name: stacked.pop(name) for name in trainable}
    return Family(own[0], uses_of(own[0]), start, stacked)


def over_seeds(function: Callable[..., Any], batched: bool) -> Callable[..., Any]:
    """`function` of one network's tensors (dicts or tensors), over stacks of them: by vmap, or one after the other."""
    if batched:
        return torch.func.vmap(function)

    def loop(*stacks: Any) -> Any:
        n = len(_tensors(stacks[0])[0])
        found = [function(*(_taken(stack, i) for stack in stacks)) for i in range(n)]
        return _stacked(found)

    return loop


def _tensors(stack: Any) -> list[Tensor]:
    return list(stack.values()) if isinstance(stack, dict) else [stack]


def _taken(stack: Any, i: int) -> Any:
    return {name: t[i] for name, t in stack.items()} if isinstance(stack, dict) else stack[i]


def _stacked(found: list[Any]) -> Any:
    if isinstance(found[0], tuple):
        return tuple(_stacked(list(part)) for part in zip(*found, strict=True))
    if isinstance(found[0], dict):
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}
    return torch.stack(found)


def outputs_of(nets: Family, inputs: Any, readout: Readout | None = None) -> Callable[[Values, Values], Tensor]:
    """(trainable weights, fixed tensors) of one network -> its outputs (n, C)."""

    def outputs(weights: Values, fixed: Values) -> Tensor:
        return output_matrix(call_with(nets.model, {**fixed, **weights}, nets.uses, inputs), inputs, readout)

    return outputs


def can_batch(nets: Family, inputs: Any, readout: Readout | None = None) -> bool:
    """Whether torch.func can run all networks of a family at once; tried on the inputs themselves."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error")  # torch would loop over an operation: then our own loop is as fast
            torch.func.vmap(outputs_of(nets, inputs, readout))(nets.start, nets.fixed)
    except (RuntimeError, TypeError, ValueError, AttributeError, UserWarning) as cause:
        logger.info("seeds are trained one at a time: torch.func cannot batch this model (%s)", cause)
        return False
    return True


@dataclass(frozen=True, eq=False)
class Descent:
    """What training gave.

    Attributes:
        weights: step -> weights by name, each (S, ...), in float64.
        losses: (steps + 1, S) relative loss, 1 at the start.
    """

    weights: Mapping[int, Values]
    losses: Tensor


def descend_together(
    nets: Family,
    inputs: Any,
    targets: Tensor,
    *,
    gamma: float,
    steps: int,
    lr: Tensor,
    loss: Loss = "mse",
    readout: Readout | None = None,
    wanted: Collection[int] = (),
    batched: bool = True,
) -> Descent:
    """Train all networks of a family on f = (net(w) - net(w0)) / gamma by `steps` of gradient descent.

    Args:
        lr: (S,) eta0 of every network.
        wanted: steps whose weights to save; the last one always is. batched: see `can_batch`.

    The displacement u = (w - w0) / gamma is what is updated, so small changes lose no digits.
    """
    outputs = outputs_of(nets, inputs, readout)
    with torch.no_grad():
        reference = over_seeds(outputs, batched)(nets.start, nets.fixed)
    targets = as_classes(targets, reference.shape[-1])
    goal = prepared_targets(targets, loss, reference.shape[-1], reference.dtype)
    unit = loss_at_zero(reference[0], goal, loss)
    require_gradient(reference[0], goal, loss)

    def value(u: Values, start: Values, fixed: Values, before: Tensor) -> Tensor:
        f = (outputs({n: w + gamma * u[n] for n, w in start.items()}, fixed) - before) / gamma
        return loss_of(f, goal, loss) / unit

    rates = lr.to(reference)
    slope = over_seeds(torch.func.grad_and_value(value) if batched else _by_autograd(value), batched)
    u = {name: torch.zeros_like(w) for name, w in nets.start.items()}
    kept, losses = {}, []
    for step in range(steps + 1):
        if step in wanted or step == steps:
            kept[step] = {n: w.to(WORKING) + gamma * u[n].to(WORKING) for n, w in nets.start.items()}
        if step == steps:
            with torch.no_grad():
                losses.append(over_seeds(value, batched)(u, nets.start, nets.fixed, reference))
            break
        gradient, now = slope(u, nets.start, nets.fixed, reference)
        losses.append(now)
        u = {n: t - rates.view(-1, *[1] * (t.ndim - 1)) * gradient[n] for n, t in u.items()}
    return Descent(kept, torch.stack(losses).detach().to(WORKING))


def _by_autograd(value: Callable[..., Tensor]) -> Callable[..., tuple[Values, Tensor]]:
    """grad_and_value by a plain backward pass, which custom functions and fused layers have too."""

    def slope(u: Values, *rest: Any) -> tuple[Values, Tensor]:
        leaves = {name: t.detach().requires_grad_() for name, t in u.items()}
        now = value(leaves, *rest)
        return plain_gradient(now, leaves), now.detach()

    return slope


def learning_rates(
    nets: Sequence[Family],
    inputs: Any,
    targets: Tensor,
    *,
    gammas: Sequence[float],
    loss: Loss = "mse",
    readout: Readout | None = None,
) -> list[Tensor]:
    """Comparable eta0 for families of several widths, (S,) each: a constant over the mean of the tangent kernel.

    The mean of the kernel's diagonal is the speed of learning at rate 1. It does not depend on the width in NTK
    parameterization, so there eta0 is one number up to chance; in a parameterization where the kernel grows as the
    width does, eta0 falls with it, as the largest stable rate does. (The largest curvature itself would not do: at
    small widths it is larger by chance, by a factor of (1 + sqrt(outputs / width))^2.) The constant is the largest
    for which no network's step exceeds half of 1 / (its largest Gauss-Newton curvature).
    """
    speeds, room = [], math.inf
    n = n_samples(inputs)
    # From the whole set: samples are often sorted by class.
    few = take(inputs, torch.linspace(0, n - 1, min(n, MEAN_OVER)).long())
    for family_, gamma in zip(nets, gammas, strict=True):
        own = []
        for i in range(family_.n_seeds):
            net = family_.network(family_.start, i)
            speed = _speed(net, few, readout)
            problem = objective(net, inputs, targets, gamma=gamma, loss=loss, readout=readout, mode="eval")
            curvature, _ = top_curvature(problem, problem.zero(), None, CURVATURE_ROUNDS)
            if not (curvature > 0 and speed > 0):
                raise BadInput("the loss does not depend on the weights: the model's outputs have no gradient")
            own.append(speed)
            room = min(room, SHARE * speed / curvature)
        speeds.append(torch.tensor(own, dtype=WORKING))
    return [room / speed for speed in speeds]


def _speed(net: nn.Module, inputs: Any, readout: Readout | None) -> float:
    """Mean over samples of the tangent kernel's trace over outputs, by one random combination of the outputs.

    With signs v, E |J' v|^2 is the trace; in wide networks the outputs' kernel is a multiple of the identity, where
    every v gives it.
    """
    f = functional(net, readout=readout)
    outputs = f(f.theta, f.inputs(take(inputs, slice(0, 1)))).shape[1]
    signs = 2.0 * torch.randint(2, (outputs, 1), generator=stream(0, "signs of outputs", outputs)) - 1
    return float(ntk_diagonal(f, inputs, outputs=signs.to(f.device, WORKING)).mean())
