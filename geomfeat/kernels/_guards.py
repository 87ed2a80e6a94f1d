"""What must hold of a network before its gradients mean anything, looked at once for each network and shape of inputs.

Kernels are made of the gradients that backward passes give, as training follows them. Where these are not the
derivative of the outputs (straight-through estimators, stopped gradients), the network notes it, and all products
follow the backward passes.
"""

from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.kernels.gradients import differentiable_recurrence, plain_gradient
from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional, n_samples, shapes_of, take
from geomfeat.numerics import stream

_NO_GRADIENT = (
    "so its outputs have no gradient sample by sample: give batch normalisation running statistics, and squeeze() "
    "dimensions by number, not all of size one"
)
# Relative difference between a backward pass and a central difference that no smooth network's rounding explains.
DIFFERENT = 1e-3


def examined(f: Functional, inputs: Any) -> int:
    """Number of outputs.

    Raises BadInput when two passes of the same samples differ, when a sample alone and in company gives different
    outputs, and when no output has a gradient at all.
    """
    few = take(inputs, slice(0, min(2, n_samples(inputs))))
    key = ("examined", shapes_of(few))
    if key not in f.known:
        outputs = _check_independence(f, few)
        with differentiable_recurrence(f):
            _check_gradient(f, take(few, slice(0, 1)))
        f.known[key] = outputs
    return f.known[key]


def _check_independence(f: Functional, few: Any) -> int:
    with torch.no_grad():
        together = f(f.theta, few)
        again = f(f.theta, few)
        if _apart(f, few, together, again):
            raise BadInput(
                "two passes of the same inputs give different outputs: the model is random in evaluation mode, as by "
                "F.dropout without training=self.training, or noise drawn in forward; turn it off to take gradients"
            )
        try:
            alone = f(f.theta, take(few, slice(0, 1)))
        except (RuntimeError, ValueError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            raise BadInput(f"the model refuses a single sample ({error}), {_NO_GRADIENT}") from error
        if alone.shape[0] != 1 or alone.shape[1] != together.shape[1] or _apart(f, few, together[:1], alone):
            raise BadInput(
                f"the model's output for a sample depends on the batch it is in (alone: shape {tuple(alone.shape)}, in "
                f"a batch: {tuple(together.shape)}), {_NO_GRADIENT}"
            )
    return alone.shape[1]


def _apart(f: Functional, few: Any, one: Tensor, other: Tensor) -> bool:
    """Whether two outputs differ by more than rounding of what they are made of, which may be larger than they are."""
    if one.shape != other.shape:
        return True
    root = torch.finfo(f.precision).eps ** 0.5
    difference = (one - other).abs().max()
    if difference.isnan() or difference <= root * one.abs().max():
        return False
    # Outputs that cancel (a network minus its twin) say nothing of their parts: a change of the weights in the same
    # proportion as the tolerance does.
    moved = {name: w * (1 + root * _normal(w, "rounding", name)) for name, w in f.theta.items()}
    return not difference <= (f(moved, few) - f(f.theta, few)).abs().max()


def _check_gradient(f: Functional, one: Any) -> None:
    """BadInput where no parameter at all, chosen or not, has a gradient: a kernel of zeros would say nothing of it."""
    parameters = {name for name, _ in f.model.named_parameters()}
    every = {
        name: t.detach().requires_grad_()
        for name, t in {**f.fixed, **f.theta}.items()
        if name in parameters and (t.is_floating_point() or t.is_complex())
    }
    outputs = _with_gradient(f, every, one)
    if not outputs.requires_grad:
        raise BadInput(
            "the model's outputs have no gradient in any parameter: its forward pass runs under torch.no_grad(), "
            "detaches its outputs, or does not use its parameters"
        )
    weights = _normal(outputs, "weights of outputs")
    chosen = {name: every[name] for name in f.theta}
    try:
        gradient = plain_gradient((outputs * weights).sum(), chosen)
    except RuntimeError as error:
        if is_out_of_memory(error) or f.precision == f.native:
            raise
        f.narrow(error)
        gradient = plain_gradient((_with_gradient(f, every, one) * weights).sum(), chosen)
    _compare_with_differences(f, one, weights, gradient, outputs.detach())


def _with_gradient(f: Functional, theta: dict[str, Tensor], inputs: Any) -> Tensor:
    with torch.enable_grad():
        return f(theta, inputs)


def _compare_with_differences(
    f: Functional, one: Any, weights: Tensor, gradient: dict[str, Tensor], outputs: Tensor
) -> None:
    """Note where backward passes do not give the derivative of the outputs, along one random direction."""
    direction = random_direction(f)
    each = {name: gradient[name] * along for name, along in direction.items()}
    backward = float(sum(part.sum() for part in each.values()))
    size = float(sum(part.square().sum() for part in each.values())) ** 0.5
    unit = torch.finfo(f.precision).eps
    off = []
    for step in (unit ** (1 / 3), unit ** (1 / 3) / 10):
        change = float((difference(f, one, direction, step) * weights).sum())
        size = max(size, abs(change))
        rounding = 100 * unit / step * float((weights * outputs).norm())
        off.append(abs(change - backward) / size if size > 0 else 0.0)
        if not abs(change - backward) > max(DIFFERENT, 100 * unit ** (2 / 3)) * size + rounding:
            return
    f.note(
        f"backward passes differ from the derivative of the outputs, by {100 * min(off):.2g} % along one direction: "
        "a straight-through estimator, detach() or no_grad() in forward, or units exactly at a kink. Kernels and "
        "products follow the backward passes, as training does"
    )


def difference(f: Functional, inputs: Any, direction: dict[str, Tensor], step: float) -> Tensor:
    """The central difference of the outputs along a direction."""
    with torch.no_grad():
        ahead, behind = (
            f({name: f.theta[name] + s * along for name, along in direction.items()}, inputs) for s in (step, -step)
        )
    return (ahead - behind) / (2 * step)


def random_direction(f: Functional) -> dict[str, Tensor]:
    """Standard normal numbers, in the size of each parameter."""
    return {
        name: _normal(w, "direction", name) * (float(w.square().mean().sqrt()) or 1.0) for name, w in f.theta.items()
    }


def _normal(like: Tensor, *names: str) -> Tensor:
    drawn = torch.randn(like.shape, generator=stream(0, "guard", *names), dtype=like.dtype)
    return drawn.to(like.device)
