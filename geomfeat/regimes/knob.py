"""The richness knob: train any torch module at a chosen output scale gamma.

    f = (net(w) - net(w0)) / gamma,     learning rate eta0 * gamma^2 on w

gamma << 1 is lazy (the network stays at its linearisation), gamma >> 1 rich (Chizat et al. 2019; Geiger et al. 2020).
Only the targets' demand on the raw network changes: it has to produce gamma times the targets.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout, as_inputs, batches, call, functional, moved, n_samples, unwrapped
from geomfeat.numerics import as_tensor, resolve_device
from geomfeat.regimes.descent import Path, Settings, descend
from geomfeat.regimes.objective import Loss, Objective, loss_of, objective, prepared_targets

FLOAT64_BELOW = 1e-3  # below this gamma the division by gamma eats the digits of float32
OPTIMIZERS = ("sgd", "adam")
MODES = ("eval", "train")


def gamma_from(
    *, alpha: float | None = None, gamma0: float | None = None, r: float | None = None, width: float | None = None
) -> float:
    """gamma from other papers' knobs; give exactly one of them.

    alpha: Chizat et al. 2019, gamma = 1 / alpha. gamma0: Bordelon and Pehlevan 2022, gamma = gamma0 sqrt(width).
    r: Karkada 2024, gamma = width^r (0 lazy, 1/2 rich), in NTK parameterization.

    Raises BadInput for none or several, for a value that is not positive (r: finite), or without the width they need.

    >>> gamma_from(alpha=100.0), gamma_from(gamma0=0.5, width=64), gamma_from(r=0.5, width=256)
    (0.01, 4.0, 16.0)
    """
    given = {k: v for k, v in {"alpha": alpha, "gamma0": gamma0, "r": r}.items() if v is not None}
    if len(given) != 1:
        raise BadInput(f"give exactly one of alpha=, gamma0=, r=, got {sorted(given) or 'none'}")
    ((name, value),) = given.items()
    if not math.isfinite(value) or (name != "r" and value <= 0):
        raise BadInput(f"{name}={value} must be a {'finite' if name == 'r' else 'positive'} number")
    if name == "alpha":
        return 1.0 / value
    if width is None or not width >= 1:
        raise BadInput(f"{name}= needs the network's width= (at least 1), got {width}")
    return value * math.sqrt(width) if name == "gamma0" else float(width) ** value


@dataclass(frozen=True, eq=False)
class Trained:
    """A network trained at output scale gamma.

    Attributes:
        model: trained copy, in the given model's mode, dtype (float64 if it was trained so) and on its device.
        gamma: the output scale. initial_loss: relative loss at the start, 1. train_loss: relative loss reached.
        steps: taken. lr: eta0 at the end; the raw weights moved with lr * gamma^2 (Adam: lr * gamma).
        backoffs: how often the step was halved. converged: target reached (without a target: all steps were taken).
        note: what stopped it otherwise. history: columns step, loss.
        train_accuracy, test_accuracy: share of samples with the right largest f, for integer classes; else None.
        test_loss: relative to the loss of f = 0 on the training targets; None without test data.
        snapshots: step -> copy of the network, for `snapshot_steps`.
        seconds: wall time.
    """

    model: nn.Module
    gamma: float
    initial_loss: float
    train_loss: float
    steps: int
    lr: float
    backoffs: int
    converged: bool
    note: str
    history: pd.DataFrame
    train_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    snapshots: Mapping[int, nn.Module] = field(default_factory=dict)
    seconds: float = 0.0

    def outputs(self, initial: nn.Module, inputs: Any, readout: Readout | None = None) -> Tensor:
        """f = (net(w) - net(w0)) / gamma (n, C) of the trained against the initial network, both in evaluation mode."""
        return scaled_outputs(self.model, initial, inputs, gamma=self.gamma, readout=readout)


def scaled_outputs(
    model: nn.Module, initial: nn.Module, inputs: Any, *, gamma: float, readout: Readout | None = None
) -> Tensor:
    """f = (net(w) - net(w0)) / gamma (n, C), in evaluation mode and the trained network's precision."""

    def values(network: nn.Module) -> Tensor:
        first = next(network.parameters(), None)
        f = functional(network, dtype=kind, device=None if first is None else first.device, readout=readout)
        with torch.no_grad():
            return f(f.theta, f.inputs(inputs))

    kind = next(model.parameters()).dtype
    after = values(model)
    return (after - values(initial).to(after.device)) / gamma


