"""What training at a chosen richness gives: the network, what stopped it, and its checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_goal
from geomfeat.models.copying import deep_copy
from geomfeat.models.functional import Readout, call, functional
from geomfeat.models.modules import in_precision
from geomfeat.models.nested_inputs import as_inputs, batches, moved, n_samples
from geomfeat.regimes.training.class_targets import as_row, numbered, unnumbered
from geomfeat.regimes.training.gradient_descent import Path
from geomfeat.regimes.training.objective import Objective, loss_of, prepared_targets
from geomfeat.tangent.optimizer_rates import OptimizerRates
from geomfeat.types import Snapshot


@dataclass(frozen=True, eq=False)
class Trained(PlottableResult):
    """A network trained at output scale gamma.

    Attributes:
        model: trained copy, in the given model's mode, dtype (float64 if it was trained so) and on its device.
        gamma: the output scale. initial_loss: relative loss at the start; 1, unless uncentred.
        train_loss: relative loss reached, without the penalty of weight decay.
        steps: taken. lr: eta0 at the end; the raw weights moved with lr * gamma^2 (Adam: lr * gamma).
        backoffs: how often the step was halved. converged: target reached (without a target: all steps were taken).
        note: what stopped it otherwise. diverged: the loss became infinite; `model` is the last good point.
        history: columns step, loss.
        train_accuracy, test_accuracy: share of samples with the right largest f, for integer classes; else None.
        test_loss: relative to the loss of f = 0 on the training targets; None without test data.
        snapshots: step -> copy of the network, for `snapshot_steps`; snapshot_losses: step -> relative loss.
        rates: at which the raw weights moved at the end, with Adam's sizes of gradients, for `locate(optimizer=)`; None
            where no step was made. snapshot_rates: step -> the same at that step.
        seconds: wall time. centred: whether f = (net(w) - net(w0)) / gamma, or net(w) / gamma. seed: as given.

    `to_frame()`: `history`: one row for each recorded step: step, loss.
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
    snapshot_losses: Mapping[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    diverged: bool = False
    centered: bool = True
    seed: int = 0
    rates: OptimizerRates | None = None
    snapshot_rates: Mapping[int, OptimizerRates] = field(default_factory=dict)

    def outputs(self, initial: nn.Module, inputs: Any, readout: Readout | None = None) -> Tensor:
        """f (n, C) of the trained network, in evaluation mode; the initial one is not asked where f is uncentred."""
        return scaled_outputs(
            self.model, initial if self.centered else None, inputs, gamma=self.gamma, readout=readout
        )  # fmt: skip

    def at(self, step: int) -> Snapshot:
        """The checkpoint of a step, with conditions gamma, lr, seed, step, loss, and its rates; BadInput if unsaved."""
        if step not in self.snapshots:
            saved = ", ".join(map(str, self.snapshots)) or "none"
            raise BadInput(f"no checkpoint of step {step!r} was saved, only {saved}: name it in snapshot_steps=")
        conditions = {
            "gamma": self.gamma, "lr": self.lr, "seed": self.seed, "step": step, "loss": self.snapshot_losses[step],
        }  # fmt: skip
        at: str | int = "init" if step == 0 else step
        return Snapshot(self.snapshots[step], at, conditions, self.snapshot_rates.get(step))

    @property
    def snapshots_list(self) -> list[Snapshot]:
        """All saved checkpoints, in order of their steps."""
        return [self.at(step) for step in self.snapshots]

    def to_frame(self) -> pd.DataFrame:
        """The history: step, loss."""
        return self.history.copy()

    def _chart(self) -> Plot:
        steps, losses = self.history["step"], self.history["loss"]
        return line_chart(f"training at gamma = {self.gamma:g}", "step", "relative loss", steps, losses, log_y=True)

    def __str__(self) -> str:
        end = "diverged" if self.diverged else "converged" if self.converged else self.note or "not converged"
        return f"Trained at gamma = {self.gamma:g}: relative loss {self.train_loss:.3g} after {self.steps} steps, {end}"


def scaled_outputs(
    model: nn.Module, initial: nn.Module | None, inputs: Any, *, gamma: float, readout: Readout | None = None
) -> Tensor:
    """f = (net(w) - net(w0)) / gamma (n, C), in evaluation mode and the trained network's precision.

    Without an initial network, net(w) / gamma.
    """

    def values(network: nn.Module) -> Tensor:
        first = next(network.parameters(), None)
        f = functional(network, dtype=kind, device=None if first is None else first.device, readout=readout)
        with torch.no_grad():
            return f(f.theta, f.inputs(inputs))

    kind = next(model.parameters()).dtype
    after = values(model)
    return (after if initial is None else after - values(initial).to(after.device)) / gamma


def samples_to_judge(problem: Objective, test: Any, trained: Labels | Tensor) -> tuple[Any, Tensor]:
    """A pair (inputs, targets) as tensors where the problem's are; BadInput before training, and not after it.

    trained: the targets that are trained on, by which classes are numbered.
    """
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise BadInput(f"test must be a pair (inputs, targets), got {type(test).__name__}")
    inputs = moved(as_inputs(test[0]), problem.reference.device, problem.reference.dtype)
    names = trained.classes if isinstance(trained, Labels) else ()
    wanted = as_goal(test[1], "test targets", names).to(problem.reference.device)
    if wanted.ndim == 0 or n_samples(inputs) != len(wanted):
        raise BadInput(f"test targets have shape {tuple(wanted.shape)}, but test inputs {n_samples(inputs)} samples")
    outputs = problem.reference.shape[1]
    known = trained.codes if isinstance(trained, Labels) else as_row(trained, outputs)
    wanted = _numbered_as(as_row(wanted, outputs), unnumbered(known, outputs))
    prepared_targets(wanted, problem.loss, outputs, problem.reference.dtype)
    return inputs, wanted


def _numbered_as(wanted: Tensor, classes: Tensor | None) -> Tensor:
    found = numbered(wanted, classes)
    if classes is not None and found is not wanted and bool((found < 0).any()):
        raise BadInput(
            f"test targets hold {int(wanted[found < 0][0])}, which is none of the classes of targets, "
            f"{', '.join(map(str, classes.tolist()))}"
        )
    return found


def result(
    problem: Objective, path: Path, original: nn.Module, goal: Tensor, test: tuple[Any, Tensor] | None, seed: int,
    seconds: float,
) -> Trained:  # fmt: skip
    """Put the weights of the path into copies of the given model, and judge the last on `samples_to_judge`."""
    final = _network(problem, original, path.u)
    f = problem.all_outputs(path.u)
    test_loss, test_accuracy = None, None
    if test is not None:
        inputs, wanted = test
        before = _network(problem, original, problem.zero()) if problem.centered else None
        g = scaled_outputs(final, before, inputs, gamma=problem.gamma, readout=problem.readout)
        ready = prepared_targets(wanted, problem.loss, g.shape[1], g.dtype)
        test_loss = float(loss_of(g, ready, problem.loss)) / problem.unit
        test_accuracy = _accuracy(g, wanted)
    losses, kept = dict(path.history), sorted(path.snapshots)
    return Trained(
        model=final, gamma=problem.gamma, initial_loss=path.history[0][1], train_loss=path.loss,
        steps=path.steps, lr=path.lr, backoffs=path.backoffs, converged=path.converged, note=path.note,
        history=pd.DataFrame(path.history, columns=["step", "loss"]), train_accuracy=_accuracy(f, goal),
        test_loss=test_loss, test_accuracy=test_accuracy,
        snapshots={step: _network(problem, original, path.snapshots[step]) for step in kept},
        snapshot_losses={s: losses[s] if s in losses else problem.value(path.snapshots[s]) for s in kept},
        seconds=seconds, diverged=path.diverged, centered=problem.centered, seed=seed,
        rates=path.last_rates() if path.steps else None, snapshot_rates=dict(path.rates),
    )  # fmt: skip


def _accuracy(f: Tensor, targets: Tensor) -> float | None:
    if targets.ndim != 1 or targets.is_floating_point() or f.shape[1] < 2:
        return None
    return float((f.argmax(1) == targets).double().mean())


def _network(problem: Objective, original: nn.Module, u: Tensor) -> nn.Module:
    """A copy of the given model, in its own mode, with the weights of displacement u."""
    weights = problem.weights_at(u)
    first = next(iter(weights.values()))
    out = in_precision(deep_copy(original), first.device, first.real.dtype)
    named = dict(out.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            named[name].copy_(value)
    if problem.mode == "train":
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
