"""Rows of the Jacobian of a network's outputs with respect to its parameters, one sample at a time.

Row i * k + c is the gradient of (projected) output c of sample i, flattened over theta in the order of
`Functional.theta`. Vectorised where torch.func can: small ones over samples, with a plain backward pass for each
output, others over samples and outputs (vmap of a vector-Jacobian product). Where it cannot (recurrent kernels,
data-dependent control flow, custom autograd functions), a loop of plain backward passes gives the same numbers.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.memory import (
    block_bytes,
    free_bytes,
    in_gigabytes,
    is_out_of_memory,
    require_memory,
    with_smaller_chunks,
)
from geomfeat.models.forward_passes.recomputed_blocks import recomputed_blocks
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, map_inputs, n_samples, take
from geomfeat.numerics import stream
from geomfeat.tangent.jacobians._memory_budget import BUDGET, saved_bytes
from geomfeat.tangent.jacobians.derivative_checks import CUSTOM, examined
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient

logger = logging.getLogger(__name__)
# A vectorised call writes this much on a CPU: measured 1.5-3 times faster than calls of 256 MB or more, whose fresh
# pages cost more than the arithmetic.
CPU_CALL = 2**25
# Entries of rows, and outputs, up to which each sample gets its own copy of the parameters. Larger calls take half as
# long by torch.func, whose gradients load torch's compiler first: a second, longer than a small network's location.
OWN_COPIES, MOST_PASSES, _OWN = 2**20, 10, "own copies"
COMPARED = 2  # samples whose vectorised gradients are compared with a plain backward pass


@dataclass(frozen=True, eq=False)
class Identity:
    """The (size, size) identity, of which only the columns that are asked for are made."""

    size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def shape(self) -> tuple[int, int]:
        """As of the matrix."""
        return self.size, self.size

    def __getitem__(self, place: tuple[slice, int | slice | list[int]]) -> Tensor:
        """[:, columns]."""
        rows = torch.arange(self.size, device=self.device)
        columns = rows[place[1]]
        return (rows.view(-1, *[1] * columns.ndim) == columns).to(self.dtype)


# Which outputs, or sums of outputs, are differentiated: (C, k).
Columns = Tensor | Identity


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

    Raises BadInput without samples, when an output is random or depends on the other samples of its batch, so that it
    has no gradient, and when no output has a gradient at all.
    """

    def __init__(self, f: Functional, inputs: Any, budget: int = BUDGET):
        self.f, self.budget = f, block_bytes(budget, f.device)
        self.slices = parameter_slices(f)
        inputs = f.inputs(inputs)
        self.n_outputs = examined(f, inputs)
        with differentiable_recurrence(f):
            self.saved, self.largest = saved_bytes(f, inputs)
        self.row_bytes = f.n_parameters * f.dtype.itemsize
        # Torch's own operations are trusted to be batched rightly.
        self.compared = not f.known[CUSTOM]

    @property
    def vectorised(self) -> bool:
        """Whether torch.func can batch the network's gradients, as far as is known."""
        return self.f.known.get("vectorised", True) and not recomputed_blocks(self.f.model)

    def __call__(self, inputs: Any, projection: Columns | None = None) -> Float[Tensor, "n_k p"]:
        """Rows of all samples of `inputs` (already on the device) for the outputs `projection`' f.

        `projection`: (C, k), or (n, C, k) for outputs of each sample's own.
        """
        columns = self.projection(projection)
        n, k = n_samples(inputs), columns.shape[-1]
        if n * k * self.row_bytes > block_bytes(BUDGET, self.f.device):
            what = f"Jacobian rows of {n} samples x {k} outputs x {self.f.n_parameters} parameters"
            require_memory(n * k * self.row_bytes, what, "take fewer samples or outputs at once", self.f.device)
        out = torch.empty(n, k, self.f.n_parameters, dtype=self.f.dtype, device=self.f.device)
        limit = self.budget // 4 if self.f.device.type == "cuda" else min(self.budget, CPU_CALL)
        per_row = self.row_bytes + 3 * self.largest + self.n_outputs * self.f.dtype.itemsize
        width = max(1, min(k, (limit - self.saved) // per_row)) if self.vectorised else k
        with differentiable_recurrence(self.f):
            for start in range(0, k, width):
                some = slice(start, min(k, start + width))
                chosen = columns[..., some] if isinstance(columns, Tensor) else columns[:, some]
                for rows, part in batches(inputs, limit // (self.saved + chosen.shape[-1] * per_row)):
                    self._fill(out[rows, some], part, chosen[rows] if chosen.ndim == 3 else chosen)
        return out.view(n * k, -1)

    def projection(self, projection: Columns | None) -> Columns:
        """The projection as a (C, k) matrix of the right type; the identity for None."""
        c = self.n_outputs
        if projection is None:
            return Identity(c, self.f.dtype, self.f.device)
        if len(projection.shape) not in (2, 3) or projection.shape[-2] != c or projection.shape[-1] == 0:
            raise BadInput(
                f"the output projection must be ({c}, k) for a network of {c} outputs, got {tuple(projection.shape)}"
            )
        return projection.to(self.f.device, self.f.dtype) if isinstance(projection, Tensor) else projection

    def _fill(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        if self.vectorised:
            try:
                if self._with_own_copies(out, inputs, columns):
                    return None
                self._by_samples(out, inputs, columns)
                agrees = self.compared or self._as_backward(out, inputs, columns)
                self.compared = True
                if agrees:
                    return None
                reason = "it gives other numbers than a backward pass"
            # Whatever torch.func cannot do, the loop below may; an error of the model itself is raised there again.
            except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
                if is_out_of_memory(error):
                    raise
                reason = str(error)
            logger.info("per-sample gradients one at a time: torch.func cannot vectorise this model (%s)", reason)
            self.f.known["vectorised"] = False
        return self._loop(out, inputs, columns)

    def _as_backward(self, out: Tensor, inputs: Any, columns: Tensor) -> bool:
        """Whether a weighted sum of rows is what one backward pass gives, for the first rows."""
        few = slice(0, min(COMPARED, out.shape[0]))
        weights = torch.randn(out[few].shape[:2], generator=stream(0, "jacobian rows"), dtype=out.dtype).to(out.device)
        theta = {name: value.detach().requires_grad_() for name, value in self.f.theta.items()}
        with torch.enable_grad():
            outputs = self.f(theta, take(inputs, few))
            value = (_combined(outputs, columns if columns.ndim == 2 else columns[few]) * weights).sum()
        summed = weights.flatten() @ out[few].reshape(weights.numel(), -1)
        near = torch.finfo(self.f.precision).eps ** 0.5
        return all(
            bool((summed[self.slices[name]] - plain.flatten()).abs().max() <= near * plain.abs().max())
            or not bool(torch.isfinite(plain).all())
            for name, plain in plain_gradient(value, theta).items()
        )

    def _with_own_copies(self, out: Tensor, inputs: Any, columns: Tensor) -> bool:
        """Whether a small call could be computed in copies of the parameters, one for each sample.

        Not for networks with embeddings: torch's lookup in a table for each sample forgets which entry is padding.
        """
        known = self.f.known
        if out.shape[1] > MOST_PASSES or out.numel() > OWN_COPIES or not known.get(_OWN, True):
            return False
        if _OWN not in known and _looks_up(self.f.model, inputs):
            known[_OWN] = False
            return False
        try:
            self._by_own_copies(out, inputs, columns)
            if _OWN not in known:
                known[_OWN] = self._as_backward(out, inputs, columns)
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            known[_OWN] = False
        return known[_OWN]

    def _by_samples(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        """Gradients of single samples, for all samples at once."""
        leaves = _leaves(inputs)

        def rows(combined: Tensor, *sample: Tensor) -> dict[str, Tensor]:
            one = _one_sample(inputs, sample)
            pull = torch.func.vjp(lambda theta: self.f(theta, one)[0], self.f.theta)[1]
            return torch.func.vmap(pull)(combined.T)[0]

        chosen = None if columns.ndim == 2 else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that it loops over operations without a batching rule
            gradients = torch.func.vmap(rows, in_dims=(chosen, *(0,) * len(leaves)))(columns, *leaves)
        for name, value in gradients.items():
            out[:, :, self.slices[name]] = value.reshape(*out.shape[:2], -1)

    def _by_own_copies(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        """For each output one backward pass of its sum over samples, to the copies of each sample's own."""
        n, k, _ = out.shape
        theta = {name: t.detach().expand(n, *t.shape).requires_grad_() for name, t in self.f.theta.items()}

        def outputs(theta: dict[str, Tensor], *sample: Tensor) -> Tensor:
            return self.f(theta, _one_sample(inputs, sample))[0]

        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `_by_samples`
            summed = _combined(torch.func.vmap(outputs)(theta, *_leaves(inputs)), columns).sum(0)
        for c in range(k):
            for name, value in plain_gradient(summed[c], theta, retain_graph=c + 1 < k).items():
                out[:, c, self.slices[name]] = value.reshape(n, -1)

    def _loop(self, out: Tensor, inputs: Any, columns: Tensor) -> None:
        theta = {name: value.detach().requires_grad_() for name, value in self.f.theta.items()}
        k = columns.shape[-1]
        for rows, one in batches(inputs, 1):
            with torch.enable_grad():
                outputs = _combined(self.f(theta, one), columns if columns.ndim == 2 else columns[rows])[0]
            for c in range(k):
                grads = plain_gradient(outputs[c], theta, retain_graph=c + 1 < k)
                for name, value in grads.items():
                    out[rows.start, c, self.slices[name]] = value.reshape(-1)


def _looks_up(model: nn.Module, inputs: Any) -> bool:
    tables = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
    return tables or not all(leaf.is_floating_point() for leaf in _leaves(inputs))


def _leaves(inputs: Any) -> list[Tensor]:
    leaves: list[Tensor] = []
    map_inputs(inputs, lambda t: leaves.append(t) or t)
    return leaves


def _one_sample(inputs: Any, leaves: Sequence[Tensor]) -> Any:
    """Inputs of a single sample in the form of `inputs`."""
    queue = iter(leaves)
    return map_inputs(inputs, lambda _: next(queue).unsqueeze(0))


def _combined(outputs: Tensor, columns: Tensor) -> Tensor:
    """(n, k) sums of outputs (n, C)."""
    return outputs @ columns if columns.ndim == 2 else torch.einsum("nc,nck->nk", outputs, columns)


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
    for rows, part in batches(inputs, chunk or max(1, block_bytes(BUDGET, f.device) // (k * engine.row_bytes))):
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
    size = n * k * engine.row_bytes
    what = f"the Jacobian of {n} samples x {k} outputs x {f.n_parameters} parameters"
    if size > max_bytes:
        raise OutOfMemory(
            f"{what} takes {in_gigabytes(size)}, more than max_bytes={max_bytes}: use at most "
            f"{max_bytes // (k * engine.row_bytes)} samples, project the outputs, or go through jacobian_rows()"
        )
    remedy = "use fewer samples, project the outputs, or go through jacobian_rows()"
    require_memory(size, what, remedy, f.device)

    def attempt(budget: int) -> Tensor:
        engine.budget = budget
        return engine(inputs, projection)

    def too_large() -> str:
        free = in_gigabytes(free_bytes(f.device))
        return f"{what} takes {in_gigabytes(size)} and its activations more, and {free} are free: {remedy}"

    return with_smaller_chunks(attempt, block_bytes(BUDGET, f.device), engine.saved + engine.row_bytes, too_large)