def train_at_gamma(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    gamma: float,
    loss: Loss = "mse",
    target_loss: float | None = None,
    lr: float | None = None,
    max_steps: int = 2000,
    batch_size: int | None = None,
    momentum: float = 0.9,
    optimizer: str = "sgd",
    mode: str = "eval",
    back_off: bool = True,
    readout: Readout | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    test: tuple[Any, Any] | None = None,
    snapshot_steps: Sequence[int] = (),
    progress: bool | Callable[[int, float], None] | None = None,
) -> Trained:
    """Train a copy of `model` on f = (net(w) - net(w0)) / gamma; the given model is not touched.

    Args:
        inputs: tensor, tuple or mapping, samples first. targets: (n,) integer classes or (n, C) values.
        gamma: output scale, > 0; small is lazy, large is rich.
        loss: "mse" (mean over samples of the sum of squares over outputs; classes become one-hot rows minus 1/C),
            "cross-entropy", or a callable (f, targets) -> positive scalar. Every loss is divided by its value at
            f = 0, so training starts at 1 and `target_loss` is the share of it that may be left.
        lr: eta0. Default: 1 / (largest Gauss-Newton curvature), re-estimated while training, and no step longer than
            3 % of the weights' norm (Adam: 1e-3 min(1, 1/gamma)).
        max_steps: minibatch steps if `batch_size` is given, else full-batch ones.
        momentum: of SGD, Nesterov; restarted where it would raise the loss. 0 follows gradient flow most closely.
        optimizer: "sgd" or "adam". No weight decay, no dropout.
        mode: "eval" (BatchNorm keeps the running statistics that `model` has, so f is a function of each sample) or
            "train" (batch statistics; the returned network's running ones are re-estimated on `inputs`).
        back_off: undo a step that raises the loss, and halve the step size; False keeps going, as for catapults.
        dtype: of the computation; default the model's, or float64 below gamma = 1e-3.
        test: (inputs, targets) to report on. snapshot_steps: steps at which to keep a copy.
        progress: True for a bar, or a function of (step, relative loss).

    The path ends within 1 % below `target_loss`, since the last step is cut. Training that cannot get there ends at the
    last good point with converged=False and a note.

    Raises BadInput for settings out of range, targets that do not fit, or a model or inputs with NaN.

    Source: the scaled objective of Chizat et al. 2019 with h = net(w) - net(w0), alpha = 1 / gamma; Karkada 2024.

    >>> from geomfeat.models.mlp import mlp
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> trained = train_at_gamma(mlp(4, (16,), 2), x, y, gamma=1.0, target_loss=0.1)
    >>> trained.converged, trained.train_accuracy, 0.099 <= trained.train_loss <= 0.1
    (True, 1.0, True)
    """
    _check(gamma, lr, target_loss, max_steps, batch_size, momentum, optimizer, mode)
    original = unwrapped(model)
    first = next(original.parameters(), None)
    where = resolve_device(device, first)
    kind = dtype or (torch.float64 if gamma < FLOAT64_BELOW or first is None else first.dtype)
    kind = torch.float32 if kind in (torch.float16, torch.bfloat16) else kind
    own = copy.deepcopy(original).to(where, kind)
    data, goal = moved(as_inputs(inputs), where, kind), as_tensor(targets, "targets").to(where)
    if n_samples(data) != goal.shape[0]:
        raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(data)} samples")
    problem = objective(own, data, goal, gamma=gamma, loss=loss, readout=readout, mode=mode)
    bar = _bar(progress, gamma, target_loss)
    settings = Settings(target_loss, max_steps, lr, optimizer, momentum, batch_size, back_off, seed,
                        frozenset(snapshot_steps), bar)  # fmt: skip
    began = time.perf_counter()
    path = descend(problem, settings)
    if bar is not None and hasattr(bar, "close"):
        bar.close()
    return _result(problem, path, original, goal, test, time.perf_counter() - began)


