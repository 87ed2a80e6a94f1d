"""Ordinary training: torch's optimizers and schedules on the raw weights, as networks are trained in practice."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput, require_kind
from geomfeat.labels import as_goal
from geomfeat.models.functional import Readout
from geomfeat.models.modules import copied
from geomfeat.models.nested_inputs import as_inputs, moved, n_samples
from geomfeat.models.readouts.reading import as_readout
from geomfeat.models.reinitialize import random_state
from geomfeat.numerics import resolve_device, stream
from geomfeat.regimes.training.plain_objective import PlainObjective, plain_objective
from geomfeat.regimes.training.plain_options import PlainOptions
from geomfeat.tangent.optimizer_rates import OptimizerRates, optimizer_rates

HISTORY = ["step", "loss", "lr", "gradient_norm"]


@dataclass(frozen=True, eq=False)
class PlainTraining(PlottableResult):
    """A network before and after an ordinary training, all copies in evaluation mode.

    Attributes:
        initial, trained: the network at the start, and at the last step. ema: with the average of the weights, or None.
        snapshots: step -> network, for `snapshot_steps`.
        history: a row for each step: step (from 1), loss (of its samples, in training mode, before the step: mean over
            samples or tokens, and for mse the sum over outputs), lr, gradient_norm (before clipping).
        initial_loss, train_loss: of `initial` and `trained` on all samples, over the loss of outputs 0.
        test_loss: the same of the test samples, over that of outputs 0 on the training samples; None without them.
        train_accuracy, test_accuracy: share of right classes, or of right tokens; None for values.
        steps: made. converged: the target was reached (without one: all steps were made). note: what stopped it else.
        diverged: a loss became infinite; `trained` has then the last weights at which it was finite.
        optimizer: the state of the optimizer, its `state_dict()`, in which parameters have their names.
        rates: what `locate(optimizer=)` takes: rates and sizes of gradients by name; None where no step was made.
        unit: the loss of outputs 0. seed: as given. seconds: wall time.

    `to_frame()`: `history`.
    """

    initial: nn.Module
    trained: nn.Module
    ema: nn.Module | None
    snapshots: Mapping[int, nn.Module]
    history: pd.DataFrame
    initial_loss: float
    train_loss: float
    test_loss: float | None
    train_accuracy: float | None
    test_accuracy: float | None
    steps: int
    converged: bool
    diverged: bool
    note: str
    optimizer: Mapping[str, Any]
    rates: OptimizerRates | None
    unit: float
    seed: int = 0
    seconds: float = 0.0

    def to_frame(self) -> pd.DataFrame:
        """The history: step, loss, lr, gradient_norm."""
        return self.history.copy()

    def _chart(self) -> Plot:
        return line_chart(
            "training", "step", "loss of the step's samples", self.history["step"], self.history["loss"], log_y=True
        )

    def __str__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        losses = f"relative loss {self.train_loss:.3g}, from {self.initial_loss:.3g}"
        return f"Trained for {self.steps} steps: {losses}{note}"


def train_plainly(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    loss: str | None = None,
    readout: Readout | str | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = False,
    options: PlainOptions = PlainOptions(),
) -> PlainTraining:
    """Train a copy of `model` as networks are trained in practice; the given model is unchanged.

    Args:
        inputs: tensor, tuple or mapping, samples first.
        targets: (n,) integer classes, (n, C) or (n,) values, or (n, tokens) integer classes of tokens with -100 for
            none: for a causal language model `next_tokens(inputs)`.
        loss: "cross-entropy" (mean over samples, or over all tokens of a step that have a target) or "mse" (mean over
            samples of the sum of squares over outputs; classes become one-hot rows minus 1/C). Default None: "mse" for
            values, else "cross-entropy".
        readout: what the outputs are, see `output_matrix`; of targets by token always all of them.
        seed: of the order of the samples and of dropout. Both depend on it and on the number of the epoch, or step,
            alone: a longer training passes through the weights of a shorter one.
        progress: True for a bar.
        options: optimizer, schedule, clipping, average, batches, snapshots: see `PlainOptions`.

    Samples come in an order that is drawn for each epoch, of which a last incomplete step is left out. Dropout works in
    training and is off in what is returned. Training that meets a loss that is not finite stops, with a note.

    Raises BadInput for targets that do not fit, and a model that does not take the inputs.

    >>> from geomfeat.models.mlp import mlp
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> found = train_plainly(mlp(4, (16,), 2, seed=0), x, y, options=PlainOptions(lr=0.01, max_steps=200))
    >>> found.train_accuracy, found.train_loss < 0.1 < found.initial_loss
    (1.0, True)
    """
    require_kind(options, PlainOptions, "options")
    own = copied(model)
    where = resolve_device(device, next(own.parameters(), None))
    own = own.to(where)
    kind = next((p.dtype for p in own.parameters() if p.is_floating_point()), torch.get_default_dtype())
    reading = as_readout(readout)

    def prepared(pair: Any, like: PlainObjective | None = None) -> PlainObjective:
        data = moved(as_inputs(pair[0]), where, kind)
        goal = as_goal(pair[1], "targets" if like is None else "test targets").to(where)
        return plain_objective(own, data, goal, loss=loss, readout=reading, like=like)

    problem = prepared((inputs, targets))
    test = None if options.test is None else prepared(_pair(options.test), problem)
    began = time.perf_counter()
    loop = _Loop(own, problem, options, seed)
    with random_state(seed), tqdm(total=options.max_steps, desc="training", disable=not progress, leave=False) as bar:
        loop.run(bar)
    return loop.result(test, copied(model).to(where).eval(), time.perf_counter() - began)


def _pair(test: Any) -> Any:
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise BadInput(f"test must be a pair (inputs, targets), got {type(test).__name__}")
    return test


@dataclass(eq=False)
class _Loop:
    """The training of a model that nobody else holds."""

    model: nn.Module
    problem: PlainObjective
    options: PlainOptions
    seed: int
    steps: int = 0
    note: str = ""
    converged: bool = False
    diverged: bool = False
    history: list[tuple[int, float, float, float]] = field(default_factory=list)
    snapshots: dict[int, nn.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if not named:
            raise BadInput("the model has no parameter that requires a gradient: nothing can be trained")
        self.parameters = [p for _, p in named]
        self.optimizer = _optimizer(named, self.options)
        self.schedule = LambdaLR(self.optimizer, self.options.rate_factor)
        decay = self.options.ema
        self.average = None if decay is None else AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.n = n_samples(self.problem.inputs)
        self.initial_loss, _ = self.problem.judged(self.model)
        self.live = list(self.model.state_dict().values())  # these share their memory with the model
        self.good = [value.clone() for value in self.live]
        self.good_step = 0
        self._keep()

    def run(self, bar: Any) -> None:
        """All epochs, until the target, the budget or a loss that is not finite."""
        size = self.options.samples_of_a_step(self.n)
        self.model.train()
        epoch = 0
        while self.steps < self.options.max_steps and not (self.converged or self.diverged):
            order = torch.randperm(self.n, generator=stream(self.seed, "epoch", epoch))
            for start in range(0, self.n - size + 1, size):
                if self.steps >= self.options.max_steps or not self._step(order[start : start + size]):
                    break
                bar.update()
            epoch += 1
            if not self.diverged and self.options.target_loss is not None:
                self._judge(self.options.target_loss)
        target = self.options.target_loss
        if target is not None and not self.converged and not self.diverged:
            self.note = f"target_loss={target:g} was not reached in {self.steps} steps: raise max_steps or lr"
        self.converged = self.converged or (target is None and not self.diverged)

    def _step(self, rows: Tensor) -> bool:
        """One step of the optimizer on these samples; False, without it, where the loss is not finite."""
        seed = stream(self.seed, "step", self.steps).initial_seed()
        # torch's own function seeds every kind of accelerator: a fifth of the time of a small network's steps.
        (torch.default_generator if self.live[0].device.type == "cpu" else torch).manual_seed(seed)
        self.optimizer.zero_grad()
        count, losses = self.problem.count(rows), []
        for part in rows.split(self.options.batch_size or self.n):
            # Over the targets of the whole step: passes with more padding must not weigh their tokens more.
            value = self.problem.total(self.model, part) / max(count, 1)
            value.backward()
            losses.append(value.detach())
        norm, total = self._clip(), float(torch.stack(losses).sum())
        self.history.append((self.steps + 1, total, float(self.schedule.get_last_lr()[0]), norm))
        if not (math.isfinite(total) and math.isfinite(norm)):
            self.diverged = True
            self.note = f"diverged at step {self.steps + 1}, where the loss is {total:.3g}: lower lr, or clip"
            return False
        _copy(self.live, self.good)
        self.good_step = self.steps
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        if self.average is not None:
            self.average.update_parameters(self.model)
        self._keep()
        return True

    def _clip(self) -> float:
        """The norm of the gradient, which is shortened to `clip` where it is longer."""
        if self.options.clip is not None:
            return float(clip_grad_norm_(self.parameters, self.options.clip))
        return float(get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    def _judge(self, target: float) -> None:
        loss, _ = self.problem.judged(self.model, loss_alone=True)
        self.converged = loss <= target

    def _keep(self) -> None:
        if self.steps in self.options.snapshot_steps:
            self.snapshots[self.steps] = copied(self.model).eval()

    def result(self, test: PlainObjective | None, initial: nn.Module, seconds: float) -> PlainTraining:
        """What was found, with the losses of the last weights."""
        loss, accuracy = self.problem.judged(self.model)
        if self.diverged or not math.isfinite(loss):
            self.diverged, self.converged = True, False
            self.note = self.note or f"diverged by step {self.steps}, where the loss is {loss:.3g}: lower lr, or clip"
            self.steps = self.good_step
            _copy(self.good, self.live)
            self.snapshots = {step: kept for step, kept in self.snapshots.items() if step <= self.steps}
            loss, accuracy = self.problem.judged(self.model)
        test_loss, test_accuracy = (None, None) if test is None else test.judged(self.model)
        average = None if self.average is None or not self.steps else self.average.module.eval()
        return PlainTraining(
            initial=initial, trained=self.model.eval(), ema=None if self.diverged else average,
            snapshots=self.snapshots, history=pd.DataFrame(self.history, columns=HISTORY),
            initial_loss=self.initial_loss, train_loss=loss, test_loss=test_loss, train_accuracy=accuracy,
            test_accuracy=test_accuracy, steps=self.steps, converged=self.converged, diverged=self.diverged,
            note=self.note, optimizer=self.optimizer.state_dict(), rates=self._rates(), unit=self.problem.unit,
            seed=self.seed, seconds=seconds,
        )  # fmt: skip

    def _rates(self) -> OptimizerRates | None:
        if self.steps and not self.diverged:
            with suppress(BadInput):
                return optimizer_rates(self.optimizer, self.model)
        return None


def _copy(values: list[Tensor], into: list[Tensor]) -> None:
    for value, there in zip(values, into, strict=True):
        there.copy_(value)


def _optimizer(named: list[tuple[str, nn.Parameter]], options: PlainOptions) -> torch.optim.Optimizer:
    if callable(options.optimizer):
        made = options.optimizer(named)
        if not isinstance(made, torch.optim.Optimizer):
            raise BadInput(f"optimizer(parameters) must return a torch optimizer, got {type(made).__name__}")
        return made
    common: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    if options.optimizer == "sgd":
        return torch.optim.SGD(named, momentum=options.momentum, **common)
    return (torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam)(named, **common)
