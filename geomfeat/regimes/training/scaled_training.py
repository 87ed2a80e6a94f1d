"""The richness knob: train any torch module at a chosen output scale gamma.

    f = (net(w) - net(w0)) / gamma,     learning rate eta0 * gamma^2 on w

gamma << 1 is lazy (the network stays at its linearisation), gamma >> 1 rich (Chizat et al. 2019; Geiger et al. 2020).
Only the targets' demand on the raw network changes: it has to produce gamma times the targets.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput, require_kind
from geomfeat.labels import Labels, goal_of
from geomfeat.models.functional import Readout, call, unwrapped
from geomfeat.models.modules import copied, in_precision
from geomfeat.models.nested_inputs import as_inputs, moved, n_samples, take
from geomfeat.numerics import resolve_device
from geomfeat.regimes.training.class_targets import as_classes
from geomfeat.regimes.training.gradient_descent import Settings, descend
from geomfeat.regimes.training.layer_rates import rate_factors
from geomfeat.regimes.training.objective import Loss, objective
from geomfeat.regimes.training.optimizers import MakeOptimizer
from geomfeat.regimes.training.options import LOG, TrainOptions, require_fine
from geomfeat.regimes.training.result import Trained, result, samples_to_judge
from geomfeat.regimes.training.richness import FLOAT64_BELOW, Richness
from geomfeat.regimes.training.series import log_spaced_steps

logger = logging.getLogger(__name__)

LOG_STEPS_PER_DECADE = 4


def train_at_gamma(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    gamma: float | Richness,
    loss: Loss = "mse",
    target_loss: float | None = None,
    lr: float | None = None,
    max_steps: int = 2000,
    readout: Readout | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | Callable[[int, float], None] | None = None,
    options: TrainOptions = TrainOptions(),
) -> Trained:
    """Train a copy of `model` on f = (net(w) - net(w0)) / gamma; the given model is unchanged.

    Args:
        inputs: tensor, tuple or mapping, samples first. targets: (n,) integer classes or (n, C) values.
        gamma: output scale, > 0, or a `Richness`; small is lazy, large is rich.
        loss: "mse" (mean over samples of the sum of squares over outputs; classes become one-hot rows minus 1/C),
            "cross-entropy", or a callable (f, targets) -> positive scalar. Every loss is divided by its value at
            f = 0, so training starts at 1 and stops at `target_loss`.
        lr: eta0. Default: 1 / (largest Gauss-Newton curvature), re-estimated while training, and no step longer than
            3 % of the weights' norm (Adam: 1e-3 min(1, 1/gamma)).
        max_steps: full-batch steps, or those of minibatches if the options have a batch size.
        readout: (output, inputs) -> (n, C) where the network's output is no such tensor.
        progress: True for a bar, or a function of (step, relative loss).
        options: batches, optimizer, rates by layer, weight decay, precision, test data, snapshots: see `TrainOptions`.

    The path ends within 1 % below `target_loss`, since the last step is cut. Training that cannot get there, or that
    diverges, ends at the last good point with converged=False and a note.

    Raises BadInput for settings out of range, targets that do not fit, or a model or inputs with NaN.

    Source: the scaled objective of Chizat et al. 2019 with h = net(w) - net(w0), alpha = 1 / gamma; Karkada 2024.

    >>> from geomfeat.models.mlp import mlp
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> trained = train_at_gamma(mlp(4, (16,), 2), x, y, gamma=1.0, target_loss=0.1)
    >>> trained.converged, trained.train_accuracy, 0.099 <= trained.train_loss <= 0.1
    (True, 1.0, True)
    """
    require_kind(options, TrainOptions, "options")
    gamma = (gamma if isinstance(gamma, Richness) else Richness(gamma)).gamma
    optimizer = options.optimizer
    _check(lr, target_loss, max_steps, optimizer)
    wanted = _wanted(options.snapshot_steps, max_steps)
    original = unwrapped(model)
    first = next(original.parameters(), None)
    where = resolve_device(device, first)
    kind = options.dtype or (torch.float64 if gamma < FLOAT64_BELOW or first is None else first.real.dtype)
    kind = torch.float32 if kind in (torch.float16, torch.bfloat16) else kind
    if options.dtype is None and first is not None:
        kind = _runnable(original, as_inputs(inputs), where, kind, first.real.dtype)
    own = in_precision(copied(original), where, kind)
    data, given = moved(as_inputs(inputs), where, kind), goal_of(targets, "targets")
    goal = (given.codes if isinstance(given, Labels) else given).to(where)
    if n_samples(data) != goal.shape[0]:
        raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(data)} samples")
    if options.mode == "train":
        _check_batches(own, min(options.batch_size or len(goal), len(goal)))
    factors = rate_factors(own, options.lr_multipliers)
    problem = objective(_without_frozen(own, factors), data, goal, gamma=gamma, loss=loss, readout=readout,
                        mode=options.mode, centered=options.centered, weight_decay=options.weight_decay,
                        scales=_scales(factors, optimizer))  # fmt: skip
    test = None if options.test is None else samples_to_judge(problem, options.test, given)
    goal = as_classes(goal, problem.reference.shape[1])
    bar = _bar(progress, gamma, target_loss)
    settings = Settings(target_loss, max_steps, lr, options, seed, wanted, bar, factors)
    began = time.perf_counter()
    path = descend(problem, settings)
    if options.snapshot_steps == LOG:
        path.keep(path.steps, path.u)
    if bar is not None and hasattr(bar, "close"):
        bar.close()
    return result(problem, path, original, goal, test, seed, time.perf_counter() - began)


def _without_frozen(model: nn.Module, factors: Mapping[str, float]) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and factors[name] > 0)
    return model


def _scales(factors: Mapping[str, float], optimizer: str | MakeOptimizer) -> dict[str, float]:
    """Units of u that make one rate on u the wished rates on w. A torch optimizer has rates by group instead."""
    if callable(optimizer) or set(factors.values()) == {1.0}:
        return {}
    power = 1.0 if optimizer == "adam" else 0.5
    return {name: factor**power for name, factor in factors.items()}


def _wanted(steps: Iterable[int] | str, max_steps: int) -> frozenset[int]:
    if isinstance(steps, str):
        # The last step is kept wherever the path ends (see `train_at_gamma`).
        return frozenset(log_spaced_steps(max(max_steps, 1), LOG_STEPS_PER_DECADE))
    return frozenset(steps)


def _runnable(
    model: nn.Module, inputs: Any, where: torch.device, wanted: torch.dtype, native: torch.dtype
) -> torch.dtype:
    """The wanted precision; the model's own where it runs in that alone, as with tensors made in float32 inside."""
    native = torch.float32 if native in (torch.float16, torch.bfloat16) else native
    if wanted == native:
        return wanted
    for kind in (wanted, native):
        trial = in_precision(copied(model), where, kind).eval()
        try:
            with torch.no_grad():
                call(trial, moved(take(inputs, slice(0, 2)), where, kind))
        except RuntimeError as error:
            logger.info("the model does not run in %s: %s", kind, error)
            continue
        if kind != wanted:
            logger.info("training in %s, in which a small gamma leaves fewer digits", kind)
        return kind
    return wanted


