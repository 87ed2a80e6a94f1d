"""One step of descent: the size of the step, Nesterov momentum, Adam, and any torch optimizer.

All act on the displacement u = (w - w0) / gamma. So a rule whose step is proportional to the gradient moves the raw
weights with its rate times gamma^2, one whose step does not depend on the gradient's size with its rate times gamma.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.regimes.training.objective import Objective, top_curvature

MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
Gradient = Callable[[Tensor], tuple[float, Tensor]]  # u -> (relative loss, slope), of one batch
CURVATURE_ROUNDS = (20, 2)  # power iterations at the start, and later, when they begin with the last vector
LONGEST_STEP = 0.03  # largest step relative to the norm of the weights: the curvature holds only near them


class StepSize:
    """eta0 = trust / curvature, the curvature re-estimated along the way; or the given lr, only ever halved."""

    def __init__(self, problem: Objective, lr: float | None, share: float) -> None:
        self.problem, self.given, self.trust = problem, lr, 1.0 if lr is not None else share
        self.share, self.value = share, lr if lr is not None else 0.0
        self.vector: Tensor | None = None
        self.size = math.sqrt(sum(float(w.square().sum()) for w in problem.start.values()))

    def refresh(self, u: Tensor) -> None:
        """Estimate the curvature at u; regain half of the trust that earlier halvings took."""
        if self.given is not None:
            return
        first = self.vector is None
        curvature, self.vector = top_curvature(self.problem, u, self.vector, CURVATURE_ROUNDS[0 if first else 1])
        stiffest = max((self.problem.step_of(name) for name in self.problem.start), default=0.0)
        # The penalty is quadratic in the raw weights; u moves them by up to this factor.
        curvature += self.problem.weight_decay * stiffest**2
        self.trust = min(self.share, 1.5 * self.trust)
        if curvature > 0 and math.isfinite(curvature):
            self.value = self.trust / curvature
        elif self.value == 0:
            self.value = self.share

    def limited(self, direction: Tensor, u: Tensor) -> Tensor:
        """The step, cut where it would move the weights by more than their own size times LONGEST_STEP."""
        step = self.value * direction
        if self.given is not None:
            return step
        longest = LONGEST_STEP * (self.size / self.problem.gamma + float(self.problem.moved(u).norm()))
        return step * min(1.0, longest / max(float(self.problem.moved(step).norm()), 1e-300))

    def halve(self) -> None:
        """After a step that raised the loss."""
        self.trust, self.value = 0.5 * self.trust, 0.5 * self.value


class Momentum:
    """Nesterov momentum; plain gradient descent at momentum 0."""

    def __init__(self, problem: Objective, lr: float | None, momentum: float) -> None:
        # Half the full-batch step: single batches are more curved than their mean.
        self.step_size = StepSize(problem, lr, 0.5)
        self.momentum = momentum
        self.forget()

    def forget(self) -> None:
        """Start anew from rest."""
        self.velocity: Tensor | float = 0.0

    def step(self, u: Tensor, gradient: Gradient) -> Tensor:
        """The next displacement."""
        _, slope = gradient(u)
        self.velocity = self.momentum * self.velocity + slope
        return u - self.step_size.value * (slope + self.momentum * self.velocity)


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) on u: the raw weights move by up to gamma * lr a step."""

    def __init__(self, problem: Objective, lr: float | None, momentum: float) -> None:
        default = 1e-3 * min(1.0, 1.0 / problem.gamma)
        self.step_size = StepSize(problem, lr if lr is not None else default, 1.0)
        self.forget()

    def forget(self) -> None:
        """Start anew from rest."""
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.count = 0

    @property
    def spread(self) -> Tensor | None:
        """Root mean square of the gradients so far, unbiased; None before the first step."""
        return (self.second / (1 - 0.999**self.count)).sqrt() if isinstance(self.second, Tensor) else None

    def step(self, u: Tensor, gradient: Gradient) -> Tensor:
        """The next displacement."""
        _, slope = gradient(u)
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope.square()
        mean, spread = self.first / (1 - 0.9**self.count), self.spread
        assert spread is not None
        # Adam's epsilon relative to the gradients, so that the path does not depend on the scale of the loss or gamma.
        return u - self.step_size.value * mean / (spread + 1e-8 * spread.mean().clamp_min(1e-30))


class GroupRates:
    """The learning rates of a torch optimizer, which are only ever halved, all together."""

    def __init__(self, optimizer: torch.optim.Optimizer, factors: Mapping[int, float]) -> None:
        self.optimizer = optimizer
        first = optimizer.param_groups[0]
        self.value = float(first["lr"])
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factors[id(group["params"][0])]

    def refresh(self, u: Tensor) -> None:
        """Nothing: these rates do not follow the curvature."""

    def halve(self) -> None:
        """After an epoch that raised the loss."""
        self.value *= 0.5
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * 0.5


class Foreign:
    """Any torch optimizer, on the pieces of u in the shapes of their parameters, a group for each learning-rate factor.

    Its own weight decay would pull u to 0, so w to w0; every group says 0, and another wish is refused.
    """

    def __init__(self, problem: Objective, make: MakeOptimizer, factors: Mapping[str, float]) -> None:
        self.leaves = [nn.Parameter(torch.zeros_like(w)) for w in problem.start.values()]
        of_leaf = {id(leaf): factors.get(name, 1.0) for leaf, name in zip(self.leaves, problem.start, strict=True)}
        groups = [
            {"params": [leaf for leaf in self.leaves if of_leaf[id(leaf)] == factor], "weight_decay": 0.0}
            for factor in dict.fromkeys(of_leaf.values())
        ]
        optimizer = make(groups)
        _check_optimizer(optimizer, set(of_leaf))
        self.optimizer, self.step_size = optimizer, GroupRates(optimizer, of_leaf)

    def forget(self) -> None:
        """Start anew from rest."""
        self.optimizer.state.clear()

    def step(self, u: Tensor, gradient: Gradient) -> Tensor:
        """The next displacement."""
        self._place(u, "data")

        def closure() -> float:
            loss, slope = gradient(self._flat())
            self._place(slope, "grad")
            return loss

        self.optimizer.step(closure)
        return self._flat()

    def _flat(self) -> Tensor:
        return torch.cat([leaf.detach().flatten() for leaf in self.leaves])

    def _place(self, values: Tensor, what: str) -> None:
        with torch.no_grad():
            for leaf, piece in zip(self.leaves, values.split([w.numel() for w in self.leaves]), strict=True):
                if what == "data":
                    leaf.copy_(piece.view_as(leaf))
                else:
                    leaf.grad = piece.view_as(leaf).clone()


def _check_optimizer(optimizer: Any, leaves: set[int]) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise BadInput(
            f"optimizer(groups) must return a torch.optim.Optimizer, got {type(optimizer).__name__}: "
            "for example optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3)"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if held != leaves:
        raise BadInput("optimizer(groups) must hold the parameters of all groups that it is given, and no others")
    if "lr" not in optimizer.param_groups[0]:
        raise BadInput(f"{type(optimizer).__name__} has no learning rate to scale: take another optimizer")
    usual = inspect.signature(type(optimizer)).parameters.get("weight_decay")
    if usual is not None and optimizer.defaults.get("weight_decay", 0) not in (0, usual.default):
        raise BadInput(
            "the optimizer's weight_decay would pull the weights to their initial values: "
            "leave it out, and give TrainOptions(weight_decay=...) to train_at_gamma"
        )
