"""One numerical policy: precision, tolerances, random streams, centring, safe decompositions.

Spectra, cones and kernels are computed in float64 (`WORKING`) unless a function says otherwise. Library and tests
share `tolerance`, so that no test invents a threshold.
"""

from __future__ import annotations

import decimal
import hashlib
import logging
import numbers
import operator
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.autograd import forward_ad

from geomfeat.errors import BadInput

logger = logging.getLogger(__name__)
WORKING = torch.float64
Device = str | torch.device
# Kinds of devices without float64 (mps), or often without (xpu): only forward passes run there.
IN_FLOAT32 = ("mps", "xpu")
ONLY_FORWARD = (
    "On {} only forward passes run, in float32: leave the model there and call extract without device=. Derivatives, "
    "kernels and spectra need float64; they are computed on the CPU, where a model that lies on {} is copied"
)
# torch holds these, but cannot add them or take their largest.
_STORED_ONLY = (torch.uint16, torch.uint32, torch.uint64)


def tolerance(dtype: torch.dtype = WORKING, scale: float = 1.0) -> dict[str, float]:
    """Relative and absolute tolerance for comparing two computations of one number.

    `scale` is the size of the largest intermediate relative to the result (its condition number): cancellation costs
    that many digits. Fits `torch.testing.assert_close(a, b, **tolerance(dtype))`.

    >>> tolerance(torch.float64)["rtol"] < 1e-10 < tolerance(torch.float32)["rtol"]
    True
    """
    unit = torch.finfo(dtype).eps
    return {"rtol": 1e4 * unit * scale, "atol": 1e4 * unit * scale}


def stream(seed: int, *names: object) -> torch.Generator:
    """A CPU random generator for one purpose, which its name says: `stream(seed, "capacity", layer)`.

    The state depends on the seed and the names alone, so a result never depends on order, subset, batch size or
    device. Draw on the CPU, then move. BadInput for a seed that is not a whole number of at most 64 bits.
    """
    text = "\x1f".join([str(whole_seed(seed)), *map(str, names)])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def whole_seed(seed: int) -> int:
    """A seed as a Python int; BadInput for one that is not whole or too large for a table (64 bits with sign).

    >>> whole_seed(7)
    7
    """
    try:
        found = operator.index(seed)
    except TypeError as cause:
        raise BadInput(f"seed must be a whole number, got {seed!r}") from cause
    if not -(2**63) <= found < 2**63:
        raise BadInput(f"seed={found} is too large: use a whole number from -2**63 to 2**63 - 1")
    return found


def numpy_stream(seed: int, *names: object) -> np.random.Generator:
    """The numpy twin of `stream`, for libraries that take a numpy generator."""
    return np.random.default_rng(stream(seed, *names).initial_seed())


def as_tensor(x: object, name: str = "x", dtype: torch.dtype | None = None) -> Tensor:
    """A detached tensor from a tensor, array, table or nested sequence; precisions below 32 bits become float32.

    Shares memory with a writable array. Raises BadInput for what is not numeric, is complex or sparse, for masked or
    missing entries (a mask is never dropped), and for whole numbers that lose digits in a floating-point `dtype`.

    >>> as_tensor([[1, 2], [3, 4]]).shape
    torch.Size([2, 2])
    """
    out = _dense(x, name) if isinstance(x, Tensor) else _from_array(x, name)
    if out.is_complex():
        raise BadInput(f"{name} must be real, got {out.dtype}: give real and imaginary parts as separate features")
    if out.dtype in _STORED_ONLY:
        out = _signed(out)
    if dtype is not None:
        return (in_floats(out, name) if dtype.is_floating_point else out).to(dtype)
    return out.float() if out.is_floating_point() and torch.finfo(out.dtype).bits < 32 else out


def in_floats(x: Tensor, name: str) -> Tensor:
    """Whole numbers as float64, other numbers as they are; BadInput where float64 cannot hold a whole number.

    >>> in_floats(torch.tensor([3]), "x")
    tensor([3.], dtype=torch.float64)
    """
    if x.is_floating_point():
        return x
    out = x.to(WORKING)
    if x.dtype == torch.int64 and bool((out.long() != x).any()):
        raise BadInput(
            f"{name} holds whole numbers above 2**53, whose last digits float64 cannot hold: subtract a constant first"
        )
    return out


def refuse_masked(
    x: object, name: str, remedy: str = "leave those samples or units out, or fill them (x.filled)"
) -> None:
    """BadInput that counts the masked entries of a numpy masked array, also inside of lists; nothing where none is."""
    if isinstance(x, np.ma.MaskedArray):
        masked = int(np.ma.count_masked(x))
        if masked:
            raise BadInput(f"{name} has {masked} masked of {x.size} entries: {remedy}")
    elif isinstance(x, list | tuple):
        alone = sum(entry is np.ma.masked for entry in x)
        if alone:
            raise BadInput(f"{name} has {alone} masked of {len(x)} entries: {remedy}")
        for entry in x:
            if isinstance(entry, np.ma.MaskedArray | list | tuple):
                refuse_masked(entry, name, remedy)


