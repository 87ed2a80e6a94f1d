"""One numerical policy: precision, tolerances, random streams, centring, safe decompositions.

Spectra, cones and kernels are computed in float64 (`WORKING`) unless a function says otherwise. Library and tests
share `tolerance`, so that a test never has a threshold of its own invention.
"""

from __future__ import annotations

import hashlib
import operator
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput

WORKING = torch.float64
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
    """A CPU generator for one purpose, named by what it is for: `stream(seed, "capacity", layer)`.

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
    """A detached tensor from a tensor, array or nested sequence; precisions below 32 bits are widened to float32.

    Shares memory with a writable array. Raises BadInput for what is not numeric, or is complex.

    >>> as_tensor([[1, 2], [3, 4]]).shape
    torch.Size([2, 2])
    """
    try:
        out = x.detach() if isinstance(x, Tensor) else torch.as_tensor(_shareable(np.asarray(x)))
    except (TypeError, ValueError, RuntimeError) as cause:
        raise BadInput(f"{name} must be a numeric array or tensor, got {type(x).__name__}: {cause}") from cause
    if out.is_complex():
        raise BadInput(f"{name} must be real, got {out.dtype}: give real and imaginary parts as features of their own")
    if dtype is not None:
        return out.to(dtype)
    if out.dtype in _STORED_ONLY:
        return out.long()
    return out.float() if out.is_floating_point() and torch.finfo(out.dtype).bits < 32 else out


def _shareable(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where torch cannot share it: read-only (np.load with mmap_mode), flipped, foreign bytes."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.writeable and all(step >= 0 for step in array.strides) else array.copy()


def require_finite(x: Tensor, what: str) -> Tensor:
    """`x` unchanged, or BadInput that counts the NaN and inf in it. `what` names the thing, e.g. "layer 'fc1'"."""
    # A finite sum has no NaN or inf in it; it costs one pass, without the temporaries of the full look.
    if not (bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())):
        nan, inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
        raise BadInput(
            f"{what} holds {nan} NaN and {inf} infinite of {x.numel()} values: "
            "check the checkpoint and the scaling of the inputs, or leave this layer out"
        )
    return x


def centred(x: Tensor) -> Tensor:
    """Rows of `x` (n, d) minus their mean, in float64."""
    x = x.to(WORKING)
    return x - x.mean(0, keepdim=True)


def double_centred(gram: Tensor) -> Tensor:
    """H K H with H = I - 11'/n: the Gram matrix of the centred features."""
    gram = gram.to(WORKING)
    return gram - gram.mean(0, keepdim=True) - gram.mean(1, keepdim=True) + gram.mean()


def safe_eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending) and eigenvectors of a symmetric matrix, in float64, symmetrised first."""
    a = a.to(WORKING)
    return torch.linalg.eigh(0.5 * (a + a.mT))


def spectrum_of_rows(x: Tensor) -> Tensor:
    """Eigenvalues (descending, >= 0) of the sample covariance X'X/(n-1) of centred rows X (n, d); min(n, d) of them."""
    values = torch.linalg.svdvals(centred(x))
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
    """The device to work on: the given one, else that of `like`, else the CPU.

    Raises BadInput for one that is not there, and for kinds other than "cpu" and "cuda": those lack double precision
    (mps) or values (meta).
    """
    if device is None:
        return like.device if like is not None else torch.device("cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of some kinds that are refused below
            out = torch.device(device)
    except (RuntimeError, TypeError) as cause:
        raise BadInput(f"device={str(device)!r} is no device: use 'cpu', 'cuda' or 'cuda:1'") from cause
    if out.type not in ("cpu", "cuda") or (out.type == "cpu" and out.index):
        raise BadInput(f"device={str(device)!r} is none that geomfeat computes on: use 'cpu', 'cuda' or 'cuda:1'")
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if out.type == "cuda" and (out.index or 0) >= seen:
        raise BadInput(f"device={str(device)!r}, but torch sees {seen or 'no'} CUDA device: use device='cpu'")
    return out
