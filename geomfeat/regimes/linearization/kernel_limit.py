"""What a network learns in the lazy limit: kernel regression with its initial tangent kernel.

With K = J J' at w0, residuals b = y - f(w0) and the mean square relative to its value at the start, L = |r|^2/|b|^2,
gradient descent on the linear model with steps h gives dr = -h (2/|b|^2) K r, so after time t (t/h steps)

    f(x) - f0(x) = K(x, X) V diag(g(w)) V' b,     g(w) = (1 - (1 - s w)^(t/h)) / w,   s = 2 h / |b|^2,

with K = V diag(w) V'; g -> (1 - exp(-2 w t/|b|^2)) / w for gradient flow (h -> 0) and 1/w for t -> infinity. A ridge
puts w + ridge for w in g: weight decay towards w0.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geomfeat.display import BaseResult, pair_columns
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.models.functional import Functional, Readout, functional
from geomfeat.models.nested_inputs import batches, n_samples
from geomfeat.numerics import WORKING, require_finite, safe_eigh
from geomfeat.regimes.linearization.linearized_module import EVALUATE_AT_ONCE
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.objective import prepared_targets
from geomfeat.tangent import ntk
from geomfeat.tangent.jacobians.derivative_checks import require_callable


@dataclass(frozen=True, eq=False)
class LazyLimit(BaseResult):
    """The outputs of a network trained in the lazy limit.

    Attributes:
        train, test: (n, C) outputs, float64; test None without test inputs.
        time: at which they are read, in the units of train_at_gamma's lr times steps; infinity at the end of training.
        left: share of the squared residual |y - f0|^2 that is left then: the relative mse loss.
        unreachable: share of it that the linear model cannot fit in any time, because K is singular.
        rank, size: eigenvalues of K above rounding, and all n C of them.
        largest_lr: 2 / largest curvature: lr at and above which gradient descent on the linear model diverges.

    `to_frame()`: one row for each sample and output: of (train or test), sample, output, value.
    """

    train: Tensor
    test: Tensor | None
    time: float
    left: float
    unreachable: float
    rank: int
    size: int
    largest_lr: float

    def _columns(self) -> dict[str, Any]:
        found: dict[str, list[Any]] = {"of": [], "sample": [], "output": [], "value": []}
        for name, values in (("train", self.train), ("test", self.test)):
            if values is not None:
                table = pair_columns(*map(range, values.shape), value=values)
                found["of"] += [name] * len(table["row"])
                for column, source in (("sample", "row"), ("output", "column"), ("value", "value")):
                    found[column] += table[source]
        return found


def lazy_limit(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    test_inputs: Any = None,
    *,
    ridge: float = 0.0,
    time: float = math.inf,
    step: float = 0.0,
    target_loss: float | None = None,
    centered: bool = False,
    readout: Readout | None = None,
    device: str | torch.device | None = None,
) -> LazyLimit:
    """Outputs of the infinitely lazy network, f0(x) + K(x, X) (K(X, X) + ridge)^-1 (y - f0(X)), or at a finite time.

    Args:
        targets: (n,) classes (one-hot rows minus 1/C) or (n, C) values, as `train_at_gamma` takes them for the mse.
        ridge: added to the diagonal of K, in its units.
        time: of gradient flow on the mse divided by its value at the start: lr times steps of `train_at_gamma`
            without momentum, at every gamma << 1. step: its lr, for gradient descent with such steps in place of flow.
        target_loss: the relative loss at which to stop, instead of a time.
        centered: learn y in place of y - f0, and leave f0 out: the limit of f = (net(w) - net(w0)) / gamma, gamma -> 0.

    The kernel is (n C, n C): 500 samples of 10 outputs take 0.2 GB and an eigendecomposition of 5000 rows.

    Raises BadInput for targets that do not fit or are met already, settings out of range, steps too long for descent to
    converge, or a target_loss below what K can reach.

    Source: Jacot, Gabriel and Hongler 2018, section 5; Lee et al. 2019, eq. 14-16.

    >>> net, x = nn.Linear(2, 1, bias=False).double(), torch.eye(2)   # K = x x': fits any targets
    >>> limit = lazy_limit(net, x, torch.tensor([[3.0], [5.0]]), test_inputs=torch.tensor([[1.0, 1.0]]))
    >>> round(float(limit.test), 9), limit.rank, round(limit.left, 9)
    (8.0, 2, 0.0)
    """
    _check(ridge, time, step, target_loss)
    f = functional(model, device=device, readout=readout)
    inputs = f.inputs(inputs)
    start = require_finite(_outputs(f, inputs), "the network's outputs on the inputs")
    y = _targets(targets, start)
    b = y if centered else y - start
    power = float(b.square().sum())
    if not power > 0:
        raise BadInput("the targets are met at the start (or all zero, for centered=True): nothing can be learned")
    kernel = ntk(f, inputs, outputs="full")
    values, vectors = safe_eigh(kernel.gram)
    # Eigenvalues below this are rounding of the kernel: their directions count as never learned.
    cut = len(values) * torch.finfo(kernel.precision).eps * float(values[-1])
    if not float(values[-1]) > 0:
        raise BadInput("the tangent kernel is zero: the outputs do not depend on the parameters")
    loads = vectors.mT @ b.flatten()
    seen = values > cut
    rates = torch.where(seen, values, 0.0)
    unreachable = float(loads[~seen].square().sum()) / power
    if target_loss is not None:
        time = _time_of(target_loss, rates + ridge * seen, rates, loads, step, power)
    gain = torch.where(seen, _gain(rates + ridge, time, step, power), 0.0)
    # Along an eigenvector 1 - w g of the residual is left: all of it where w = 0, and some for good under a ridge.
    left = float((loads * (1 - rates * gain)).square().sum()) / power
    coefficients = vectors @ (gain * loads)
    change = (kernel.gram @ coefficients).view_as(b)
    test = None if test_inputs is None else _predicted(f, inputs, test_inputs, coefficients, centered)
    train = change if centered else start + change
    # The loss is |r|^2 / |b|^2, with curvature 2 w / |b|^2 along an eigenvector of K.
    rank, largest_lr = int(seen.sum()), power / float(values[-1] + ridge)
    return LazyLimit(train, test, time, left, unreachable, rank, len(values), largest_lr)


def _check(ridge: float, time: float, step: float, target_loss: float | None) -> None:
    for name, value, fine, what in (
        ("ridge", ridge, 0 <= ridge < math.inf, "at least 0 and finite"),
        ("time", time, time >= 0, "at least 0 (infinity: until the end)"),
        ("step", step, 0 <= step < math.inf, "at least 0 (0: gradient flow)"),
        ("target_loss", target_loss, target_loss is None or 0 < target_loss < 1, "between 0 and 1, or None"),
    ):
        if not fine:
            raise BadInput(f"{name}={value} must be {what}")
    if target_loss is not None and time != math.inf:
        raise BadInput(f"time={time} and target_loss={target_loss} both say when to stop: give one of them")


def _targets(targets: Any, start: Tensor) -> Tensor:
    given = as_goal(targets, "targets").to(start.device)
    if given.shape[:1] != start.shape[:1]:
        raise BadInput(f"targets have shape {tuple(given.shape)}, but there are {len(start)} samples")
    return prepared_targets(as_classes(given, start.shape[1]), "mse", start.shape[1], WORKING)


def _gain(rates: Tensor, time: float, step: float, power: float) -> Tensor:
    """g(w) for every eigenvalue w (those of 0 give 0)."""
    share_left = torch.zeros_like(rates) if time == math.inf else _share_left(rates, time, step, power)
    return torch.where(rates > 0, (1 - share_left) / rates.clamp_min(torch.finfo(WORKING).tiny), 0.0)


def _share_left(rates: Tensor, time: float, step: float, power: float) -> Tensor:
    """(1 - s w)^(t/h), or exp(-2 w t/|b|^2) for flow."""
    if step == 0:
        return torch.exp(-2 * time / power * rates)
    factor = 1 - 2 * step / power * rates
    # A step of 2 / curvature itself is allowed, where rounding may lead beyond 1.
    if float(factor.abs().max()) > 1 + 1e-9:
        raise BadInput(
            f"step={step:.4g} is too long: descent on the linear model diverges above "
            f"{power / float(rates.max()):.4g} (2 / largest curvature)"
        )
    return factor.pow(round(time / step))


def _time_of(goal: float, decay: Tensor, rates: Tensor, loads: Tensor, step: float, power: float) -> float:
    """The time at which the relative loss reaches `goal`; a whole number of steps where there are steps."""

    def loss(time: float) -> float:
        gain = _gain(decay, time, step, power)
        return float((loads * (1 - rates * gain)).square().sum()) / power

    if loss(math.inf) >= goal:
        raise BadInput(
            f"target_loss={goal:g} is never reached: {loss(math.inf):.4g} of the squared residual is left at the end, "
            "because K is singular or ridge keeps it"
        )
    seen = decay[decay > 0]
    # Bisection for log(2 t / |b|^2), between times at which nothing and everything that can be is learned.
    low, high = math.log(1e-9 / float(seen.max())), math.log(1e3 / float(seen.min()))
    for _ in range(200):
        middle = 0.5 * (low + high)
        time = 0.5 * power * math.exp(middle)
        low, high = (middle, high) if loss(time) > goal else (low, middle)
    time = 0.5 * power * math.exp(high)
    # The first whole step at or after that time; rounding of their ratio must not add another.
    return time if step == 0 else step * math.ceil(time / step - 1e-9)


def _outputs(f: Functional, inputs: Any) -> Float[Tensor, "n C"]:
    require_callable(f, inputs)
    with torch.no_grad():
        return torch.cat([f(f.theta, part) for _, part in batches(inputs, EVALUATE_AT_ONCE)])


def _predicted(f: Functional, inputs: Any, test_inputs: Any, coefficients: Tensor, centered: bool) -> Tensor:
    test_inputs = f.inputs(test_inputs)
    start = require_finite(_outputs(f, test_inputs), "the network's outputs on the test inputs")
    change = (ntk(f, test_inputs, inputs, outputs="full").gram @ coefficients).view(n_samples(test_inputs), -1)
    return change if centered else change + start