def _check(
    gamma: float, lr: float | None, target_loss: float | None, max_steps: int, batch_size: int | None,
    momentum: float, optimizer: str, mode: str,
) -> None:  # fmt: skip
    for name, value, fine, what in (
        ("gamma", gamma, gamma > 0 and math.isfinite(gamma), "a positive number (small: lazy, large: rich)"),
        ("lr", lr, lr is None or (lr > 0 and math.isfinite(lr)), "positive, or None to take it from the curvature"),
        ("target_loss", target_loss, target_loss is None or 0 < target_loss < 1,
         "between 0 and 1: the share of the loss at f = 0 that may be left"),
        ("max_steps", max_steps, max_steps >= 0, "at least 0"),
        ("batch_size", batch_size, batch_size is None or batch_size >= 1, "at least 1, or None for the full batch"),
        ("momentum", momentum, 0 <= momentum < 1, "in [0, 1)"),
        ("optimizer", optimizer, optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
        ("mode", mode, mode in MODES, f"one of {', '.join(MODES)}"),
    ):  # fmt: skip
        if not fine:
            raise BadInput(f"{name}={value!r} must be {what}")


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


def _result(problem: Objective, path: Path, original: nn.Module, goal: Tensor, test: Any, seconds: float) -> Trained:
    """Put the weights of the path into copies of the given model, and judge the last on the test data."""
    final = _network(problem, original, path.u)
    f = problem.all_outputs(path.u)
    test_loss, test_accuracy = None, None
    if test is not None:
        inputs = moved(as_inputs(test[0]), f.device, f.dtype)
        wanted = as_tensor(test[1], "test targets").to(f.device)
        before = _network(problem, original, problem.zero())
        g = scaled_outputs(final, before, inputs, gamma=problem.gamma, readout=problem.readout)
        ready = prepared_targets(wanted, problem.loss, g.shape[1], g.dtype)
        test_loss = float(loss_of(g, ready, problem.loss)) / problem.unit
        test_accuracy = _accuracy(g, wanted)
    return Trained(
        model=final, gamma=problem.gamma, initial_loss=path.history[0][1], train_loss=path.loss,
        steps=path.steps, lr=path.lr, backoffs=path.backoffs, converged=path.converged, note=path.note,
        history=pd.DataFrame(path.history, columns=["step", "loss"]), train_accuracy=_accuracy(f, goal),
        test_loss=test_loss, test_accuracy=test_accuracy,
        snapshots={step: _network(problem, original, u) for step, u in sorted(path.snapshots.items())},
        seconds=seconds,
    )  # fmt: skip


def _accuracy(f: Tensor, targets: Tensor) -> float | None:
    if targets.ndim != 1 or targets.is_floating_point() or f.shape[1] < 2:
        return None
    return float((f.argmax(1) == targets).double().mean())


def _network(problem: Objective, original: nn.Module, u: Tensor) -> nn.Module:
    """A copy of the given model, in its own mode, with the weights of displacement u."""
    weights = problem.weights_at(u)
    first = next(iter(weights.values()))
    out = copy.deepcopy(original).to(first.device, first.dtype)
    named = dict(out.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            named[name].copy_(value)
    if problem.frozen is not None:
        _restate_running_statistics(out, problem.inputs)
    return out


def _restate_running_statistics(model: nn.Module, inputs: Any) -> None:
    """BatchNorm's running statistics of these weights on these inputs: a cumulative average over batches of 256."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    kept = [(m, m.training, m.momentum) for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.train()
        m.momentum = None
    with torch.no_grad():
        for _, part in batches(inputs, 256):
            call(model, part)
    for m, training, momentum in kept:
        m.train(training)
        m.momentum = momentum
