"""Products with the Jacobian of a network: J' v, J dtheta, and the directional derivative of hidden features.

J dtheta is taken in forward mode where that agrees with backward passes, else in another way: see `_directional`.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.activations import module_name, recording
from geomfeat.activations.reduction import plain
from geomfeat.errors import BadInput
from geomfeat.memory import block_bytes, free_bytes, in_gigabytes, with_smaller_chunks
from geomfeat.models.forward_passes.recomputed_blocks import recomputed_blocks
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, n_samples
from geomfeat.tangent.jacobians._memory_budget import BUDGET, saved_bytes
from geomfeat.tangent.jacobians.derivative_checks import require_batch_size, require_callable
from geomfeat.tangent.jacobians.directional_derivative import FORWARD_MODES, along, right_way
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient
from geomfeat.tangent.jacobians.small_steps import AnyDirection, Direction, Outputs, once, small_step

T = TypeVar("T")
_OUTPUTS = "outputs of the network"  # among the names of layers


def vjp(
    f: Functional, inputs: Any, cotangent: Float[Tensor, "n C"], *, batch_size: int | None = None
) -> dict[str, Tensor]:
    """J' v: the gradient with respect to theta of sum_ic v_ic f_c(x_i), summed over the batch.

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Linear(2, 1, bias=False))
    >>> vjp(f, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2, 1))["weight"].tolist()
    [[4.0, 6.0]]
    """
    return value_and_vjp(f, inputs, cotangent, batch_size=batch_size)[1]


def value_and_vjp(
    f: Functional, inputs: Any, cotangent: Tensor, *, batch_size: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs (n, C), and J' v as in `vjp`."""
    inputs, cotangent = f.inputs(inputs), cotangent.to(f.device, f.dtype)
    if cotangent.ndim != 2 or cotangent.shape[0] != n_samples(inputs):
        raise BadInput(f"cotangent must be (n, C) with n = {n_samples(inputs)}, got {tuple(cotangent.shape)}")
    require_callable(f, inputs)
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}

    def attempt(size: int) -> tuple[Tensor, dict[str, Tensor]]:
        values: list[Tensor] = []
        total: dict[str, Tensor] = {}
        for rows, part in batches(inputs, size):
            with torch.enable_grad():
                outputs = f(theta, part)
                gradients = plain_gradient((outputs * cotangent[rows]).sum(), theta)
            values.append(outputs.detach())
            total = {name: total[name] + g for name, g in gradients.items()} if total else gradients
        return torch.cat(values), total

    return _in_batches(f, inputs, attempt, 0, batch_size)


def pullback(f: Functional, inputs: Any) -> Callable[[Tensor], dict[str, Tensor]]:
    """v -> J' v for many v, as `vjp`, from one forward pass whose graph is kept between them.

    Where a graph of all samples takes too much memory, or is computed anew in every backward pass, each v has its own.
    """
    inputs = f.inputs(inputs)
    require_callable(f, inputs)
    kept = n_samples(inputs) * saved_bytes(f, inputs)[0]
    if 2 * kept > block_bytes(BUDGET, f.device) or recomputed_blocks(f.model):
        return lambda v: vjp(f, inputs, v)
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    with torch.enable_grad(), differentiable_recurrence(f):
        outputs = f(theta, inputs)

    def pulled(v: Tensor) -> dict[str, Tensor]:
        with torch.enable_grad(), differentiable_recurrence(f):
            return plain_gradient((outputs * v.to(outputs)).sum(), theta, retain_graph=True)

    return pulled


def jvp(
    f: Functional, inputs: Any, direction: AnyDirection, *, batch_size: int | None = None, rough: bool = False
) -> Tensor:
    """J dtheta: the derivative of the outputs along `direction`, (n, C).

    Args:
        direction: name -> tensor of the parameter's shape (parameters left out do not move), or several directions
            at once, each tensor with one leading dimension B; the result is then (B, n, C). Or a function that returns
            it anew at every call: where memory is short, since the direction is as large as the network.
        rough: whether about three digits do: float32 networks then take two forward passes instead of forward mode.

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Linear(2, 1, bias=False))
    >>> jvp(f, torch.tensor([[1.0, 2.0]]), {"weight": torch.tensor([[10.0, 1.0]])}).tolist()
    [[12.0]]
    """
    return value_and_jvp(f, inputs, direction, batch_size=batch_size, rough=rough)[1]


