"""How far a layer's feature kernel is from the least that the network's function needs: D_LR of Nam et al. 2024.

With c(.) the centring, K the linear Gram of the features Phi, and P the projector on the span of the centred outputs,
    D_LR = 1 - CKA(K, P) = 1 - |Q' Phi_c|_F^2 / (|Phi_c' Phi_c|_F sqrt(r)),     P = Q Q', r = rank P.
Both forms are one number: P c(.) = P since Q is centred, so <c(K), P> = |Q' Phi_c|^2, and |P|_F = sqrt(r). The CKA is
the biased one; with the unbiased estimator the identity does not hold.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import kept_of
from geomfeat.geometry.similarity._hsic import Centred, Moments
from geomfeat.numerics import jackknife_stderr, row_sums
from geomfeat.precision import Spread
from geomfeat.types import Estimate, Points, as_layer


def low_rank_distance(features: Points, outputs: Points) -> Estimate:
    """D_LR in [0, 1]: 0 when the features vary only, and evenly, along the functions that the network computes.

    The standard error is the exact jackknife over samples. Directions of the outputs below the rounding of their own
    precision do not count as functions.

    Raises BadInput for constant features or outputs, and for outputs that span all samples, where every kernel is
    "along" them: more samples than outputs are needed.

    >>> h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> round(low_rank_distance(h, h).value, 12), round(low_rank_distance(h, h[:, :1]).value, 4)
    (0.0, 0.2929)
    """
    layer, function = as_layer(features, "features"), as_layer(outputs, "outputs")
    if layer.n != function.n:
        raise BadInput(f"features of {layer.n} and outputs of {function.n} samples")
    q = span_of_outputs(function)
    n, rank = q.shape
    centered = Centred.of_layer(kept_of(layer))
    phi = centered.features
    assert phi is not None
    own = Moments.between(centered, centered)
    size = own.hsic("biased") ** 0.5 * (n - 1)
    if not size > centered.rounding:
        raise BadInput("the features are constant over the samples (a dead or saturated layer): D_LR is undefined")
    along = q.T @ phi
    value = 1 - float(along.square().sum()) / (size * rank**0.5)
    return Estimate(
        max(0.0, value),  # below 0 by rounding only: CKA is at most 1
        _stderr(q, phi, along, own),
    )


def span_of_outputs(outputs: Points) -> Float[Tensor, "n r"]:
    """Orthonormal basis of the span of the centred outputs (n, C); BadInput where it is nothing or everything."""
    y = as_layer(outputs, "outputs")
    spread = Spread.of(y.x, y.precision)
    u, s, _ = torch.linalg.svd(spread.x, full_matrices=False)
    rank = int((s > spread.of_directions).sum())
    if rank == 0:
        raise BadInput("the network's outputs are the same for all samples: D_LR is undefined")
    if rank >= y.n - 1:
        raise BadInput(
            f"the outputs span all {y.n} samples, so every feature lies along them: "
            f"pass more samples than outputs ({y.d})"
        )
    return u[:, :rank]


def _stderr(q: Tensor, phi: Tensor, along: Tensor, moments: Moments) -> float | None:
    """Jackknife error, in closed form.

    Without sample i (and centred anew) the scatter matrices lose c q_i q_i' and c q_i phi_i', c = n/(n-1); with
    h = |q_i|^2 and g = Q'Phi' q_i, the inverse of I - c q_i q_i' (Sherman-Morrison) gives the numerator
    T - 2c phi_i.g + c^2 h |phi_i|^2 + c |g - c h phi_i|^2 / (1 - c h).
    """
    n, rank = q.shape
    c = n / (n - 1)
    h = q.square().sum(1)
    left = 1 - c * h
    if n < 6 or not (left > 1e-6).all():  # a sample that spans a function of its own: its loss changes the rank
        return None
    lengths = phi.square().sum(1)
    # g = q @ along (n, d) is not formed: its inner products come from (n, r).
    toward, own = row_sums(q, phi @ along.T), row_sums(q @ (along @ along.T), q)
    rest = own - 2 * c * h * toward + (c * h).square() * lengths
    numerator = along.square().sum() - 2 * c * toward + c**2 * h * lengths + c * rest / left
    size = moments.leave_one_out("biased").clamp_min(0).sqrt() * (n - 2)
    return jackknife_stderr(1 - numerator / (size * rank**0.5)) if bool((size > 0).all()) else None
