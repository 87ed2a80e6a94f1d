"""Neural collapse: within-class against between-class scatter."""

from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import group_jackknife, spread_of
from geomfeat.labels import as_labels
from geomfeat.numerics import WORKING
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import errors_over_groups, errors_wanted
from geomfeat.types import Estimate, Points, Representation, as_layer


def nc1(x: Points, labels: Any = None) -> Estimate:
    """tr(S_w S_b^+) / C, in 0..inf; 0 is full collapse (Papyan, Han & Donoho 2020, NC1). With its error.

    S_w is the covariance within classes, S_b that of the class means, every class with equal weight (the published
    sums are over balanced classes, where this makes no difference). Directions of S_b that may be rounding of the class
    means are left out of the inverse. Classes with a single sample add no scatter, which the note says.

    labels: (n,) classes, see `as_labels`; those of a Representation by default. Raises BadInput without any, with one
    class only, with no class of two samples, or if all class means coincide.

    >>> x = torch.tensor([[1.0], [3.0], [-1.0], [-3.0]], dtype=torch.float64)    # S_w = 1, S_b = 4
    >>> round(nc1(x, torch.tensor([0, 0, 1, 1])), 12)
    0.125
    """
    layer = as_layer(x)
    if labels is not None:
        layer = layer.with_(labels=as_labels(labels, n=layer.n).codes)
    if layer.labels is None:
        raise BadInput("NC1 needs labels: pass labels= to extract()")
    return errors_over_groups(_over_samples, [layer], {}, 3)


def _over_samples(layer: Representation) -> Estimate:
    spread, known = spread_of(layer), as_labels(layer.labels).codes
    # Sorted by class, so that every part that the jackknife leaves out is spread over the classes.
    order = torch.argsort(known, stable=True)
    turned = spread.turned() if errors_wanted() else spread
    error = group_jackknife(lambda rows: _nc1(spread_of(turned.take(order[rows])), known[order[rows]]), layer.n)
    single = int((torch.unique(known, return_counts=True)[1] == 1).sum())
    note = f"{single} classes have a single sample, which adds no scatter within: NC1 is low" if single else ""
    return Estimate(_nc1(spread, known), error, note=note)


def _nc1(spread: Spread, known: Tensor) -> float:
    work = spread.x
    classes, which, counts = torch.unique(known, return_inverse=True, return_counts=True)
    n_classes = len(classes)
    if n_classes < 2:
        raise BadInput("NC1 needs at least 2 classes, got 1: take inputs of more classes")
    if int(counts.max()) < 2:
        raise BadInput("every class has a single sample, so the scatter within classes is zero: give more samples")
    which, counts = which.to(work.device), counts.to(work.device).to(work.dtype)
    means = torch.zeros(n_classes, work.shape[1], dtype=work.dtype, device=work.device).index_add_(0, which, work)
    means = means / counts[:, None]
    # Its squared singular values are the eigenvalues of S_b, whose condition number would be the square.
    between = (means - means.mean(0)) / n_classes**0.5
    _, sigma, directions = torch.linalg.svd(between, full_matrices=False)
    # Samples of a collapsed class are rounded alike, so that the mean is no better known than they are.
    own = max(work.shape) * torch.finfo(WORKING).eps * float(torch.linalg.vector_norm(work)) / work.shape[0] ** 0.5
    floor = max(spread.of_entry + spread.of_point / n_classes**0.5, own)
    kept = sigma > floor
    if not bool(kept.any()):
        raise BadInput("all class means coincide, so S_b is zero and NC1 infinite: check the labels")
    within = (work - means[which]) @ directions[kept].T / sigma[kept]
    return float((within.square().sum(1) / counts[which]).sum() / n_classes**2)
