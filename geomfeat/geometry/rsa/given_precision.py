"""The noise precision that a call is given: checked, and its square root applied to patterns."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh


def as_precision(given: Any, d: int, device: torch.device, name: str = "precision") -> Tensor:
    """The noise precision of d units as (d,) or (d, d); BadInput unless it can be the inverse of a covariance."""
    out = require_finite(as_tensor(given, name, WORKING), name).to(device)
    if out.shape not in ((d,), (d, d)):
        raise BadInput(f"{name} must be ({d},) or ({d}, {d}) for {d} units, got shape {tuple(out.shape)}")
    if out.ndim == 2 and float((out - out.T).abs().max()) > 1e-6 * float(out.abs().max()):
        raise BadInput(f"{name} is not symmetric: give the inverse of a covariance, see noise_precision()")
    if bool(((out if out.ndim == 1 else out.diagonal()) < 0).any()):
        raise BadInput(f"{name} has negative entries on its diagonal: give the inverse of a covariance")
    return out


def whitened(x: Float[Tensor, "*batch d"], precision: Tensor | None) -> Float[Tensor, "*batch d"]:
    """x P^(1/2): its plain products are those of x by P.

    >>> whitened(torch.tensor([[1.0, 2.0]]), torch.tensor([4.0, 1.0])).tolist()
    [[2.0, 2.0]]
    """
    if precision is None:
        return x
    if precision.ndim == 1:
        return x * precision.sqrt()
    values, vectors = safe_eigh(precision)
    return x @ ((vectors * values.clamp_min(0).sqrt()) @ vectors.T)


def whitened_by_run(
    means: Float[Tensor, "runs conditions d"], given: Mapping[Any, Any], runs: tuple[Hashable, ...]
) -> Float[Tensor, "runs conditions d"]:
    """The patterns of each run by the square root of its own precision (Walther et al. 2016, section 2.3)."""
    lacking = [run for run in runs if run not in given]
    if lacking:
        raise BadInput(f"precision has none for run {lacking[0]!r} ({len(lacking)} such runs): give one for each run")
    parts = [
        whitened(x, as_precision(given[run], x.shape[1], x.device, f"precision[{run!r}]"))
        for run, x in zip(runs, means, strict=True)
    ]
    return torch.stack(parts)
