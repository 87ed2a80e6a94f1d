"""Rows of the Jacobian of a network's outputs with respect to its parameters, one sample at a time.

Row i * k + c is the gradient of (projected) output c of sample i, flattened over theta in the order of
`Functional.theta`. Vectorised over samples and outputs where torch.func can (vmap of a vector-Jacobian product);
where it cannot (recurrent kernels, data-dependent control flow, custom autograd functions), a loop of plain
backward passes gives the same numbers.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.kernels._memory import BUDGET, saved_bytes
from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional, batches, map_inputs, n_samples, take

logger = logging.getLogger(__name__)
# A vectorised call writes this much on a CPU: measured 1.5-3 times faster than calls of 256 MB or more, whose fresh
# pages cost more than the arithmetic.
CPU_CALL = 2**25
_NO_GRADIENT = (
    "so its outputs have no gradient sample by sample: give batch normalisation running statistics, and squeeze() "
    "dimensions by number, not all of size one"
)


def differentiable_recurrence(f: Functional) -> AbstractContextManager[Any]:
    """cuDNN's recurrent kernels refuse a backward pass in evaluation mode: leave them out where there are any."""
    recurrent = f.device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m in f.model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


def parameter_slices(f: Functional) -> dict[str, slice]:
    """Columns of the Jacobian that belong to each parameter.

    >>> from geomfeat.models.functional import functional
    >>> parameter_slices(functional(torch.nn.Linear(3, 2)))
    {'weight': slice(0, 6, None), 'bias': slice(6, 8, None)}
    """
    out, start = {}, 0
    for name, value in f.theta.items():
        out[name] = slice(start, start + value.numel())
        start += value.numel()
    return out


def n_outputs(f: Functional, inputs: Any) -> int:
    """Number C of outputs per sample."""
    with torch.no_grad():
        return f(f.theta, take(f.inputs(inputs), slice(0, 1))).shape[1]


