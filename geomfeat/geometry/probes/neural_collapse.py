"""Neural collapse: within-class against between-class scatter."""

from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import GROUPS, jackknife, left_out
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
    spread, known = left_out(layer).spread, as_labels(layer.labels).codes
    _, which, counts = torch.unique(known, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise BadInput("NC1 needs at least 2 classes, got 1: take inputs of more classes")
    if int(counts.max()) < 2:
        raise BadInput("every class has a single sample, so the scatter within classes is zero: give more samples")
    which = which.to(spread.x.device)
    sums = _sums(spread.x, which, len(counts))
    means = sums / counts[:, None].to(sums)
    within = spread.x - means[which]
    axes = _axes(means, spread, len(which), float(torch.linalg.vector_norm(spread.x)))
    value = _scatter(within @ axes.T, which, counts)
    single = int((counts == 1).sum())
    note = f"{single} classes have a single sample, which adds no scatter within: NC1 is low" if single else ""
    return Estimate(value, _jackknife(spread, which, within, means) if errors_wanted() else None, note=note)


def _sums(x: Tensor, which: Tensor, n_classes: int) -> Tensor:
    return x.new_zeros(n_classes, x.shape[1]).index_add_(0, which, x)


def _axes(means: Tensor, spread: Spread, n: int, size: float) -> Tensor:
    """Directions (r, d) between class means (C, d), over how far the means lie apart along each.

    BadInput where all means of n points coincide, whose root of summed squares is `size`.
    """
    # Its squared singular values are the eigenvalues of S_b, whose condition number would be the square.
    between = (means - means.mean(0)) / len(means) ** 0.5
    _, sigma, directions = torch.linalg.svd(between, full_matrices=False)
    # Samples of a collapsed class are rounded alike, so that the mean is no better known than they are.
    own = max(n, spread.x.shape[1]) * torch.finfo(WORKING).eps * size / n**0.5
    kept = sigma > max(spread.of_entry + spread.of_point / len(means) ** 0.5, own)
    if not bool(kept.any()):
        raise BadInput("all class means coincide, so S_b is zero and NC1 infinite: check the labels")
    return directions[kept] / sigma[kept][:, None]


def _scatter(along: Tensor, which: Tensor, counts: Tensor) -> float:
    """The sum over classes of the mean squares of their deviations (n, r) along the axes, over C^2."""
    return float((along.square().sum(1) / counts.to(along)[which]).sum() / int((counts > 0).sum()) ** 2)


def _jackknife(spread: Spread, which: Tensor, within: Tensor, means: Tensor) -> float | None:
    """Standard error from the values without each tenth of the samples; None where one of them is undefined.

    Means without a part follow from sums over its classes, and what they change of the deviations `within` (n, d) is
    small: no part of the points is copied.
    """
    n, n_classes, x = len(which), len(means), spread.x
    count = min(GROUPS, n)
    # Sorted by class, so that every part is spread over the classes.
    part = torch.empty_like(which)
    part[torch.argsort(which, stable=True)] = torch.arange(n, device=which.device) % count
    cell = part * n_classes + which
    sums = _sums(x, cell, count * n_classes).view(count, n_classes, -1)
    sizes = torch.bincount(cell, minlength=count * n_classes).view(count, n_classes)
    centers = (sums.sum((0, 1)) - sums.sum(1)) / (n - sizes.sum(1)).clamp_min(1)[:, None]
    lengths, toward = x.square().sum(1), x @ centers.T
    parts = []
    for g, center in enumerate(centers):
        counts, stays = sizes.sum(0) - sizes[g], part != g
        there, rows = counts > 0, int(counts.sum())
        size = float((lengths - 2 * toward[:, g] + center @ center)[stays].clamp_min_(0).sum()) ** 0.5
        if int(there.sum()) < 2 or int(counts.max()) < 2 or size <= spread.of_point * rows**0.5:
            return None
        without = means.clone()
        without[there] = (sums.sum(0) - sums[g])[there] / counts[there][:, None]
        try:
            axes = _axes(without[there], spread, rows, size)
        except BadInput:
            return None
        parts.append((axes, (without - means) @ axes.T, counts, stays))
    along = (within @ torch.cat([axes for axes, *_ in parts]).T).split([len(axes) for axes, *_ in parts], 1)
    return jackknife([
        _scatter(found[stays] - moved[which[stays]], which[stays], counts)
        for found, (_, moved, counts, stays) in zip(along, parts, strict=True)
    ])  # fmt: skip
