"""Ways of taking J u, the derivative along a direction of the weights, and which of them is right for a network.

    forward            forward mode. Some operations have none, and torch.no_grad() does not stop it.
    nested forward     forward mode of torch.func, for networks that take derivatives along directions themselves.
    backward twice     u -> J' v is linear in v, and the derivative of <J' v, u> in v is J u. Silently wrong through an
                       autograd function whose backward is marked once_differentiable or is not built of torch.
    differences        central differences of the outputs, to about 10 digits in float64.
    small step         one difference with a longer step, to about three digits in float32; where these are enough.
    rows               one backward pass for each output of each sample: the definition, and slow.

Backward passes define J, since kernels are made of them and training follows them, so the first way is taken whose
products agree with them: <v, J u> = <J' v, u> for random u and v, on a few samples, once for each network.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from geomfeat.errors import BadInput
from geomfeat.memory import block_bytes, is_out_of_memory
from geomfeat.models.forward_passes.recomputed_blocks import recomputed_blocks
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import map_inputs, n_samples, take
from geomfeat.models.streamed_inputs import LazyInputs, leaves_of
from geomfeat.tangent.jacobians._memory_budget import BUDGET, saved_bytes
from geomfeat.tangent.jacobians.derivative_checks import (
    note_where_false,
    random_direction,
    require_same,
    standard_normal,
    sum_and_size,
)
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient
from geomfeat.tangent.jacobians.known_modules import of_known_modules, outputs_and_bends
from geomfeat.tangent.jacobians.small_steps import At, Direction, Outputs, moved_along

logger = logging.getLogger(__name__)
FORWARD_MODES = FORWARD, NESTED = "forward", "nested forward"
MOST_CHECKED = 7  # samples on which the ways are compared, beyond which no further part of the inputs adds any
MOST_ROWS = 2**12  # entries of a sample's outputs beyond which one backward pass for each is no way out


def right_way(f: Functional, what: Any, function: Callable[[Direction, Any], Outputs], inputs: Any) -> str:
    """The name of the first way whose products agree with backward passes, for `function`, known by `what`.

    Raises BadInput for a network that is random, and where only rows would do but there are too many.
    """
    key = ("way", what)
    if key not in f.known:
        rows = telling_samples(inputs)
        if recomputed_blocks(f.model):  # where memory is short, fewer of them
            rows = rows[: max(1, block_bytes(BUDGET, f.device) // saved_bytes(f, inputs)[0])]
        few = map_inputs(take(inputs, rows), torch.Tensor.detach)
        at = lambda theta: function({**f.theta, **theta}, few)  # noqa: E731
        if of_known_modules(f) and not outputs_and_bends(f, few)[1] and _runs_forward(f, at):
            f.known[key] = FORWARD
        else:
            with differentiable_recurrence(f):
                f.known[key] = _first_right(f, at)
    return f.known[key]


def _runs_forward(f: Functional, at: At) -> bool:
    try:
        _forward_mode(at, f.theta, f.theta)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        return False
    return True


def telling_samples(inputs: Any) -> Tensor:
    """Rows on which the ways are compared: the first, middle and last sample, and those of extreme size and mean.

    A branch that only some samples take is then less likely to be missed.

    >>> telling_samples(torch.tensor([[1.0], [2.0], [-9.0], [0.0], [3.0], [4.0], [9.5], [5.0], [1.0]])).tolist()
    [0, 2, 3, 4, 6, 8]
    """
    n = n_samples(inputs)
    rows = {0, n // 2, n - 1}
    for _, part in () if isinstance(inputs, LazyInputs) else leaves_of(inputs):
        if part.is_nested or part.is_complex() or not part.numel():
            continue
        flat = part.detach().reshape(n, -1).float()
        for score in (flat.square().sum(1), flat.mean(1)):
            rows |= {int(score.argmin()), int(score.argmax())}
        if len(rows) >= MOST_CHECKED:
            break
    return torch.tensor(sorted(rows))


def _first_right(f: Functional, at: At) -> str:
    direction = random_direction(f)
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    with torch.enable_grad():
        values = at(theta)
        weights = {name: _in_proportion(value, name) for name, value in values.items()}
        paired = sum(((values[name] * w).sum() for name, w in weights.items()), torch.zeros(()))
    pulled = plain_gradient(paired, theta)
    values = {name: value.detach() for name, value in values.items()}
    expected, size = sum_and_size(pulled, direction)
    del pulled  # as large as the network
    near = torch.finfo(f.precision).eps ** 0.4
    way = "rows"
    for name in (*FORWARD_MODES, "backward twice", "differences"):
        try:
            tangent = along(name, at, f.theta, direction)[1]
        except (RuntimeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            logger.info("products with the Jacobian: no %s (%s)", name, str(error).partition("\n")[0])
            continue
        found, found_size = sum_and_size(weights, tangent)
        if abs(found - expected) <= near * max(size, found_size):
            way = name
            break
        with torch.no_grad():
            for key, again in at(f.theta).items():
                require_same(f, values[key], again)
        logger.info("products with the Jacobian: %s gives %.6g along one direction, a backward pass %.6g", name, found,
                    expected)  # fmt: skip
    rounding = sum(float((weights[name] * value).norm()) for name, value in values.items())
    note_where_false(f, expected, size, rounding, lambda step: _change(at, f.theta, direction, weights, step))
    if way != FORWARD:
        logger.info("products with the Jacobian are taken by %s", way)
    if way == "rows" and (most := max(value[0].numel() for value in values.values())) > MOST_ROWS:
        raise BadInput(
            "an operation of the model cannot be differentiated twice, nor by differences of the outputs (an autograd "
            "function with a backward that is once_differentiable, a straight-through estimator), so products with its "
            f"Jacobian need a backward pass for each of {most} entries: choose smaller layers or fewer outputs"
        )
    return way


def _in_proportion(value: Tensor, name: str) -> Tensor:
    """Random weights in inverse proportion to the size of what they weigh, so that each layer counts."""
    size = float(value.detach().square().mean().sqrt()) * value.numel() ** 0.5
    return standard_normal(value.detach(), "weights", name) / (size or 1.0)


def _change(at: At, theta: Direction, direction: Direction, weights: Direction, step: float) -> float:
    with torch.no_grad():
        ahead, behind = (at(moved_along(theta, direction, s)) for s in (step, -step))
    return float(sum(((ahead[n] - behind[n]) * w).sum() for n, w in weights.items())) / (2 * step)


def along(way: str, at: At, theta: Direction, direction: Direction, stacked: bool = False) -> tuple[Outputs, Outputs]:
    """Values of `at` and derivatives along one direction, or several stacked ones, by one of the ways."""
    theta = {name: theta[name] for name in direction}
    if way == "backward twice":
        return _double_backward(at, theta, direction, stacked)
    if way == "rows":
        return _by_rows(at, theta, direction, stacked)
    single = {FORWARD: _forward_mode, NESTED: _nested_forward_mode}.get(way, _differences)
    if not stacked:
        return single(at, theta, direction)
    if way in FORWARD_MODES:
        try:
            # The value does not depend on the direction, so it is computed once, and all its entries are equal.
            value, tangent = torch.func.vmap(lambda one: _nested_forward_mode(at, theta, one))(dict(direction))
            return {name: copies[0] for name, copies in value.items()}, tangent
        except (RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            logger.info("directions one at a time: torch.func cannot vectorise them (%s)", error)
    each = [single(at, theta, {n: d[b] for n, d in direction.items()}) for b in range(_count(direction))]
    return each[0][0], {name: torch.stack([tangent[name] for _, tangent in each]) for name in each[0][1]}


def _count(direction: Direction) -> int:
    return len(next(iter(direction.values())))


def _forward_mode(at: At, theta: Direction, direction: Direction) -> tuple[Outputs, Outputs]:
    """Dual numbers of torch itself: for small networks they take little more than half the time of torch.func."""
    load_forward_mode()
    with forward_ad.dual_level():
        dual = {name: forward_ad.make_dual(value, direction[name]) for name, value in theta.items()}
        pairs = {name: forward_ad.unpack_dual(value) for name, value in at(dual).items()}
    tangents = {n: torch.zeros_like(p.primal) if p.tangent is None else p.tangent for n, p in pairs.items()}
    return {name: pair.primal for name, pair in pairs.items()}, tangents


def _nested_forward_mode(at: At, theta: Direction, direction: Direction) -> tuple[Outputs, Outputs]:
    """By torch.func, which can be inside of other derivatives and of torch.func.vmap."""
    load_forward_mode()
    value, tangent, *_ = torch.func.jvp(at, (dict(theta),), (dict(direction),))
    return value, tangent


def load_forward_mode() -> None:
    """Load what torch needs for forward mode; it compiles scripts that it warns about as deprecated itself."""
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        for kind in (DeprecationWarning, FutureWarning):  # torch 2.14 changed the one into the other
            warnings.simplefilter("ignore", kind)
        import torch._decomp.decompositions_for_jvp  # noqa: F401


def _differences(at: At, theta: Direction, direction: Direction) -> tuple[Outputs, Outputs]:
    """Central differences, with the step at which rounding and curvature cost the same share of the digits."""
    sizes = {name: _rms(value) for name, value in direction.items()}
    ratios = [(_rms(theta[name]) or 1.0) / size for name, size in sizes.items() if size > 0]
    step = torch.finfo(next(iter(theta.values())).dtype).eps ** (1 / 3) * min(ratios, default=1.0)
    with torch.no_grad():
        value = at(theta)
        ahead, behind = (at(moved_along(theta, direction, s)) for s in (step, -step))
    return value, {name: (ahead[name] - behind[name]) / (2 * step) for name in value}


def _rms(value: Tensor) -> float:
    return float(value.square().mean().sqrt())


def _double_backward(at: At, theta: Direction, direction: Direction, stacked: bool) -> tuple[Outputs, Outputs]:
    with torch.enable_grad():
        theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
        values = at(theta)
        moving = {name: value for name, value in values.items() if value.requires_grad}
        dual = {name: torch.zeros_like(value, requires_grad=True) for name, value in moving.items()}
        paired = sum(((value * dual[name]).sum() for name, value in moving.items()), torch.zeros(()))
        pulled = plain_gradient(paired, theta, create_graph=True)
        several = direction if stacked else {name: value[None] for name, value in direction.items()}
        columns = []
        for b in range(_count(several)):
            inner = sum(((pulled[name] * several[name][b]).sum() for name in several), torch.zeros(()))
            columns.append(plain_gradient(inner, dual, retain_graph=True))
    tangents = {}
    for name, value in values.items():
        still = torch.zeros_like(value, requires_grad=False)
        each = [column.get(name, still) for column in columns]
        tangents[name] = torch.stack(each) if stacked else each[0]
    return {name: value.detach() for name, value in values.items()}, tangents


def _by_rows(at: At, theta: Direction, direction: Direction, stacked: bool) -> tuple[Outputs, Outputs]:
    with torch.enable_grad():
        theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
        values = at(theta)
        entries_of = {name: value.flatten().unbind() for name, value in values.items()}
    several = direction if stacked else {name: value[None] for name, value in direction.items()}
    tangents = {}
    for name, value in values.items():
        entries = []
        for entry in entries_of[name]:
            row = plain_gradient(entry, theta, retain_graph=True)
            entries.append(sum((several[n] * g).flatten(1).sum(1) for n, g in row.items()))
        tangent = torch.stack([torch.as_tensor(e) for e in entries], 1).view(-1, *value.shape)
        tangents[name] = tangent if stacked else tangent[0]
    return {name: value.detach() for name, value in values.items()}, tangents