def _check(lr: float | None, target_loss: float | None, max_steps: int, optimizer: str | MakeOptimizer) -> None:
    require_fine(
        ("lr", lr, lr is None or (lr > 0 and math.isfinite(lr)), "positive, or None to take it from the curvature"),
        ("lr", lr, lr is None or not callable(optimizer), "left out: set it in the optimizer that you return"),
        ("target_loss", target_loss, target_loss is None or 0 < target_loss < 1,
         "between 0 and 1: the share of the loss at f = 0 that may be left"),
        ("max_steps", max_steps, max_steps >= 0, "at least 0"),
    )  # fmt: skip


def _check_batches(model: nn.Module, smallest: int) -> None:
    if smallest == 1 and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise BadInput(
            "mode='train' takes BatchNorm's statistics from the batch, and one sample has none: "
            "give batches of two samples or more, or mode='eval'"
        )


def _bar(progress: bool | Callable[[int, float], None] | None, gamma: float, target: float | None) -> Any:
    if progress is not True:
        return progress or None
    from tqdm.auto import tqdm

    class Bar:
        """Fills as log(loss) falls to log(target_loss); without a target it counts steps."""

        def __init__(self) -> None:
            self.bar = tqdm(total=100 if target else None, desc=f"training at gamma {gamma:g}", leave=False)

        def __call__(self, step: int, loss: float) -> None:
            done = step if target is None else int(100 * min(1.0, math.log(max(loss, 1e-300)) / math.log(target)))
            self.bar.update(max(0, done - self.bar.n))
            self.bar.set_postfix(loss=f"{loss:.3g}", step=step, refresh=False)

        def close(self) -> None:
            self.bar.close()

    return Bar()
