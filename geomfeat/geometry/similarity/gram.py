"""Gram matrices between samples, in float64: linear, Gaussian, and the label kernel."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.labels import as_labels
from geomfeat.memory import require_memory
from geomfeat.numerics import WORKING
from geomfeat.precision import Spread
from geomfeat.types import Points, as_layer, as_points


class NoWidth(BadInput):
    """Most samples coincide (up to rounding), so that the Gaussian kernel has no width."""


def linear_gram(x: Points) -> Float[Tensor, "n n"]:
    """X X'. OutOfMemory for more samples than fit, before anything is allocated.

    >>> linear_gram(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist()
    [[1.0, 1.0], [1.0, 2.0]]
    """
    x = as_points(x).to(WORKING)
    _require_room(x, 1)
    return x @ x.T


def rbf_gram(x: Points, bandwidth: float = 0.5) -> Float[Tensor, "n n"]:
    """Gaussian kernel exp(-|x_i - x_j|^2 / (2 s^2)) with s = `bandwidth` times the median distance.

    The median is the lower one of all n^2 squared distances, the n zero ones of a sample to itself included: the
    rule of Kornblith et al. 2019 (section 3 and their code), with which their numbers can be compared.

    Raises NoWidth (a BadInput) when the median distance is zero or may be rounding (most samples coincide), BadInput
    for a bandwidth that is not positive, OutOfMemory for more samples than fit.

    >>> round(float(rbf_gram(torch.tensor([[0.0], [1.0], [2.0]]))[0, 1]), 4)  # median distance 1, s = .5
    0.1353
    """
    if not bandwidth > 0:
        raise BadInput(f"bandwidth must be a positive fraction of the median distance, got {bandwidth}")
    layer = as_layer(x)
    _require_room(layer.x, 3)  # the distances, and two copies from which their median is taken
    spread = Spread.of(layer.x, layer.precision)
    # Direct differences: |x|^2 + |y|^2 - 2xy would lose the small distances to rounding.
    squared = torch.cdist(spread.x, spread.x, compute_mode="donot_use_mm_for_euclid_dist").square_()
    median = squared.flatten().median()
    if not median > spread.of_point**2:
        raise NoWidth(
            "the median distance between samples is 0, so the Gaussian kernel has no width: "
            "drop duplicated samples or use kernel='linear'"
        )
    return squared.div_(-2 * bandwidth**2 * median).exp_()


def label_gram(labels: Any) -> Float[Tensor, "n n"]:
    """Y Y' of one-hot labels: 1 where two samples share their class, 0 elsewhere.

    >>> label_gram(torch.tensor([3, 3, 7])).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    codes = as_labels(labels).codes
    _require_room(codes, 2)
    return (codes[:, None] == codes[None, :]).to(WORKING)


def _require_room(samples: Tensor, copies: int) -> None:
    """OutOfMemory where so many matrices between all samples are more than fits."""
    n = len(samples)
    remedy = "take a subset of the samples, or cka() with its linear kernel, which works from the features"
    require_memory(copies * n * n * WORKING.itemsize, f"the Gram matrix of {n} samples", remedy, samples.device)


def one_hot(labels: Any) -> Float[Tensor, "n C"]:
    """One-hot labels over the classes that occur, in float64: features whose linear Gram is the label kernel."""
    classes, index = as_labels(labels).codes.unique(return_inverse=True)
    return torch.nn.functional.one_hot(index, len(classes)).to(WORKING)
