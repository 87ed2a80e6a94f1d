"""The largest learning rate at which training from the start does not diverge, as a function of gamma.

eta is the raw rate: w -= eta dL/dw, L the plain loss of f = (net(w) - net(w0)) / gamma, full batch, no momentum. Lazy
networks keep the curvature of the start, which is of order 1/gamma^2, so eta* ~ gamma^2. A rich one of L layers must
grow to |w|^L ~ gamma, where the curvature is |w|^(2L-2)/gamma^2 ~ gamma^(-2/L), so eta* ~ gamma^(2/L).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart, pair_columns
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.memory import is_out_of_memory
from geomfeat.models.functional import Functional, Readout, functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import WORKING, require_finite
from geomfeat.regimes.stability.hessian_spectrum import sharpness
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.objective import Loss, loss_at_zero, loss_of, prepared_targets, require_gradient
from geomfeat.tangent import saved_bytes

CANDIDATES = 8  # rates tried at once for each gamma and model: each round narrows a bracket ninefold
AT_ONCE = 2**28  # bytes of weights and activations of the trainings that run together
NEAR_LAZY = 1e-3  # a gamma at which the loss's Hessian is its Gauss-Newton part, for the scale of the search


@dataclass(frozen=True, eq=False)
class StableRates(PlottableResult):
    """The largest stable raw learning rates.

    Attributes:
        gammas: (G,). rates: (G, S), for each gamma and model; NaN where the search found none. above: (G, S), the
            lowest rate tried above it, at which training diverges. steps: of each training.

    `to_frame()`: one row for each gamma and model: gamma, model, rate, above, steps.
    """

    gammas: tuple[float, ...]
    rates: Tensor
    above: Tensor
    steps: int

    def slope(self, low: float, high: float) -> tuple[float, float]:
        """Least-squares slope of log rate (mean over models) on log gamma for low <= gamma <= high, and its error.

        BadInput for fewer than two such gammas, or one at which no rate was found.
        """
        kept = [i for i, g in enumerate(self.gammas) if low * (1 - 1e-6) <= g <= high * (1 + 1e-6)]
        if len(kept) < 2:
            raise BadInput(f"a slope needs two gammas from {low:g} to {high:g}, there are {len(kept)}")
        lost = [f"{self.gammas[i]:g}" for i in kept if not bool(torch.isfinite(self.rates[i]).all())]
        if lost:
            raise BadInput(f"no stable rate was found at gamma {', '.join(lost)}: leave it out, or give more steps")
        x = torch.tensor([math.log(self.gammas[i]) for i in kept], dtype=WORKING)
        y = self.rates[kept].log().mean(1)
        x, y = x - x.mean(), y - y.mean()
        slope = float(x @ y / (x @ x))
        rest = float((y - slope * x).square().sum())
        return slope, math.sqrt(rest / max(len(kept) - 2, 1) / float(x @ x))

    def _columns(self) -> dict[str, Any]:
        table = pair_columns(self.gammas, range(self.rates.shape[1]), rate=self.rates, above=self.above)
        return {"gamma": table.pop("row"), "model": table.pop("column"), **table, "steps": self.steps}

    def _chart(self) -> Plot:
        mean = self.rates.log().nanmean(1).exp()
        title = "largest stable rate, geometric mean over models"
        return line_chart(title, "gamma", "rate", self.gammas, mean, log_x=True, log_y=True)

    def __str__(self) -> str:
        return f"StableRates: {len(self.gammas)} gammas, {self.rates.shape[1]} models, {self.steps} steps each"


def largest_stable_lr(
    models: nn.Module | Sequence[nn.Module],
    inputs: Any,
    targets: Any,
    gammas: Sequence[float],
    *,
    loss: Loss = "mse",
    steps: int = 300,
    precision: float = 0.01,
    ceiling: float = math.inf,
    readout: Readout | None = None,
) -> StableRates:
    """The largest raw rate eta at which gradient descent from each model ends below the loss it began with.

    By bisection in log eta; all gammas, models and candidates are trained together, in float64. `train_at_gamma`'s lr
    for the same steps is eta * (loss at f = 0) / gamma^2. The frontier is not smooth at fine scales: average over
    models. Large gamma needs more steps (about gamma^(1 - 2/L)), or training ends before the curvature has grown.

    Args:
        models: one initial network, or several of one architecture (seeds).
        loss: as in `sharpness`. steps: of each training. precision: relative width of the final bracket.
        ceiling: of the loss over its first value, above which a training counts as diverged too. Infinity lets
            catapults pass, which raises eta* in lazy networks by up to two (Lewkowycz et al. 2020), by less the smaller
            gamma and the fewer steps; a low one, as 10, does not.

    Raises BadInput for models of several architectures, or settings out of range.

    Source: Atanasov et al. 2024, the (learning rate, richness) plane; slopes: see the module's text.

    >>> net, x = nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [3.0]])  # quadratic: diverges above 2 / 10
    >>> found = largest_stable_lr(net, x, 2 * x, [1.0, 0.1])
    >>> [round(float(rate), 3) for rate in found.rates.flatten()]
    [0.2, 0.002]
    """
    nets = [models] if isinstance(models, nn.Module) else list(models)
    _check(nets, gammas, steps, precision, ceiling)
    trial = _Trials([functional(net, readout=readout) for net in nets], inputs, targets, loss, ceiling)
    scale = torch.tensor([2 / (NEAR_LAZY**2 * sharpness(
        net, inputs, targets, loss=loss, initial=net, gamma=NEAR_LAZY, rtol=1e-3, readout=readout).top)
        for net in nets], dtype=WORKING).abs()  # fmt: skip
    gamma = torch.tensor([float(g) for g in gammas], dtype=WORKING)[:, None]
    # The frontier goes as gamma^2 below gamma = 1, as gamma^(2/L) above: between 1 and gamma^2 at any depth L.
    low = (0.01 * scale * gamma.square().clamp_max(1.0)).log()
    high = (100 * scale * gamma.square().clamp_min(1.0)).log()
    bottom, top = low, high
    while float((high - low).max()) > math.log1p(precision):
        inner = torch.linspace(0, 1, CANDIDATES + 2, dtype=WORKING)[1:-1]
        grid = low[..., None] + (high - low)[..., None] * inner
        bad = trial.diverges(grid.exp(), gamma, steps)
        # The next bracket ends at the lowest candidate that diverges.
        first = torch.where(bad.any(-1), bad.int().argmax(-1), CANDIDATES)[..., None]
        points = torch.cat([low[..., None], grid, high[..., None]], -1)
        low, high = points.gather(-1, first)[..., 0], points.gather(-1, first + 1)[..., 0]
    # A bracket that touches an end of the range shows no frontier inside of it.
    found = (low > bottom) & (high < top)
    return StableRates(tuple(map(float, gammas)), torch.where(found, low.exp(), math.nan), high.exp(), steps)


def _check(nets: list[nn.Module], gammas: Sequence[float], steps: int, precision: float, ceiling: float) -> None:
    if not nets or len(gammas) == 0:
        raise BadInput(f"needed are models and gammas, got {len(nets)} and {len(gammas)}")
    for gamma in gammas:
        if not (gamma > 0 and math.isfinite(gamma)):
            raise BadInput(f"gamma={gamma} must be a positive number")
    if steps < 2 or not 0 < precision < 1 or not ceiling > 1:
        raise BadInput(
            f"steps={steps} must be at least 2, precision={precision} between 0 and 1, and ceiling={ceiling} above 1"
        )
    shapes = [[(name, p.shape) for name, p in net.named_parameters()] for net in nets]
    if any(s != shapes[0] for s in shapes):
        raise BadInput("models must be of one architecture: they are trained as one batch")


class _Trials:
    """Many trainings of one architecture at once: weights stacked along a first axis."""

    def __init__(self, functions: list[Functional], inputs: Any, targets: Any, loss: Loss, ceiling: float) -> None:
        self.ceiling = ceiling
        self.f, self.functions, self.loss = functions[0], functions, loss
        self.inputs = self.f.inputs(inputs)
        goal = as_goal(targets, "targets").to(self.f.device)
        if goal.shape[0] != n_samples(self.inputs):
            raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(self.inputs)} samples")
        with torch.no_grad():
            starts = torch.stack([f(f.theta, self.inputs) for f in functions])
        self.starts = require_finite(starts, "the network's outputs on the inputs")
        goal = as_classes(goal, self.starts.shape[2])
        self.goal = prepared_targets(goal, loss, self.starts.shape[2], WORKING)
        require_gradient(self.starts[0], self.goal, loss)
        loss_at_zero(self.starts[0], self.goal, loss)  # training has to end below it
        saved, _ = saved_bytes(self.f, self.inputs)
        one = 4 * 8 * self.f.n_parameters + 2 * saved * n_samples(self.inputs)
        self.at_once, self.vectorised = max(1, AT_ONCE // max(1, one)), True

    def diverges(self, rates: Tensor, gamma: Tensor, steps: int) -> Tensor:
        """(G, S, K) whether training at each rate diverges; gamma (G, 1)."""
        model = torch.arange(len(self.functions))[None, :, None].expand(rates.shape).flatten()
        flat = gamma[..., None].expand(rates.shape).flatten()
        out = [
            self._train(rate, g, which, steps)
            for rate, g, which in zip(
                rates.flatten().split(self.at_once), flat.split(self.at_once), model.split(self.at_once), strict=True
            )
        ]
        return torch.cat(out).view(rates.shape)

    def _train(self, rate: Tensor, gamma: Tensor, which: Tensor, steps: int) -> Tensor:
        chosen = [self.functions[int(i)] for i in which]
        weights = {n: torch.stack([f.theta[n] for f in chosen]).requires_grad_() for n in self.f.theta}
        fixed = {n: torch.stack([f.fixed[n] for f in chosen]) for n in self.f.fixed}
        starts, gamma, rate = (t.to(self.f.device) for t in (self.starts[which], gamma, rate))
        with torch.no_grad():
            first = self._losses(weights, fixed, starts, gamma)
        bad = torch.zeros_like(first, dtype=torch.bool)
        for _ in range(steps):
            value = self._losses(weights, fixed, starts, gamma)
            bad |= ~(value.detach() <= self.ceiling * first)
            slopes = torch.autograd.grad(value.sum(), list(weights.values()), allow_unused=True)
            with torch.no_grad():
                for weight, slope in zip(weights.values(), slopes, strict=True):
                    if slope is not None:
                        weight -= rate.view(-1, *[1] * (slope.ndim - 1)) * slope
        with torch.no_grad():
            return (bad | ~(self._losses(weights, fixed, starts, gamma) < first)).cpu()

    def _losses(self, weights: dict[str, Tensor], fixed: dict[str, Tensor], starts: Tensor, gamma: Tensor) -> Tensor:
        def one(own: dict[str, Tensor], constant: dict[str, Tensor], start: Tensor, gamma: Tensor) -> Tensor:
            f = (self.f({**constant, **own}, self.inputs) - start) / gamma
            return loss_of(f, self.goal, self.loss)

        if self.vectorised:
            try:
                return torch.func.vmap(one)(weights, fixed, starts, gamma)
            except (RuntimeError, ValueError) as error:  # recurrent kernels, control flow by data
                if is_out_of_memory(error):
                    raise
                self.vectorised = False
        return torch.stack([
            one({n: w[b] for n, w in weights.items()}, {n: w[b] for n, w in fixed.items()}, starts[b], gamma[b])
            for b in range(len(gamma))
        ])  # fmt: skip
