"""Conditions under which a network's gradients are valid, checked once for each network and shape of inputs.

Kernels are made of the gradients that backward passes give, as training follows them. Where these are not the
derivative of the outputs (straight-through estimators, stopped gradients), the network notes it, and all products
follow the backward passes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.memory import is_out_of_memory
from geomfeat.models.effective_weights import constant_diagonals
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import map_inputs, n_samples, shapes_of, take
from geomfeat.models.readouts.reading import CALLED, RETURNS, reads_usually
from geomfeat.models.refused_inputs import explained
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.numerics import stream
from geomfeat.tangent.jacobians._memory_budget import saved_bytes
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient
from geomfeat.tangent.jacobians.known_modules import of_known_modules, outputs_and_bends
from geomfeat.tangent.jacobians.small_steps import moved_along

_NO_GRADIENT = (
    "so its outputs have no gradient sample by sample: give batch normalisation running statistics, squeeze() "
    "dimensions by number, not all of size one, and of a network that compares its samples (CLIP) read one side, as by "
    "readout=lambda output, inputs: output.image_embeds"
)
_RANDOM = (
    "two passes of the same inputs give different outputs: the model is random in evaluation mode, as by F.dropout "
    "without training=self.training, or noise drawn in forward; turn it off to take gradients"
)
CUSTOM = "custom functions"  # known of a network: whether its graph holds autograd functions of other makers than torch
# Relative difference between a backward pass and a central difference that no smooth network's rounding explains.
DIFFERENT = 1e-3
# Two steps a factor of ten apart find a false backward pass to differ by the same, but for this share.
SAME = 0.25
KEPT = 2**17  # parameters up to which the numbers drawn for a direction are stored
DRAWN = 2**20 - 3  # numbers at most, which repeat: a prime, so that rows of a weight do not repeat with them


def examined(f: Functional, inputs: Any) -> int:
    """Number of outputs.

    Raises BadInput when two passes of the same samples differ, when a sample alone and in company gives different
    outputs, and when no output has a gradient at all.
    """
    together = require_callable(f, inputs)
    few = take(inputs, slice(0, min(2, n_samples(inputs))))
    key = ("examined", shapes_of(few))
    if key not in f.known:
        f.known[key] = _checked(f, few, together)
    return f.known[key]


def _checked(f: Functional, few: Any, together: Tensor | None) -> int:
    """Number of outputs; `together`: those of `few`, where they are known already."""
    one = take(few, slice(0, 1))
    if of_known_modules(f):
        try:
            outputs, bends = outputs_and_bends(f, one)
        except (RuntimeError, ValueError, IndexError) as error:
            raise BadInput(f"the model refuses a single sample ({error}), {_NO_GRADIENT}") from error
        _check_independence(f, few, together, outputs, again=False)
        if not bends:
            f.known[CUSTOM] = False
            return outputs.shape[1]
    with differentiable_recurrence(f):
        alone = _Alone.of(f, one)
        _check_independence(f, few, together, alone.outputs.detach())
        _check_gradient(f, alone)
    return alone.outputs.shape[1]


def require_callable(f: Functional, inputs: Any) -> Tensor | None:
    """The outputs of two samples, if not taken before; BadInput, with shapes and the cause, where there are none.

    Two samples are tried, and of whole numbers (token ids) those with the smallest and largest one, unless numbers as
    small and as large were.
    """
    n = n_samples(inputs)
    few = take(inputs, slice(0, min(2, n)))
    whole: list[Tensor] = []
    if not isinstance(inputs, LazyInputs):
        map_inputs(inputs, lambda t: (whole.append(t) if _holds_whole_numbers(t) else None, t)[1])
    key = ("callable", shapes_of(few))
    limits, tried = [(int(t.min()), int(t.max())) for t in whole], f.known.get(key)
    parts = [few] if tried is None else []
    if tried is None or any(low < a or b < high for (low, high), (a, b) in zip(limits, tried, strict=True)):
        extremes = [row for t in whole for row in _extreme_rows(t)]
        parts += [take(inputs, torch.tensor(extremes, device=f.device))] if extremes else []
    first: Tensor | None = None
    reader = "" if reads_usually(f.readout) else " and read by the readout"
    for part in parts:
        with torch.no_grad():
            outputs = explained(f.model, lambda part=part: f(f.theta, part), part, reader=reader)
        if not reads_usually(f.readout) and outputs.shape[0] != n_samples(part):
            raise BadInput(
                f"the readout, called as {CALLED}, returned {outputs.shape[0]} rows for {n_samples(part)} samples: "
                f"{RETURNS}"
            )
        first = outputs if part is few else first
    if tried is None and first is not None:
        f.try_last_token(few, first)
        _spare_activations(f, few)
    before = limits if tried is None else tried
    f.known[key] = [(min(a, low), max(b, high)) for (a, b), (low, high) in zip(before, limits, strict=True)]
    return first


def _spare_activations(f: Functional, few: Any) -> None:
    """Before the first backward pass: `saved_bytes` turns recomputation on where a sample keeps too much."""
    # What fails here fails again in the pass that it is for, and is explained there.
    with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError), differentiable_recurrence(f):
        saved_bytes(f, few)


def require_batch_size(batch_size: int | None) -> None:
    """BadInput for a number of samples at a time that is less than 1."""
    if batch_size is not None and batch_size < 1:
        raise BadInput(f"batch_size={batch_size} must be at least 1")


def _holds_whole_numbers(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.int64, torch.int32) and tensor.numel() > 0


def _extreme_rows(tensor: Tensor) -> list[int]:
    """The samples with the smallest and the largest whole number."""
    each = tensor.numel() // len(tensor)
    return [int(tensor.argmin()) // each, int(tensor.argmax()) // each]


@dataclass(frozen=True, eq=False)
class _Alone:
    """A sample by itself: inputs, every parameter, chosen or not, and the outputs (1, C), differentiable in them."""

    inputs: Any
    every: dict[str, Tensor]
    outputs: Tensor

    @classmethod
    def of(cls, f: Functional, one: Any) -> _Alone:
        parameters = {name for name, _ in f.model.named_parameters()}
        every = {
            name: t.detach().requires_grad_()
            for name, t in {**f.fixed, **f.theta}.items()
            if name in parameters and (t.is_floating_point() or t.is_complex())
        }
        try:
            with torch.enable_grad():
                return cls(one, every, f(every, one))
        except (RuntimeError, ValueError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            _require_alone(f, one)
            raise


def _require_alone(f: Functional, one: Any) -> None:
    """BadInput where the model does not take a single sample, whether or not it is differentiated."""
    try:
        with torch.no_grad():
            f(f.theta, one)
    except (RuntimeError, ValueError, IndexError) as error:
        raise BadInput(f"the model refuses a single sample ({error}), {_NO_GRADIENT}") from error


def _check_independence(f: Functional, few: Any, together: Tensor | None, alone: Tensor, again: bool = True) -> None:
    with torch.no_grad():
        together = f(f.theta, few) if together is None else together
        if again and _apart(f, few, together, f(f.theta, few)):
            raise BadInput(_RANDOM)
        if alone.shape[0] != 1 or alone.shape[1] != together.shape[1] or _apart(f, few, together[:1], alone):
            raise BadInput(
                f"the model's output for a sample depends on the batch it is in (alone: shape {tuple(alone.shape)}, in "
                f"a batch: {tuple(together.shape)}), {_NO_GRADIENT}"
            )


def _apart(f: Functional, few: Any, one: Tensor, other: Tensor) -> bool:
    """Whether two outputs differ by more than rounding of what they are made of, which may be larger than they are."""
    if one.shape != other.shape:
        return True
    root = torch.finfo(f.precision).eps ** 0.5
    difference = (one - other).abs().max()
    if difference.isnan() or difference <= root * one.abs().max():
        return False
    # Outputs that cancel (a network minus its twin) say nothing of their parts, but what they change by with the
    # weights does. The change of the weights is larger than the tolerance, so noise does not pass for it.
    share = root**0.5
    moved = {name: w * (1 + share * standard_normal(w, "rounding", name)) for name, w in f.theta.items()}
    return not difference <= root / share * (f(moved, few) - f(f.theta, few)).abs().max()


def _check_gradient(f: Functional, alone: _Alone) -> None:
    """BadInput where no parameter at all, chosen or not, has a gradient: a kernel of zeros would say nothing of it."""
    outputs = alone.outputs
    if not outputs.requires_grad:
        raise BadInput(
            "the model's outputs have no gradient in any parameter: its forward pass runs under torch.no_grad(), "
            "detaches its outputs, or does not use its parameters"
        )
    f.known[CUSTOM] = _has_custom_functions(outputs)
    weights = standard_normal(outputs, "weights of outputs")
    chosen = {name: alone.every[name] for name in f.theta}
    try:
        gradient = plain_gradient((outputs * weights).sum(), chosen)
    except RuntimeError as error:
        if is_out_of_memory(error) or f.precision == f.native:
            raise
        f.narrow(error)
        again = _Alone.of(f, alone.inputs)
        chosen = {name: again.every[name] for name in f.theta}
        gradient = plain_gradient((again.outputs * weights).sum(), chosen)
    direction = random_direction(f)
    backward, size = sum_and_size(gradient, direction)

    def change(step: float) -> float:
        ahead, behind = (f(moved_along(f.theta, direction, s), alone.inputs) for s in (step, -step))
        return float(((ahead - behind) * weights).sum()) / (2 * step)

    with torch.no_grad():
        note_where_false(f, backward, size, float((weights * outputs).norm()), change)


def sum_and_size(ones: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> tuple[float, float]:
    """Sum of the products, and the root of the sum of their squares: its size where signs are random."""
    total, squares = 0.0, 0.0
    for name, one in ones.items():
        product = one * others[name]
        total, squares = total + float(product.sum()), squares + float(product.square().sum())
    return total, squares**0.5


def _has_custom_functions(outputs: Tensor) -> bool:
    """Whether autograd functions that are not torch's own are in the graph."""
    waiting: list[Any] = [outputs.grad_fn]
    seen = {outputs.grad_fn}
    while waiting:
        node = waiting.pop()
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        for source, _ in node.next_functions:
            if source is not None and source not in seen:
                seen.add(source)
                waiting.append(source)
    return False