class JacobianRows:
    """Computes Jacobian rows of one network; remembers how (vectorised or not) and how large its activations are.

    Args:
        f: the network. inputs: the probes it will be asked about (to measure sizes and to check that samples do not
            interact). budget: bytes for the rows and activations of one vectorised call.

    Raises BadInput without samples, when an output depends on the other samples of its batch, so that it has no
    gradient of its own, and when no output has a gradient at all.
    """

    def __init__(self, f: Functional, inputs: Any, budget: int = BUDGET):
        self.f, self.budget, self.vectorised = f, budget, True
        self.slices = parameter_slices(f)
        inputs = f.inputs(inputs)
        n_samples(inputs)
        self.n_outputs = _check_independence(f, inputs)
        _check_gradient(f, inputs)
        with differentiable_recurrence(f):
            self.saved, self.largest = saved_bytes(f, inputs)
        self.row_bytes = f.n_parameters * f.dtype.itemsize

    def __call__(self, inputs: Any, projection: Float[Tensor, "C k"] | None = None) -> Float[Tensor, "n_k p"]:
        """Rows of all samples of `inputs` (already on the device) for the outputs `projection`' f."""
        columns = self.projection(projection)
        n, k = n_samples(inputs), columns.shape[1]
        out = torch.empty(n * k, self.f.n_parameters, dtype=self.f.dtype, device=self.f.device)
        per_sample = self.saved + k * (self.row_bytes + 3 * self.largest)
        limit = self.budget // 4 if self.f.device.type == "cuda" else min(self.budget, CPU_CALL)
        with differentiable_recurrence(self.f):
            for rows, part in batches(inputs, limit // per_sample):
                self._fill(out[rows.start * k : rows.stop * k], part, columns)
        return out

    def projection(self, projection: Tensor | None) -> Float[Tensor, "C k"]:
        """The projection as a (C, k) matrix of the right type; the identity for None."""
        c = self.n_outputs
        if projection is None:
            return torch.eye(c, dtype=self.f.dtype, device=self.f.device)
        if projection.ndim != 2 or projection.shape[0] != c or projection.shape[1] == 0:
            raise BadInput(
                f"the output projection must be ({c}, k) for a network of {c} outputs, got {tuple(projection.shape)}"
            )
        return projection.to(self.f.device, self.f.dtype)

    def _fill(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        if self.vectorised:
            try:
                return self._vectorised(out, inputs, columns)
            # Whatever torch.func cannot do, the loop below may; an error of the model itself is raised there again.
            except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
                if is_out_of_memory(error):
                    raise
                logger.info("per-sample gradients one at a time: torch.func cannot vectorise this model (%s)", error)
                self.vectorised = False
        return self._loop(out, inputs, columns)

    def _vectorised(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        leaves: list[Tensor] = []
        map_inputs(inputs, lambda t: leaves.append(t) or t)

        def rows(*sample: Tensor) -> dict[str, Tensor]:
            queue = iter(sample)
            one = map_inputs(inputs, lambda _: next(queue).unsqueeze(0))
            pull = torch.func.vjp(lambda theta: self.f(theta, one)[0], self.f.theta)[1]
            return torch.func.vmap(pull)(columns.T)[0]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch loops over operations without a batching rule
            gradients = torch.func.vmap(rows)(*leaves)
        for name, value in gradients.items():
            out[:, self.slices[name]] = value.reshape(out.shape[0], -1)

    def _loop(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        theta = {name: value.detach().requires_grad_() for name, value in self.f.theta.items()}
        k = columns.shape[1]
        for rows, one in batches(inputs, 1):
            with torch.enable_grad():
                outputs = self.f(theta, one)[0] @ columns
            for c in range(k):
                grads = plain_gradient(outputs[c], theta, retain_graph=c + 1 < k)
                for name, value in grads.items():
                    out[rows.start * k + c, self.slices[name]] = value.reshape(-1)


def plain_gradient(value: Tensor, theta: Mapping[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """Gradient of a scalar by a backward pass; zero for parameters that it does not depend on."""
    if not value.requires_grad:
        return {name: torch.zeros_like(t) for name, t in theta.items()}
    grads = torch.autograd.grad(value, list(theta.values()), allow_unused=True, **options)
    return {name: torch.zeros_like(t) if g is None else g for (name, t), g in zip(theta.items(), grads, strict=True)}


def _check_independence(f: Functional, inputs: Any) -> int:
    """Number of outputs; BadInput when a sample alone and in company give different ones."""
    with torch.no_grad():
        together = f(f.theta, take(inputs, slice(0, 2)))
        try:
            alone = f(f.theta, take(inputs, slice(0, 1)))
        except (RuntimeError, ValueError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            raise BadInput(f"the model refuses a single sample ({error}), {_NO_GRADIENT}") from error
    near = torch.finfo(f.dtype).eps ** 0.5 * max(float(together.abs().max()), torch.finfo(f.dtype).tiny)
    if alone.shape[0] != 1 or alone.shape[1] != together.shape[1] or (alone[0] - together[0]).abs().max() > near:
        raise BadInput(
            f"the model's output for a sample depends on the batch it is in (alone: shape {tuple(alone.shape)}, in a "
            f"batch: {tuple(together.shape)}), {_NO_GRADIENT}"
        )
    return alone.shape[1]


def _check_gradient(f: Functional, inputs: Any) -> None:
    """BadInput where no parameter at all, chosen or not, has a gradient: a kernel of zeros would say nothing of it."""
    parameters = {name for name, _ in f.model.named_parameters()}
    every = {n: t.detach().requires_grad_() for n, t in {**f.fixed, **f.theta}.items() if n in parameters}
    with torch.enable_grad():
        outputs = f(every, take(inputs, slice(0, 1)))
    if not outputs.requires_grad:
        raise BadInput(
            "the model's outputs have no gradient in any parameter: its forward pass runs under torch.no_grad(), "
            "detaches its outputs, or does not use its parameters"
        )


def jacobian_rows(
    f: Functional, inputs: Any, *, chunk: int | None = None, projection: Float[Tensor, "C k"] | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Jacobian rows, `chunk` samples at a time: pairs (rows of the inputs, (b k, p) tensor).

    Args:
        chunk: samples per block; default what fits in 1 GB.
        projection: differentiate projection' f, (C, k), instead of all C outputs.

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Linear(3, 2))
    >>> [tuple(block.shape) for _, block in jacobian_rows(f, torch.ones(5, 3), chunk=3)]
    [(6, 8), (4, 8)]
    """
    inputs = f.inputs(inputs)
    engine = JacobianRows(f, inputs)
    k = engine.projection(projection).shape[1]
    for rows, part in batches(inputs, chunk or BUDGET // (k * engine.row_bytes)):
        yield rows, engine(part, projection)


def jacobian(
    f: Functional, inputs: Any, *, projection: Float[Tensor, "C k"] | None = None, max_bytes: int = 4 * BUDGET
) -> Float[Tensor, "n_k p"]:
    """The whole Jacobian (n k, p) of projection' f, sample-major: row i * k + c is output c of sample i.

    Raises OutOfMemory when it would take more than `max_bytes` (default 4 GB), BadInput when samples interact.

    >>> from geomfeat.models.functional import functional
    >>> f = functional(torch.nn.Linear(3, 1, bias=False))
    >>> jacobian(f, torch.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    inputs = f.inputs(inputs)
    engine = JacobianRows(f, inputs)
    n, k = n_samples(inputs), engine.projection(projection).shape[1]
    if n * k * engine.row_bytes > max_bytes:
        raise OutOfMemory(
            f"the Jacobian of {n} samples x {k} outputs x {f.n_parameters} parameters takes "
            f"{n * k * engine.row_bytes / 1e9:.1f} GB, more than max_bytes={max_bytes}: use at most "
            f"{max_bytes // (k * engine.row_bytes)} samples, project the outputs, or go through jacobian_rows()"
        )
    return engine(inputs, projection)
