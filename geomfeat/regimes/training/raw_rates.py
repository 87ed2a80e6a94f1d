"""The rates at which raw weights move, where a rule of descent acts on u = (w - w0) / gamma.

With dw/du = c, a gradient by u is c times one by w. So a step of u that is proportional to it moves w at c^2 times the
rate, one that is divided by the gradient's size at c times the rate, and that size is one of w after division by c.
"""

from dataclasses import replace

from geomfeat.models.trained_parameters import plain_name
from geomfeat.regimes.training.objective import Objective
from geomfeat.regimes.training.optimizers import Adam, Foreign, Momentum
from geomfeat.tangent.optimizer_rates import OptimizerRates, rates_among


def plain_rates(problem: Objective, lr: float) -> OptimizerRates:
    """The rates of gradient descent on u."""
    return _of_raw_weights(OptimizerRates(dict.fromkeys(map(plain_name, problem.start), lr)), problem)


def rates_of_rule(problem: Objective, rule: Momentum | Adam | Foreign) -> OptimizerRates:
    """The rates of a rule, with the sizes of gradients that it holds now. BadInput for a torch optimizer without any.

    Sizes of steps that became infinite are left out.
    """
    if isinstance(rule, Foreign):
        return _of_raw_weights(rates_among(rule.optimizer, dict(zip(problem.start, rule.leaves, strict=True))), problem)
    if isinstance(rule, Momentum):
        return plain_rates(problem, rule.step_size.value)
    shapes = {plain_name(name): w.shape for name, w in problem.start.items()}
    sizes, spread = {}, rule.spread
    if spread is not None and bool(spread.isfinite().all()):
        pieces = spread.split([shape.numel() for shape in shapes.values()])
        sizes = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
    found = OptimizerRates(dict.fromkeys(shapes, rule.step_size.value), sizes, frozenset(shapes))
    return _of_raw_weights(found, problem)


def _of_raw_weights(found: OptimizerRates, problem: Objective) -> OptimizerRates:
    by_size = found.adaptive | found.orthogonal
    moved_by = {plain_name(name): problem.step_of(name) for name in problem.start}  # dw/du
    rates = {name: rate * moved_by[name] ** (1 if name in by_size else 2) for name, rate in found.rates.items()}
    sizes = {name: size / moved_by[name] for name, size in found.sizes.items()}
    return replace(found, rates=rates, sizes=sizes)
