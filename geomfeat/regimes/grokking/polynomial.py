"""Grokking in a two-layer polynomial network: how the delay of the test loss grows with the output scale alpha.

Kumar et al. 2024, section 3. The network learns the square of one direction of its inputs:

    f(x) = (alpha / N) sum_i [phi(w_i . x) - phi(w_i(0) . x)],   phi(h) = h + eps h^2 / 2,   y = (beta . x)^2 / 2
    x ~ N(0, I / D),   w_i(0) ~ N(0, I_D),   |beta|^2 = D

by full-batch gradient descent on half the mean square with rate N / alpha^2, so that the linearised network learns
equally fast at every alpha. Its tangent kernel, times that rate, is

    K(x, x') = (x . x') (1 / N) sum_i phi'(w_i . x) phi'(w_i . x'),   phi'(h) = 1 + eps h.

At the start K is nearly the linear kernel, which cannot express y beyond the training samples; eps alone lets the
weights find beta, and 1 / alpha is how far they have to move.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, Device, stream
from geomfeat.regimes.training.series import TrainingSeries, kernel_path, log_spaced_steps


@dataclass(frozen=True)
class PolynomialTask:
    """Sizes of the problem; the defaults are those of the paper's figure.

    Attributes:
        inputs: D. samples: training samples. width: N. eps: weight of the square in phi.
        test_samples: fresh samples on which the test loss is taken.
    """

    inputs: int = 30
    samples: int = 150
    width: int = 100
    eps: float = 0.25
    test_samples: int = 1000

    def __post_init__(self) -> None:
        if min(self.inputs, self.width, self.test_samples) < 1 or self.samples < 6 or not math.isfinite(self.eps):
            raise BadInput(
                f"inputs={self.inputs}, width={self.width}, test_samples={self.test_samples} must be at least 1, "
                f"samples={self.samples} at least 6, and eps={self.eps} finite"
            )


@dataclass(frozen=True, eq=False)
class GrokkingRun(PlottableResult):
    """Runs at every seed and alpha, recorded at log-spaced steps.

    Attributes:
        seeds, alphas: what was run. steps: recorded, from 0.
        series: (seed, alpha) -> its `TrainingSeries`; losses are relative to those of f = 0, so they start at 1.

    `to_frame()`: one row for each run and step: seed, alpha, then the columns of its `TrainingSeries`.
    """

    seeds: tuple[int, ...]
    alphas: tuple[float, ...]
    steps: tuple[int, ...]
    series: dict[tuple[int, float], TrainingSeries]

    def _columns(self) -> dict[str, Any]:
        found: dict[str, list[Any]] = {"seed": [], "alpha": []}
        for (seed, alpha), series in self.series.items():
            found["seed"] += [seed] * len(series.steps)
            found["alpha"] += [alpha] * len(series.steps)
            for name, values in series._columns().items():
                found.setdefault(name, []).extend(values)
        return found

    def _chart(self) -> Plot:
        first = {alpha: run for (seed, alpha), run in self.series.items() if seed == self.seeds[0]}
        curves = [Curve(f"alpha = {alpha:g}", run.steps, run.test_loss or ()) for alpha, run in first.items()]
        return Plot(f"seed {self.seeds[0]}", "step", "relative test loss", curves, log_y=True)

    def __str__(self) -> str:
        seeds, alphas = (", ".join(f"{v:g}" for v in values) for values in (self.seeds, self.alphas))
        return f"GrokkingRun: seeds {seeds}; alphas {alphas}; {len(self.steps)} recorded steps"


def polynomial_kernel(weights: Float[Tensor, "D N"], x: Float[Tensor, "n D"], eps: float) -> Float[Tensor, "n n"]:
    """The tangent kernel times N / alpha^2: (x . x') mean_i phi'(w_i . x) phi'(w_i . x').

    >>> polynomial_kernel(torch.zeros(2, 5), torch.eye(2), 0.3).tolist()  # phi'(0) = 1: the linear kernel
    [[1.0, 0.0], [0.0, 1.0]]
    """
    slope = 1 + eps * (x @ weights)
    return (x @ x.mT) * (slope @ slope.mT) / weights.shape[1]


def polynomial_grokking(
    alphas: Sequence[float] = (0.5, 1, 2, 4, 8),
    seeds: Sequence[int] = (0,),
    *,
    steps: int = 10_000,
    rate: float = 1.0,
    task: PolynomialTask | None = None,
    per_decade: int = 15,
    device: Device = "cpu",
) -> GrokkingRun:
    """Train the network at every alpha and seed (of samples, beta and weights) side by side.

    Args:
        steps: of gradient descent. rate: 1 is the rate N / alpha^2; larger ones need fewer steps, up to about 10.
        per_decade: records in every factor of ten of the steps. device: of the trainings; draws are the same on all.

    Raises BadInput for an alpha that is not positive, or without alphas, seeds or steps. A run that diverges, at too
    high a rate, holds NaN from then on.

    >>> task = PolynomialTask(inputs=4, samples=20, width=10, test_samples=20)
    >>> found = polynomial_grokking([1.0], steps=50, rate=4.0, task=task).series[0, 1.0]
    >>> found.train_loss[0], found.train_loss[-1] < 0.5
    (1.0, True)
    """
    size = task or PolynomialTask()
    scales = [float(a) for a in alphas]
    if not scales or not len(seeds) or any(not (a > 0 and math.isfinite(a)) for a in scales):
        raise BadInput(f"alphas={scales} must be one or more positive numbers, and seeds={list(seeds)} one or more")
    if steps < 1 or not (rate > 0 and math.isfinite(rate)):
        raise BadInput(f"steps={steps} must be at least 1 and rate={rate} positive")
    recorded = log_spaced_steps(steps, per_decade)
    drawn = [tuple(part.to(device) for part in _draw(size, seed)) for seed in seeds]
    x, y, weights = (torch.stack([d[i] for d in drawn]) for i in (0, 1, 4))
    path = _descend(x, y, weights, torch.tensor(scales, dtype=WORKING, device=x.device), size.eps, rate, recorded)
    series = {
        (seed, alpha): _series(drawn[s], path[:, s, :, a], alpha, size.eps, recorded)
        for s, seed in enumerate(seeds)
        for a, alpha in enumerate(scales)
    }
    return GrokkingRun(tuple(seeds), tuple(scales), tuple(recorded), series)


def _draw(size: PolynomialTask, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Training inputs and targets, test inputs and targets, weights (D, N)."""

    def normal(*shape: int, name: str) -> Tensor:
        return torch.randn(*shape, generator=stream(seed, "polynomial grokking", name, *shape), dtype=WORKING)

    d = size.inputs
    beta = normal(d, name="beta")
    beta = beta * (math.sqrt(d) / beta.norm())
    x, z = normal(size.samples, d, name="train") / d**0.5, normal(size.test_samples, d, name="test") / d**0.5
    return x, (x @ beta).square() / 2, z, (z @ beta).square() / 2, normal(d, size.width, name="weights")


