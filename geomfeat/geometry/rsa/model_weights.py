"""Non-negative weights of model RDMs whose sum is most similar to the RDMs of subjects."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.rdms import square
from geomfeat.numerics import WORKING

# Comparators that are cosines of vectors made from RDMs; the mean of unit vectors is the best RDM for them, and the
# nearest point of a cone to it has the best mean cosine.
FITTED = ("cosine", "correlation", "whitened_cosine")
# A share of an RDM's length that sums in float64 can make of nothing.
ROUNDING = 1e-12


def fitted_weights(
    models: Float[Tensor, "m p"], data: Float[Tensor, "k p"], criterion: str, conditions: Int[Tensor, "c"], n: int
) -> Float[Tensor, "m"]:
    """Weights w >= 0 of greatest mean `criterion` (one of FITTED) between w'models and the data, on some conditions.

    They sum to 1. Pairs that are NaN are left out. Where no model is similar to the data, the least dissimilar one.
    """
    a, y = (as_vectors(x, criterion, conditions, n) for x in (models, data))
    sizes, lengths = a.norm(dim=1), y.norm(dim=1)
    usable = sizes > ROUNDING * a.shape[1] ** 0.5 * models.nan_to_num().abs().amax(1)
    target = (y[lengths > 0] / lengths[lengths > 0, None]).mean(0)
    if not bool(usable.any()) or not bool((lengths > 0).any()):
        raise BadInput(
            f"{criterion} is undefined for all models or subjects on {len(conditions)} conditions: RDMs are constant"
        )
    unit = a[usable] / sizes[usable, None]
    found = _nearest(unit, target)
    if float(found.sum()) == 0:
        found[(unit @ target).argmax()] = 1.0
    weights = torch.zeros(len(a), dtype=WORKING)
    weights[usable.cpu()] = found / sizes[usable].cpu()
    return (weights / weights.sum()).to(models.device)


def as_vectors(
    rdms: Float[Tensor, "k p"], criterion: str, conditions: Int[Tensor, "c"], n: int
) -> Float[Tensor, "k q"]:
    """Vectors of which the criterion is the cosine: the pairs of some of n conditions, centred, or whitened.

    Whitened distances are the doubly centred matrix, up to a constant (Diedrichsen et al. 2021).
    """
    full = square(rdms, n)[:, conditions][:, :, conditions]
    if criterion == "whitened_cosine":
        full = full - full.mean(1, keepdim=True)
        return (full - full.mean(2, keepdim=True)).flatten(1)
    rows, columns = torch.triu_indices(len(conditions), len(conditions), 1, device=rdms.device)
    pairs = full[:, rows, columns]
    pairs = pairs[:, ~pairs[:1].isnan()[0]]
    return pairs - pairs.mean(1, keepdim=True) if criterion == "correlation" else pairs


def _nearest(unit: Float[Tensor, "m q"], target: Float[Tensor, "q"]) -> Float[Tensor, "m"]:
    """Non-negative least squares, on the triangle of a QR decomposition where there are more pairs than models."""
    from scipy.optimize import nnls

    columns, y = unit.T.cpu().numpy(), target.cpu().numpy()
    if columns.shape[0] > columns.shape[1]:
        q, columns = np.linalg.qr(columns)
        y = q.T @ y
    return torch.from_numpy(nnls(columns, y)[0])