def require_same(f: Functional, one: Tensor, other: Tensor) -> None:
    """BadInput where two passes of the same samples differ by far more than rounding: the model is random."""
    if (one - other).abs().max() > torch.finfo(f.precision).eps ** 0.25 * one.abs().max():
        raise BadInput(_RANDOM)


def note_where_false(
    f: Functional, backward: float, size: float, outputs: float, change: Callable[[float], float]
) -> None:
    """Note where backward passes do not give the derivative of the outputs, along one random direction.

    Args:
        backward: the derivative by a backward pass, with the `size` that it has for random signs. outputs: size of
            what `change(step)`, a central difference, subtracts.
    """
    if ("derivative",) in f.known:
        return
    f.known[("derivative",)] = True
    unit = torch.finfo(f.precision).eps
    off = []
    for step in (unit ** (1 / 3), unit ** (1 / 3) / 10):
        found = change(step)
        size = max(size, abs(found))
        if not abs(found - backward) > max(DIFFERENT, 100 * unit ** (2 / 3)) * size + 100 * unit / step * outputs:
            return
        off.append(found - backward)
    # What differs with the step is curvature, or the rounding of norms and attention that are computed in float32.
    if abs(off[0] - off[1]) > SAME * max(map(abs, off)):
        return
    share = min(map(abs, off)) / size
    f.note(
        f"backward passes differ from the derivative of the outputs, by {100 * share:.2g} % along one direction: "
        "a straight-through estimator, detach() or no_grad() in forward, or units exactly at a kink. Kernels and "
        "products follow the backward passes, as training does"
    )


