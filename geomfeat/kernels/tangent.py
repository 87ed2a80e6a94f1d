"""Products with the Jacobian of a network: J' v, J dtheta, and the directional derivative of hidden features.

J dtheta is computed in forward mode; where an operation has no forward-mode derivative (cuDNN recurrences, some
custom autograd functions) by two backward passes, which is as exact: u -> J' u is linear, and the derivative of
<J' u, dtheta> with respect to u is J dtheta.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.activations import module_name, recording
from geomfeat.errors import BadInput
from geomfeat.kernels._memory import BUDGET, saved_bytes
from geomfeat.kernels.jacobians import (
    differentiable_recurrence,
    jacobian,
    jacobian_rows,
    parameter_slices,
    plain_gradient,
)
from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional, batches, n_samples

__all__ = ["feature_jvp", "jacobian", "jacobian_rows", "jvp", "parameter_slices", "vjp"]

logger = logging.getLogger(__name__)
Direction = Mapping[str, Tensor]
Outputs = dict[str, Tensor]


def vjp(
    f: Functional, inputs: Any, cotangent: Float[Tensor, "n C"], *, batch_size: int | None = None
) -> dict[str, Tensor]:
    """J' v: the gradient with respect to theta of sum_ic v_ic f_c(x_i), summed over the batch.

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Linear(2, 1, bias=False))
    >>> vjp(f, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2, 1))["weight"].tolist()
    [[4.0, 6.0]]
    """
    inputs, cotangent = f.inputs(inputs), cotangent.to(f.device, f.dtype)
    if cotangent.ndim != 2 or cotangent.shape[0] != n_samples(inputs):
        raise BadInput(f"cotangent must be (n, C) with n = {n_samples(inputs)}, got {tuple(cotangent.shape)}")
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    total = {name: torch.zeros_like(value) for name, value in f.theta.items()}
    with differentiable_recurrence(f):
        for rows, part in batches(inputs, batch_size or _batch_size(f, inputs, 1)):
            with torch.enable_grad():
                value = (f(theta, part) * cotangent[rows]).sum()
            for name, gradient in plain_gradient(value, theta).items():
                total[name] += gradient
    return total


def jvp(f: Functional, inputs: Any, direction: Direction, *, batch_size: int | None = None) -> Tensor:
    """J dtheta: the derivative of the outputs along `direction`, (n, C).

    Args:
        direction: name -> tensor of the parameter's shape (parameters left out do not move), or several directions
            at once, each tensor with one leading dimension B; the result is then (B, n, C).

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Linear(2, 1, bias=False))
    >>> jvp(f, torch.tensor([[1.0, 2.0]]), {"weight": torch.tensor([[10.0, 1.0]])}).tolist()
    [[12.0]]
    """

    def outputs(theta: Direction, part: Any) -> Outputs:
        return {"": f(theta, part)}

    return _directional(f, inputs, outputs, direction, batch_size)[1][""]


def feature_jvp(
    f: Functional, inputs: Any, layers: Sequence[str], direction: Direction, *, batch_size: int | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Hidden features and their derivative along `direction`: layer -> (features (n, d), tangent (n, d)).

    Features are flattened per sample. With several directions at once (see `jvp`) a tangent is (B, n, d).
    `layers` are names as `recording` gives them ("fc1", "rnn[0]"); a bare module name of a layer with nested outputs
    stands for all of them that have one row per sample.

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.ReLU()))
    >>> h, dh = feature_jvp(f, torch.tensor([[1.0, 2.0]]), ["0"], {"0.weight": torch.tensor([[10.0, 1.0]])})["0"]
    >>> dh.tolist()
    [[12.0]]
    """
    layers = list(layers)

    def features(theta: Direction, part: Any) -> Outputs:
        with recording(f.model, layers, detach=False) as recorded:
            f(theta, part)
        return _asked_for(recorded, layers, n_samples(part))

    primal, tangent = _directional(f, inputs, features, direction, batch_size)
    return {name: (primal[name], tangent[name]) for name in primal}


def _asked_for(recorded: Mapping[str, Tensor], layers: list[str], n: int) -> Outputs:
    out = {}
    for name in layers:
        whole = [name] if name in recorded else [key for key in recorded if module_name(key) == name]
        found = [key for key in whole if recorded[key].shape[:1] == (n,) and recorded[key].is_floating_point()]
        if not found:
            shapes = {key: tuple(recorded[key].shape) for key in whole}
            raise BadInput(f"layer {name!r} has no output with one row per sample ({n} samples, recorded {shapes})")
        out |= {key: recorded[key].reshape(n, -1) for key in found}
    return out


