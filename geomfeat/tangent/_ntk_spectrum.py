"""The leading eigenvalues of the full tangent kernel, from products v -> J (J' v) alone.

Implicitly restarted Lanczos (ARPACK) needs only products with the kernel, each of which is a backward and a forward
pass over the samples. From one starting vector it finds the copies of a multiple eigenvalue through rounding errors,
and sometimes misses some (kernels of linear models have every eigenvalue C times), so what was found is taken out
of the kernel and the largest eigenvalue of the rest is looked at too.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.memory import block_bytes, free_bytes, with_smaller_chunks
from geomfeat.models.functional import Functional, Readout
from geomfeat.models.nested_inputs import n_samples
from geomfeat.models.readouts.prefixes import sampled
from geomfeat.numerics import WORKING, numpy_stream, require_finite
from geomfeat.tangent._ntk import Params, as_functional
from geomfeat.tangent.jacobians._memory_budget import BUDGET
from geomfeat.tangent.jacobians.derivative_checks import require_batch_size
from geomfeat.tangent.jacobians.products import jvp, vjp, way_of_outputs
from geomfeat.tangent.jacobians.rows import JacobianRows

Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class NTKSpectrum(PlottableResult):
    """Leading eigenpairs of the full tangent kernel (n C, n C), sample-major, in float64.

    Attributes:
        eigenvalues: (k,) descending; NaN for those that did not converge. eigenvectors: (n C, k), orthonormal.
        residuals: (k,) norms |K v - eigenvalue v|: an eigenvalue of K lies no further away (Parlett 1998, th. 4.5.1).
        note: what to do about eigenvalues that did not converge; empty where all did.

    `to_frame()`: one row for each eigenvalue: eigenvalues, residuals, note.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    note: str = ""

    _rows = ("eigenvalues", "residuals")

    def _chart(self) -> Plot:
        ranks = range(1, len(self.eigenvalues) + 1)
        return line_chart(
            "spectrum of the tangent kernel", "rank", "eigenvalue", ranks, self.eigenvalues, log_x=True, log_y=True
        )


