"""A capacity with what its numbers would be without classes, and without anything but noise, beside each of them."""

from dataclasses import replace
from typing import Any

from geomfeat.geometry.manifolds._capacity import capacity
from geomfeat.geometry.manifolds.per_pair import ALIGNMENTS
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.geometry.manifolds.shuffled_labels import shuffled_control
from geomfeat.geometry.manifolds.trials.noise_control import noise_control

COMPARED = ("capacity", "capacity_faces", "dimension", "radius", "radius_mean", "utility", *ALIGNMENTS)
OF_DATA = ("groups", "resample", "target_se")


def capacity_with_controls(points: Any, labels: Any = None, **options: Any) -> Capacity:
    """`capacity`, with the numbers for shuffled labels and for noise alone beside its own.

    Takes what `capacity` takes; the controls have the same draws. Returns `Capacity` with `controls["shuffled"]` and
    `controls["noise"]` (see `shuffled_control` and `noise_control`), which its text and table show. Raises BadInput as
    these, for a class with a single point too.

    >>> import torch
    >>> x = torch.randn(4, 10, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> found = capacity_with_controls(x + 2 * torch.eye(4, 60, dtype=torch.float64)[:, None] * 8, n_draws=50)
    >>> found.capacity > 1.5 * found.controls["shuffled"]["capacity"]
    True
    """
    found = capacity(points, labels, **options)
    plain = {name: value for name, value in options.items() if name not in OF_DATA}
    if options.get("draws") is None:
        plain["n_draws"] = found.n_draws
    made = {"shuffled": shuffled_control(points, labels, **plain), "noise": noise_control(points, labels, **plain)}
    controls = {word: {name: getattr(one, name) for name in COMPARED} for word, one in made.items()}
    return replace(found, controls=controls)