def _directional(
    f: Functional,
    inputs: Any,
    function: Callable[[Direction, Any], Outputs],
    direction: Direction,
    batch_size: int | None,
) -> tuple[Outputs, Outputs]:
    """Values and derivatives of `function` along `direction`, over all inputs in batches."""
    inputs = f.inputs(inputs)
    moved, stacked = _checked(f, direction)
    n_directions = len(next(iter(moved.values()))) if stacked else 1
    values, tangents = [], []
    derivative = _forward_mode
    with differentiable_recurrence(f):
        for _, part in batches(inputs, batch_size or _batch_size(f, inputs, n_directions)):
            at = lambda theta, part=part: function({**f.theta, **theta}, part)  # noqa: E731
            here = {name: f.theta[name] for name in moved}
            try:
                value, tangent = derivative(at, here, moved, stacked)
            except (RuntimeError, TypeError) as error:
                if is_out_of_memory(error) or derivative is _double_backward:
                    raise
                logger.info("no forward-mode derivative (%s): taking two backward passes instead", error)
                derivative = _double_backward
                value, tangent = derivative(at, here, moved, stacked)
            values.append(value)
            tangents.append(tangent)
    return (
        {name: torch.cat([v[name] for v in values]) for name in values[0]},
        {name: torch.cat([t[name] for t in tangents], dim=int(stacked)) for name in values[0]},
    )


def _checked(f: Functional, direction: Direction) -> tuple[dict[str, Tensor], bool]:
    """The direction on the right device, and whether it holds several; BadInput for what does not fit theta."""
    unknown = [name for name in direction if name not in f.theta]
    if unknown or not direction:
        raise BadInput(f"direction names no parameter of the model: {unknown}; they are {list(f.theta)[:20]}")
    moved = {name: value.detach().to(f.device, f.dtype) for name, value in direction.items()}
    single = all(value.shape == f.theta[name].shape for name, value in moved.items())
    many = all(value.ndim and value.shape[1:] == f.theta[name].shape for name, value in moved.items())
    if not single and not (many and len({value.shape[0] for value in moved.values()}) == 1):
        wrong = {k: (tuple(v.shape), tuple(f.theta[k].shape)) for k, v in moved.items() if v.shape != f.theta[k].shape}
        raise BadInput(f"direction has other shapes than the parameters (given, parameter): {wrong}")
    return moved, not single


def _forward_mode(
    at: Callable[[Direction], Outputs], theta: dict[str, Tensor], direction: dict[str, Tensor], stacked: bool
) -> tuple[Outputs, Outputs]:
    load_forward_mode()

    def one(along: dict[str, Tensor]) -> tuple[Outputs, Outputs]:
        value, tangent, *_ = torch.func.jvp(at, (theta,), (along,))
        return value, tangent

    if not stacked:
        return one(direction)
    # The value does not depend on the direction, so it is computed once, and all its entries are equal.
    value, tangent = torch.func.vmap(one)(direction)
    return {name: copies[0] for name, copies in value.items()}, tangent


def load_forward_mode() -> None:
    """Load what torch needs for forward mode; it compiles scripts that it warns about as deprecated itself."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch._decomp.decompositions_for_jvp  # noqa: F401


def _double_backward(
    at: Callable[[Direction], Outputs], theta: dict[str, Tensor], direction: dict[str, Tensor], stacked: bool
) -> tuple[Outputs, Outputs]:
    with torch.enable_grad():
        theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
        values = at(theta)
        moving = {name: value for name, value in values.items() if value.requires_grad}
        dual = {name: torch.zeros_like(value, requires_grad=True) for name, value in moving.items()}
        paired = sum(((value * dual[name]).sum() for name, value in moving.items()), torch.zeros(()))
        pulled = plain_gradient(paired, theta, create_graph=True)
        along = direction if stacked else {name: value[None] for name, value in direction.items()}
        columns = []
        for b in range(len(next(iter(along.values())))):
            inner = sum(((pulled[name] * along[name][b]).sum() for name in along), torch.zeros(()))
            columns.append(plain_gradient(inner, dual, retain_graph=True))
    tangents = {}
    for name, value in values.items():
        still = torch.zeros_like(value, requires_grad=False)
        each = [column.get(name, still) for column in columns]
        tangents[name] = torch.stack(each) if stacked else each[0]
    return {name: value.detach() for name, value in values.items()}, tangents


def _batch_size(f: Functional, inputs: Any, n_directions: int) -> int:
    """Samples per batch so that the activations, with one tangent per direction, stay within the budget."""
    with differentiable_recurrence(f):
        saved, _ = saved_bytes(f, inputs)
    return max(1, BUDGET // (max(saved, 1) * (1 + n_directions)))