def refuse_sparse(x: object, name: str) -> None:
    """BadInput for a scipy matrix that numpy would take for a single object."""
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise BadInput(f"{name} is a sparse matrix ({type(x).__name__}): give the dense one, x.toarray()")


def _dense(x: Tensor, name: str) -> Tensor:
    if x.is_nested or x.layout != torch.strided or x.is_quantized:
        how = "torch.nested.to_padded_tensor" if x.is_nested else "x.dequantize()" if x.is_quantized else "x.to_dense()"
        kind = "nested" if x.is_nested else "quantised" if x.is_quantized else "sparse"
        raise BadInput(f"{name} is a {kind} tensor: give a dense one, see {how}")
    if x.is_meta:
        raise BadInput(f"{name} is a tensor of shape {tuple(x.shape)} on the meta device, without values: load them")
    return x.detach()


def _from_array(x: Any, name: str) -> Tensor:
    refuse_masked(x, name)
    refuse_sparse(x, name)
    try:
        if isinstance(x, list | tuple) and x and all(isinstance(entry, Tensor) for entry in x):
            return torch.stack([as_tensor(entry, name) for entry in x])
        array = np.asarray(x)
        return torch.as_tensor(_shareable(_numbers(array, name) if array.dtype.kind == "O" and array.ndim else array))
    except BadInput:
        raise
    except (TypeError, ValueError, RuntimeError) as cause:
        raise BadInput(f"{name} must be a numeric array or tensor, got {type(x).__name__}: {cause}") from cause


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """Objects that are all numbers (a table of mixed columns, nullable pandas types) as float64, or int64 if whole."""
    values = array.ravel().tolist()
    missing = sum(v is None or type(v).__name__ in ("NAType", "NaTType") for v in values)
    if missing:
        raise BadInput(
            f"{name} has {missing} missing of {len(values)} entries (None or NA): leave them out or fill them"
        )
    strange = next((v for v in values if not isinstance(v, bool | np.bool | numbers.Real | decimal.Decimal)), None)
    if strange is not None:
        raise TypeError(f"it holds {strange!r:.40}, a {type(strange).__name__}")
    if all(isinstance(v, bool | np.bool | numbers.Integral) and abs(int(v)) < 2**63 for v in values):
        return np.array([int(v) for v in values], np.int64).reshape(array.shape)
    return np.array([float(v) for v in values], np.float64).reshape(array.shape)


def _shareable(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where torch cannot share it: read-only (np.load with mmap_mode), flipped, foreign bytes."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore", under="ignore"):
            return array.astype(np.float64)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.writeable and all(step >= 0 for step in array.strides) else array.copy()


def _signed(x: Tensor) -> Tensor:
    """Unsigned numbers as int64, or as float64 where some are beyond its range."""
    out = x.long()
    wrapped = out < 0
    return torch.where(wrapped, out.to(WORKING) + 2.0**64, out.to(WORKING)) if bool(wrapped.any()) else out


def all_finite(x: Tensor) -> bool:
    """Whether no entry is NaN or infinite."""
    # A finite sum has no NaN or inf in it; it costs one pass, without the temporaries of the full check.
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


def require_finite(x: Tensor, what: str) -> Tensor:
    """`x` unchanged, or BadInput that counts the NaN and inf in it. `what` names the thing, e.g. "layer 'fc1'"."""
    if not all_finite(x):
        nan, inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
        raise BadInput(
            f"{what} holds {nan} NaN and {inf} infinite of {x.numel()} values: "
            "check the checkpoint and the scaling of the inputs, or leave this layer out"
        )
    return x


def centered(x: Tensor) -> Tensor:
    """Rows of `x` (n, d) minus their mean, in float64."""
    x = x.to(WORKING)
    return x - x.mean(0, keepdim=True)


def double_centred(gram: Tensor) -> Tensor:
    """H K H with H = I - 11'/n: the Gram matrix of the centred features."""
    gram = gram.to(WORKING)
    return gram - gram.mean(0, keepdim=True) - gram.mean(1, keepdim=True) + gram.mean()