def ntk_spectrum(
    model: nn.Module | Functional,
    x: Any,
    k: int,
    *,
    params: Params = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    readout: Readout | str | None = None,
    dtype: torch.dtype | None = None,
) -> NTKSpectrum:
    """The k largest eigenvalues of the full tangent kernel of `x`, of which neither it nor the Jacobian is formed.

    Memory is that of the parameters, of one batch of activations, and of 2 k + 1 (at least 20) vectors of n C entries.
    The kernel is that of `ntk(model, x, outputs="full")` (Jacot, Gabriel and Hongler 2018, eq. 7).

    Args:
        k: how many, from 1 to n C - 1. seed: of the random starting vectors.
        params, device, readout, dtype: as in `ntk`.
        batch_size: samples per pass; default what fits in 1 GB of activations.

    Raises BadInput for k out of range and for samples that interact within a batch, OutOfMemory when one sample's
    passes do not fit.

    >>> x = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    >>> [round(float(value), 6) for value in ntk_spectrum(torch.nn.Linear(2, 1, bias=False), x, 2).eigenvalues]
    [9.0, 5.0]
    """
    require_batch_size(batch_size)
    readout, x, _ = sampled(model, readout, x)
    f = as_functional(model, params, device, readout, dtype)
    x = f.inputs(x)
    engine = JacobianRows(f, x)
    n, c = n_samples(x), engine.n_outputs
    _check_count(k, n, c)
    accuracy = float(torch.finfo(f.precision).eps)
    if way_of_outputs(f, x) == "differences":
        # A central difference is right to eps^(2/3) at best: its error of order h^2 meets rounding of order eps / h.
        accuracy **= 2 / 3
    one_sample = 2 * max(1, engine.saved)  # activations, and their tangents or gradients

    def attempt(budget: int) -> NTKSpectrum:
        size = max(1, budget // one_sample)

        def product(v: np.ndarray) -> np.ndarray:
            pulled = vjp(f, x, torch.from_numpy(v).view(n, c), batch_size=size)
            return jvp(f, x, pulled, batch_size=size).to("cpu", WORKING).flatten().numpy()

        values, vectors, note = _leading(product, n * c, k, seed, accuracy)
        residuals = np.array(
            [np.linalg.norm(product(v) - a * v) for a, v in zip(values, vectors.T.copy(), strict=True)]
        )
        return NTKSpectrum(_padded(values, k), _padded(vectors, k), _padded(residuals, k), note)

    def remedy() -> str:
        return (
            f"products with the tangent kernel do not fit, also one sample at a time: its activations take "
            f"{one_sample / 1e9:.2g} GB, the parameters {engine.row_bytes / 1e9:.2g} GB, {k} vectors "
            f"{8 * n * c * max(20, 2 * k + 1) / 1e9:.2g} GB, and {free_bytes(f.device) / 1e9:.2g} GB are free: "
            "restrict params=, or ask for fewer eigenvalues"
        )

    budget = block_bytes(BUDGET, f.device) if batch_size is None else max(1, batch_size) * one_sample
    return with_smaller_chunks(attempt, budget, one_sample, remedy)


def _check_count(k: int, n: int, c: int) -> None:
    if not 1 <= k < n * c:
        raise BadInput(
            f"k must be from 1 to {n * c - 1} for {n} samples x {c} outputs, got {k}: for all eigenvalues take "
            "torch.linalg.eigvalsh(ntk(model, x, outputs='full').gram)"
        )


def _leading(product: Product, size: int, k: int, seed: int, eps: float) -> tuple[np.ndarray, np.ndarray, str]:
    """Eigenvalues and eigenvectors (size, k), fewer where not all converged, and a note."""
    # Three products from a random vector: a lower bound of the largest eigenvalue, near enough to serve as the scale.
    v = numpy_stream(seed, "ntk spectrum", "scale").standard_normal(size)
    scale = 0.0
    for _ in range(3):
        v = product(v / (np.linalg.norm(v) or 1.0))
        scale = float(np.linalg.norm(require_finite(torch.from_numpy(v), "the tangent kernel's product with a vector")))
    scale = scale or 1.0  # only a kernel of zeros has none
    values, vectors, converged = _lanczos(product, size, k, (seed, "leading"), eps, scale)
    missed = 0
    # From one starting vector Lanczos finds one eigenvector of a multiple eigenvalue: look for more in what is
    # orthogonal to those found, until there is none as large as the last of them.
    while converged:
        found = vectors

        def rest(v: np.ndarray, found: np.ndarray = found) -> np.ndarray:
            v = product(v - found @ (found.T @ v))
            return v - found @ (found.T @ v)

        value, vector, converged = _lanczos(rest, size, 1, (seed, "rest", missed), eps, scale)
        # Below this, eigenvalues are rounding of the products, as in `numerics.tolerance`.
        if not converged or value[0] <= values[-1] + 1e4 * eps * scale:
            break
        missed += 1
        # All but the smallest, in descending order.
        keep = np.argsort(np.append(values, value))[:0:-1]
        values, vectors = np.append(values, value)[keep], np.hstack([vectors, vector])[:, keep]
    note = "" if converged else "not all eigenvalues converged, so leading ones may be missing: ask for more or fewer"
    return values, vectors, note


def _lanczos(
    product: Product, size: int, k: int, names: tuple[Any, ...], eps: float, scale: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Eigenvalues, descending, and eigenvectors that converged, and whether all k did."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    random = numpy_stream(names[0], "ntk spectrum", *names[1:])
    options: dict[str, Any] = {"which": "LA", "v0": random.standard_normal(size), "tol": eps}

    # Shifted from [0, scale] to about [1, 2]: ARPACK's accuracy is relative to each eigenvalue, which fails at zero.
    def shifted(v: np.ndarray) -> np.ndarray:
        return product(v.reshape(-1)) / scale + v.reshape(-1)

    moved = LinearOperator((size, size), matvec=shifted, dtype=float)  # pyright: ignore[reportCallIssue]
    # Versions of scipy that draw new directions themselves let their caller say from what.
    if "rng" in inspect.signature(eigsh).parameters:
        options["rng"] = random
    try:
        values, vectors = eigsh(moved, k, **options)
        converged = True
    except ArpackNoConvergence as partial:
        values, vectors, converged = partial.eigenvalues, partial.eigenvectors, False
    order = np.argsort(values)[::-1]
    return (values[order] - 1) * scale, vectors[:, order], converged


def _padded(a: np.ndarray, k: int) -> Tensor:
    """With NaN along the last axis, for what did not converge."""
    return torch.from_numpy(np.concatenate([a, np.full((*a.shape[:-1], k - a.shape[-1]), np.nan)], -1))
