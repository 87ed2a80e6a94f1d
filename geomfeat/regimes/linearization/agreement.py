"""Whether a training run is lazy: it does what the linearised network and the initial tangent kernel do."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout
from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.kernel_limit import lazy_limit
from geomfeat.regimes.linearization.linearized_module import linearisation_gaps, linearize
from geomfeat.regimes.training.options import TrainOptions
from geomfeat.regimes.training.result import scaled_outputs
from geomfeat.regimes.training.richness import FLOAT64_BELOW, Richness
from geomfeat.regimes.training.scaled_training import train_at_gamma


@dataclass(frozen=True)
class LazyAgreement(BaseResult):
    """How far three trainings of one task differ in f, relative to |f| of the linear one, over all samples given.

    Attributes:
        gamma: of the network. steps: taken by both. train_loss: relative loss of the network at the end.
        network_linearised: the network against the linearised network, trained in the same way.
        network_kernel: the network against kernel regression with its initial tangent kernel, after as many steps.
        linearised_kernel: the linearised network against kernel regression; rounding alone keeps it from 0.
        gap: linearisation gap of the trained network, |f - f_lin(w)| / |f|.
        is_lazy: whether all differences are within the tolerance.
    """

    gamma: float
    steps: int
    train_loss: float
    network_linearised: float
    network_kernel: float
    linearised_kernel: float
    gap: float
    is_lazy: bool


def lazy_agreement(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    gamma: float | Richness,
    lr: float,
    steps: int,
    test_inputs: Any = None,
    tolerance: float = 1e-3,
    readout: Readout | None = None,
) -> LazyAgreement:
    """Whether training at gamma is lazy: the network does what its linearisation and its tangent kernel do.

    The network and the linearised network are trained on the mse by gradient descent of the same lr and steps; the
    kernel predictor is that of as many steps. They are compared on `inputs`, or on `test_inputs` where given.

    Raises BadInput where the steps are too long for the linear model, and as `train_at_gamma` and `lazy_limit` do.

    Source: Chizat, Oyallon and Bach 2019, theorem 2.2.

    >>> from geomfeat.models.mlp import mlp
    >>> net, x, y = mlp(2, (9,), 1, activation="tanh", seed=0), torch.eye(2), torch.tensor([[1.0], [-1.0]])
    >>> [lazy_agreement(net, x, y, gamma=g, lr=0.1, steps=50).is_lazy for g in (1e-4, 1.0)]
    [True, False]
    """
    gamma = (gamma if isinstance(gamma, Richness) else Richness(gamma)).gamma
    if not 0 < lr < math.inf or steps < 1:
        raise BadInput(f"lr={lr} must be positive and finite, and steps={steps} at least 1")
    looked_at = inputs if test_inputs is None else test_inputs
    kernel = lazy_limit(model, inputs, targets, looked_at, time=lr * steps, step=lr, centered=True, readout=readout)
    assert kernel.test is not None

    def trained(network: nn.Module, readout: Readout | None) -> tuple[Tensor, nn.Module, float, int]:
        kind = torch.float64 if gamma <= 10 * FLOAT64_BELOW else None
        options = TrainOptions(momentum=0.0, back_off=False, dtype=kind)
        out = train_at_gamma(network, inputs, targets, gamma=gamma, lr=lr, max_steps=steps, readout=readout,
                             options=options)  # fmt: skip
        f = scaled_outputs(out.model, network, looked_at, gamma=gamma, readout=readout).to(WORKING)
        return f, out.model, out.train_loss, out.steps

    rich, after, loss, taken = trained(model, readout)
    flat, *_ = trained(linearize(model, readout), None)
    size = float(flat.norm())
    if not size > 0:
        raise BadInput(f"the linearised network did not move in {steps} steps of lr={lr:g}: raise one of them")
    by_network, by_kernel, rounding = (
        float((a - b).norm()) / size for a, b in ((rich, flat), (rich, kernel.test), (flat, kernel.test))
    )
    gap = linearisation_gaps(model, {taken: after}, looked_at, readout=readout)[taken]
    lazy = taken == steps and max(by_network, by_kernel, rounding) <= tolerance
    return LazyAgreement(gamma, taken, loss, by_network, by_kernel, rounding, gap, lazy)