def times(value: Tensor, factor: Tensor | float) -> Tensor:
    """value * factor. In forward mode torch's own product with a constant is up to five times as slow.

    It takes a number for a tensor, and a tensor without a tangent for one whose tangent is 0, which it multiplies, too.

    >>> times(torch.ones(2), 3.0).tolist(), times(torch.ones(2), torch.tensor([1.0, 2.0])).tolist()
    ([3.0, 3.0], [1.0, 2.0])
    """
    number = None if isinstance(factor, Tensor) else float(factor)
    if is_batchedtensor(value):  # of which torch does not know the tangent
        return value * factor if number is None else torch.ops.aten.mul.Scalar(value, number)
    primal, tangent = forward_ad.unpack_dual(value)
    if tangent is None:
        return value * (factor if number is None else number)
    if number is not None:
        return torch.ops.aten.mul.Scalar(value, number)
    if forward_ad.unpack_dual(cast(Tensor, factor)).tangent is not None:
        return value * factor
    return forward_ad.make_dual(primal * factor, tangent * factor)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of matrices of one precision; on the CPU by numpy, which takes x.T @ x for what it is, at half the work.

    Its library also took a fifth less time than torch's for other products where that was measured.

    >>> matmul(torch.eye(2), torch.tensor([[1.0], [2.0]])).tolist()
    [[1.0], [2.0]]
    """
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy())) if a.device.type == "cpu" else a @ b


def own_products(x: Tensor) -> Tensor:
    """X'X of the columns of x (n, d).

    >>> own_products(torch.tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """
    return matmul(x.T, x)


def eigenvalues(a: Tensor) -> Tensor:
    """Eigenvalues (ascending) of a symmetric matrix; on the CPU by numpy, whose library takes a third less time.

    >>> eigenvalues(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).tolist()
    [1.0, 3.0]
    """
    return torch.from_numpy(np.linalg.eigvalsh(a.numpy())) if a.device.type == "cpu" else torch.linalg.eigvalsh(a)


def row_sums(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of the rows of a and b (n, d), without a matrix of their products.

    >>> row_sums(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [1.0, 4.0]
    """
    if a.device.type != "cpu":
        return (a * b).sum(1)
    return torch.from_numpy(np.einsum("ij,ij->i", a.numpy(), b.numpy()))


def safe_eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending) and eigenvectors of a symmetric matrix, in float64, symmetrised first."""
    a = a.to(WORKING)
    return torch.linalg.eigh(0.5 * (a + a.mT))


def spectrum_of_rows(x: Tensor) -> Tensor:
    """Eigenvalues (descending, >= 0) of the sample covariance X'X/(n-1) of centred rows X (n, d); min(n, d) of them."""
    values = torch.linalg.svdvals(centered(x))
    return values.square() / max(x.shape[0] - 1, 1)


def span_basis(rows: Tensor, relative_cut: float | None = None) -> Tensor:
    """Orthonormal basis (r, d) of the span of the rows of `rows` (n, d).

    Directions with singular value below `relative_cut` times the largest are left out (default: max(n, d) eps).
    Rows should be of similar norm: a tiny row is otherwise cut away.
    """
    rows = rows.to(WORKING)
    _, s, vh = torch.linalg.svd(rows, full_matrices=False)
    cut = max(rows.shape) * torch.finfo(WORKING).eps if relative_cut is None else relative_cut
    rank = int((s > cut * s[0]).sum()) if s.numel() else 0
    return vh[:rank]


def jackknife_stderr(leave_one_out: Sequence[float] | Tensor) -> float:
    """Standard error from the n leave-one-out values: sqrt((n-1)/n sum (v_i - mean)^2) (Efron 1982, eq. 3.1)."""
    v = torch.as_tensor(leave_one_out, dtype=WORKING)
    n = v.numel()
    return float(torch.sqrt((n - 1) / n * (v - v.mean()).square().sum())) if n > 1 else float("nan")


def resolve_device(device: str | torch.device | None, like: Tensor | None = None) -> torch.device:
    """The device to work on: the given one, else that of `like` if it has float64, else the CPU.

    "auto" is the current CUDA device where there is one, else the CPU; the log says which.

    Raises BadInput for a missing one, and for kinds other than "cpu" and "cuda": those lack double precision
    (mps, and many an xpu; the message says what runs there) or values (meta).
    """
    if device is None:
        return like.device if like is not None and like.device.type not in IN_FLOAT32 else torch.device("cpu")
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() and torch.cuda.device_count() else "cpu"
        logger.info("device: %s", device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of some kinds that are refused below
            out = torch.device(device)
    except (RuntimeError, TypeError) as cause:
        raise BadInput(f"device={str(device)!r} is not a device: use 'cpu', 'cuda', 'cuda:1' or 'auto'") from cause
    if out.type not in ("cpu", "cuda") or (out.type == "cpu" and out.index):
        said = f"device={str(device)!r} is not supported: use 'cpu', 'cuda', 'cuda:1' or 'auto'"
        raise BadInput(f"{said}. {ONLY_FORWARD.format(out.type, out.type)}" if out.type in IN_FLOAT32 else said)
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if out.type == "cuda" and (out.index or 0) >= seen:
        raise BadInput(f"device={str(device)!r}, but torch sees {seen or 'no'} CUDA device: use device='cpu'")
    return out