def _descend(
    x: Tensor, y: Tensor, weights: Tensor, alphas: Tensor, eps: float, rate: float, recorded: list[int]
) -> Tensor:
    """Weights (records, seeds, D, alphas, N) of descent from `weights` (seeds, D, N); x (seeds, P, D), y (seeds, P).

    The gradient of half the mean square by w_i is (alpha / N) mean_x phi'(w_i . x) (f(x) - y) x.
    """
    seeds, p, d = x.shape
    a, n = len(alphas), weights.shape[2]
    # The units of all alphas are columns of one matrix, so that a step is two products for each seed.
    now = weights[:, :, None, :].expand(seeds, d, a, n).reshape(seeds, d, a * n).clone()
    scale = alphas[:, None]
    start = _mean_phi((x @ now).view(seeds, p, a, n), eps)
    out, done = [], 0
    for step in recorded:
        for _ in range(step - done):
            h = (x @ now).view(seeds, p, a, n)
            error = scale[:, 0] * (_mean_phi(h, eps) - start) - y[:, :, None]
            # The rate N / alpha^2 times the alpha / N of the gradient leaves 1 / alpha. In place: h is needed no more.
            pull = h.mul_(eps).add_(1).mul_((error / alphas * (rate / p))[..., None])
            now -= x.mT @ pull.view(seeds, p, a * n)
        done = step
        out.append(now.view(seeds, d, a, n).clone())
    return torch.stack(out)


def _mean_phi(h: Tensor, eps: float) -> Tensor:
    """Mean over units of h + eps h^2 / 2."""
    return torch.addcmul(h, h, h, value=eps / 2).mean(-1)


def _series(drawn: tuple[Tensor, ...], path: Tensor, alpha: float, eps: float, recorded: list[int]) -> TrainingSeries:
    """Losses and kernel of one run; path (records, D, N)."""
    x, y, z, target, _ = drawn

    def loss(inputs: Tensor, wanted: Tensor) -> tuple[float, ...]:
        means = torch.stack([_mean_phi(inputs @ w, eps) for w in path])
        away = (alpha * (means - means[0]) - wanted).square().mean(1)
        return tuple((away / wanted.square().mean()).tolist())

    kernels = (polynomial_kernel(w, x, eps) for w in path)
    return TrainingSeries(tuple(map(float, recorded)), loss(x, y), kernel_path(kernels, y), loss(z, target))
