"""What the same code gives for the noise of trials alone, without any signal: a floor beside the numbers of classes."""

from dataclasses import replace
from typing import Any

import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds.point_clouds import as_manifolds
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.numerics import stream


def noise_control(points: Any, labels: Any = None, *, seed: int = 0, **options: Any) -> Capacity:
    """Capacity and geometry if all classes were the same and their trials differed by noise alone.

    Every trial is the mean of all classes plus a deviation of some trial from its own class, dealt out at random (sizes
    of the classes kept), so that classes differ only as far as the mean of few trials does. Deviations from a mean of M
    trials are lengthened by sqrt(M / (M - 1)). `shuffled_control` shuffles the trials with their signal, which makes
    classes as wide as the signal; what lies between the two controls and `capacity` is noise, spread and structure.

    Takes what `capacity` takes; with the same seed it uses the same t and y. Errors are over the draws alone. Raises
    BadInput as `capacity`, and for a class with a single point, whose noise is not known.

    >>> x = torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> signal = 3 * torch.eye(4, 30, dtype=torch.float64)[:, None]
    >>> noise_control(x, n_draws=50).capacity < noise_control(x + 10 * signal, n_draws=50).capacity + 0.1
    True
    """
    known = {name: options.pop(name) for name in ("center", "weights", "device") if name in options}
    manifolds = as_manifolds(points, labels, **known).without_copies()
    sizes = torch.tensor(manifolds.sizes, device=manifolds.x.device)
    if int(sizes.min()) < 2:
        name = manifolds.classes[int(sizes.argmin())]
        raise BadInput(f"class {name!r} has one point, whose noise is not known: leave it out, or give it more trials")
    x, owner = manifolds.x, manifolds.owner
    sums = x.new_zeros(len(sizes), x.shape[1]).index_add_(0, owner, x)
    centers = sums / sizes[:, None]
    noise = (x - centers[owner]) * (sizes / (sizes - 1)).sqrt()[owner][:, None]
    order = torch.randperm(len(x), generator=stream(seed, "capacity", "noise")).to(x.device)
    options = {"resample": None} | options
    found = capacity(replace(manifolds, x=centers.mean(0) + noise[order]), seed=seed, **options)
    return replace(found, center=known.get("center"))