def value_and_jvp(
    f: Functional,
    inputs: Any,
    direction: AnyDirection,
    *,
    batch_size: int | None = None,
    rough: bool = False,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The outputs (n, C), and J dtheta as in `jvp`, of which `rough` takes one pass less with the outputs, `values`."""
    known = None if values is None else {"": values}
    primal, tangent = _directional(f, inputs, _outputs_of(f), direction, batch_size, "outputs", rough, known)
    return primal[""], tangent[""]


def way_of_outputs(f: Functional, inputs: Any) -> str:
    """How J dtheta is taken for the outputs of a network, see `_directional`."""
    return right_way(f, "outputs", _outputs_of(f), inputs)


def _outputs_of(f: Functional) -> Callable[[Direction, Any], Outputs]:
    return lambda theta, part: {"": f(theta, part)}


def feature_jvp(
    f: Functional,
    inputs: Any,
    layers: Sequence[str],
    direction: AnyDirection,
    *,
    batch_size: int | None = None,
    rough: bool = False,
    values: Mapping[str, Tensor] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Hidden features and their derivative along `direction`: layer -> (features (n, d), tangent (n, d)).

    Features are flattened per sample. With several directions at once (see `jvp`) a tangent is (B, n, d). `rough`: as
    there; `values`: the features at theta.
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
        return features_and_outputs(theta, part)[0]

    def features_and_outputs(theta: Direction, part: Any) -> tuple[Outputs, Tensor]:
        with recording(f.model, layers, detach=False) as recorded:
            outputs = f(theta, part)
        return _asked_for(recorded, layers, n_samples(part)), outputs

    def together(theta: Direction, part: Any) -> Outputs:
        found, outputs = features_and_outputs(theta, part)
        return {**found, _OUTPUTS: outputs}

    known = "way", "outputs"
    if known not in f.known and ("way", tuple(layers)) not in f.known:  # one check may serve both
        inputs = f.inputs(inputs)
        require_callable(f, inputs)
        with contextlib.suppress(BadInput):  # which is of the outputs, or comes again
            if (way := right_way(f, tuple(layers), together, inputs)) in FORWARD_MODES:
                f.known[known] = way
    primal, tangent = _directional(f, inputs, features, direction, batch_size, tuple(layers), rough, values)
    return {name: (primal[name], tangent[name]) for name in primal}


def _asked_for(recorded: Mapping[str, Tensor], layers: list[str], n: int) -> Outputs:
    out = {}
    for name in layers:
        whole = [name] if name in recorded else [key for key in recorded if module_name(key) == name]
        found = [key for key in whole if has_rows(recorded[key], n)]
        if not found:
            shapes = {key: tuple(recorded[key].shape) for key in whole}
            raise BadInput(f"layer {name!r} has no output with one row per sample ({n} samples, recorded {shapes})")
        out |= {key: plain(recorded[key]).reshape(n, -1) for key in found}
    return out


def has_rows(value: Tensor, n: int) -> bool:
    """Whether a tensor holds floating numbers with one row of features for each of n samples.

    >>> has_rows(torch.ones(2, 3), 2), has_rows(torch.ones(2, 0), 2), has_rows(torch.ones(2, 3).long(), 2)
    (True, False, False)
    """
    return not value.is_nested and value.is_floating_point() and value.shape[:1] == (n,) and value.numel() > 0


def _directional(
    f: Functional,
    inputs: Any,
    function: Callable[[Direction, Any], Outputs],
    direction: AnyDirection,
    batch_size: int | None,
    what: Any,
    rough: bool = False,
    known: Mapping[str, Tensor] | None = None,
) -> tuple[Outputs, Outputs]:
    """Values and derivatives of `function`, known by `what`, along `direction`, over all inputs in batches.

    `known`: the values, where they are.
    """
    inputs = f.inputs(inputs)
    require_callable(f, inputs)
    given = direction if callable(direction) else lambda: direction
    moved, stacked = _checked(f, given())
    several = len(next(iter(moved.values()))) if stacked else 1
    anew = once(moved, lambda: _checked(f, given())[0])
    del moved  # as large as the network
    way = right_way(f, what, function, inputs)
    # Where forward mode agrees with backward passes, so do small steps.
    by_steps = rough and way in FORWARD_MODES and not stacked and f.precision == torch.float32

    def attempt(size: int) -> tuple[Outputs, Outputs]:
        spent = callable(direction) and by_steps and size >= n_samples(inputs)  # a second batch needs it again
        held = anew if spent else anew()
        values, tangents = [], []
        for rows, part in batches(inputs, size):
            at = lambda theta, part=part: function({**f.theta, **theta}, part)  # noqa: E731
            found = None
            if by_steps:
                here = None if known is None else {name: value[rows].to(f.dtype) for name, value in known.items()}
                found = small_step(f, what, at, held, here)
            if found is None:
                found = along(way, at, f.theta, held() if callable(held) else held, stacked)
            values.append(found[0])
            tangents.append(found[1])
        return (
            {name: torch.cat([v[name] for v in values]) for name in values[0]},
            {name: torch.cat([t[name] for t in tangents], dim=int(stacked)) for name in values[0]},
        )

    return _in_batches(f, inputs, attempt, several, batch_size)


def _in_batches(f: Functional, inputs: Any, attempt: Callable[[int], T], directions: int, batch_size: int | None) -> T:
    """`attempt(samples per batch)`, as many as keep activations, one tangent for each direction, within the budget."""
    with differentiable_recurrence(f):
        if batch_size is not None:
            require_batch_size(batch_size)
            return attempt(batch_size)
        each = max(1, saved_bytes(f, inputs)[0]) * max(2, 1 + directions)

        def remedy() -> str:
            return (
                f"a product with the Jacobian takes {in_gigabytes(each)} for one sample and "
                f"{in_gigabytes(2 * f.n_parameters * f.dtype.itemsize)} for the parameters, and "
                f"{in_gigabytes(free_bytes(f.device))} are free: restrict params=, or take fewer directions at once"
            )

        most = block_bytes(BUDGET, f.device)
        return with_smaller_chunks(lambda budget: attempt(max(1, budget // each)), most, each, remedy)


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