def random_direction(f: Functional) -> dict[str, Tensor]:
    """Standard normal numbers, in the size of each parameter; 0 where training moves nothing by design.

    The padding token of embeddings acts as any other, but backward passes leave it out, as they do the signs of
    Householder reflections.
    """
    values = list(f.theta.values())
    counts = torch.tensor([w.numel() for w in values], dtype=f.dtype)
    sizes = torch.stack([w.norm() for w in values]).cpu() / counts.clamp_min(1).sqrt()
    pieces = _drawn(f).split([w.numel() for w in values])
    # Numbers that nobody else reads are as many as the network has: their memory serves.
    times = torch.mul if f.n_parameters <= KEPT else torch.Tensor.mul_
    direction = {
        name: times(piece.view_as(w), size or 1.0)
        for (name, w), piece, size in zip(f.theta.items(), pieces, sizes.tolist(), strict=True)
    }
    if of_known_modules(f):
        return direction
    sources = dict(f.uses)
    for path, module in f.model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
            name = sources.get(f"{path}.weight" if path else "weight")
            if name in direction:
                direction[name][module.padding_idx] = 0.0
    for path in constant_diagonals(f.model):
        if (name := sources.get(path)) in direction:
            direction[name].diagonal(dim1=-2, dim2=-1).zero_()
    return direction


def _drawn(f: Functional) -> Tensor:
    """Standard normal numbers, one for each parameter; small networks share those of their size."""
    n = f.n_parameters
    return (_kept_draws(n, f.dtype) if n <= KEPT else _draws(n, f.dtype)).to(f.device)


def _draws(n: int, dtype: torch.dtype) -> Tensor:
    numbers = torch.randn(min(n, DRAWN), generator=stream(0, "direction"), dtype=dtype)
    return numbers if n <= DRAWN else numbers.repeat(-(-n // DRAWN))[:n]


_kept_draws = lru_cache(maxsize=8)(_draws)


def standard_normal(like: Tensor, *names: str) -> Tensor:
    """Standard normal numbers in the shape and on the device of a tensor, the same for the same names."""
    drawn = torch.randn(like.shape, generator=stream(0, "guard", *names), dtype=like.dtype)
    return drawn.to(like.device)
