"""Options of a forecast: which parameters and layers, and how much work it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geomfeat.activations.layer_selection import Patterns
from geomfeat.errors import BadInput
from geomfeat.tangent.tangent_space import Params


@dataclass(frozen=True)
class ForecastOptions:
    """What `forecast` measures, and on what.

    Attributes:
        params: the parameters that will be trained: name globs or a predicate. Default: those with a rate in the
            optimizer, without one those that require a gradient.
        layers: hidden layers, as in `locate`. device: where it is computed; default that of the model.
        n_probes: how many inputs to use (seeded choice, the same as that of `locate`), at least 4; default None: up to
            256, fewer with many outputs.
        n_bootstrap: resamples of the probes behind the interval, at least 2; default 10.

    Raises BadInput for fewer than two resamples.

    >>> ForecastOptions(n_probes=64).n_bootstrap
    10
    """

    params: Params | None = None
    layers: Patterns = "*"
    device: str | torch.device | None = None
    n_probes: int | None = None
    n_bootstrap: int = 10

    def __post_init__(self) -> None:
        if self.n_bootstrap < 2:
            raise BadInput(f"n_bootstrap={self.n_bootstrap}: an interval needs at least 2 resamples")
