"""A ladder: reference networks of the user's architecture at known gamma, to interpolate the gamma of a model.

Rungs start from the same weights, learn the same task to the same relative loss and are measured on the same probes
as the model; R grows by one decade for a decade of gamma, so a few rungs suffice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.location.demand import solve
from geomfeat.location.initial_states import Observed, Start, observe, start_from
from geomfeat.models.functional import Readout, copied
from geomfeat.models.nested_inputs import as_inputs
from geomfeat.models.readouts.reading import reading_of
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.models.trained_parameters import differentiable, plain_name
from geomfeat.network import Network
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.training.class_targets import as_classes, as_values
from geomfeat.regimes.training.objective import centred_one_hot
from geomfeat.storage.npz_files import UNREADABLE
from geomfeat.storage.owned_files import as_path, json_text, make_folder, replace_file
from geomfeat.tangent.metric import RATES
from geomfeat.tangent.optimizer_rates import OptimizerRates, optimizer_rates
from geomfeat.tangent.tangent_space import Params, TangentSpace, space_of_moved

# Distance of the rungs in decades of gamma, and bounds of their target loss: below, training takes too long; above, too
# little is learned to measure.
SPACING, LOSS_BOUNDS = 0.5, (0.01, 0.5)


@dataclass(frozen=True, eq=False)
class Ladder(PlottableResult):
    """Reference networks ("rungs") trained at known gamma, to interpolate the gamma of a model.

    Attributes:
        rungs: columns gamma, richness, movement, train_loss, steps, converged, note.
        target_loss: relative loss, 1 at the start, at which they stopped.
        layers, n_probes: what R was measured on; a model must be measured on the same.
        metric: what the coordinates of R rest on, see `Location`; those of a model must rest on the same.
        readout: what was read as the outputs, in words; "" where that is not known.

    `to_frame()`: `rungs`.
    """

    rungs: pd.DataFrame
    target_loss: float
    layers: tuple[str, ...]
    n_probes: int
    metric: str = RATES
    readout: str = ""

    def save(self, path: str | Path) -> Path:
        """Write as JSON; returns the path. OutputExists for a file that geomfeat did not write."""
        path = as_path(path)
        content = json_text({**self.__dict__, "rungs": self.rungs.to_dict("records")}, indent=2)
        make_folder(path.parent)
        replace_file(path, lambda draft: draft.write_text(content, encoding="utf-8"))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Ladder:
        """Read what `save` wrote; BadInput for a file that is missing or something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            rungs = pd.DataFrame(content["rungs"])
            metric = str(content.get("metric", RATES))
            readout = str(content.get("readout", ""))
            size = float(content["target_loss"]), tuple(content["layers"]), int(content["n_probes"])
            return cls(rungs, *size, metric, readout)
        except UNREADABLE as cause:
            raise BadInput(f"ladder {str(path)!r} is not a ladder that geomfeat saved ({cause})") from cause

    def to_frame(self) -> pd.DataFrame:
        """The rungs, one row each."""
        return self.rungs.copy()

    def _chart(self) -> Plot:
        found = self.rungs.sort_values("gamma")
        gamma, richness = found["gamma"], found["richness"]
        return line_chart("reference networks", "gamma", "richness R (decades)", gamma, richness, log_x=True)

    def __str__(self) -> str:
        gammas = ", ".join(f"{gamma:.3g}" for gamma in self.rungs["gamma"])
        return f"Ladder of {len(self.rungs)} rungs, gamma {gammas}, trained to relative loss {self.target_loss:g}"


def wanted_change(labels: Tensor, n_outputs: int) -> Tensor:
    """(n, C) change of the outputs at gamma = 1: centred one-hot rows for classes, the values for a regression."""
    labels = as_values(as_classes(labels, n_outputs), n_outputs)
    if labels.ndim == 1 and not labels.is_floating_point():
        if int(labels.max()) >= n_outputs or int(labels.min()) < 0:
            raise BadInput(
                f"labels run from {int(labels.min())} to {int(labels.max())}, but the model has {n_outputs} outputs: "
                "a ladder needs classes 0..C-1, or a target value for every output"
            )
        return centred_one_hot(labels, n_outputs, WORKING)
    values = labels.to(WORKING).reshape(labels.shape[0], -1)
    if values.shape[1] != n_outputs:
        raise BadInput(f"labels hold {values.shape[1]} values per sample, but the model has {n_outputs} outputs")
    return values


def fitted_scale(change: Tensor, wanted: Tensor) -> tuple[float, float]:
    """(gamma, relative loss): the least-squares scale of `wanted` (n, C) in `change`, and the share it leaves.

    >>> import torch
    >>> t = torch.tensor([[1.0], [-1.0]])
    >>> fitted_scale(2 * t, t)
    (2.0, 0.0)
    """
    gamma = float((change * wanted).sum() / wanted.square().sum())
    if gamma <= 0:
        return gamma, float("inf")
    return gamma, float((change / gamma - wanted).square().sum() / wanted.square().sum())


def share_of_entropy(outputs: Tensor, labels: Tensor) -> float:
    """Cross-entropy of outputs (n, C) on classes (n,) over log C, that of outputs 0: the share that is left to learn.

    >>> import torch
    >>> share_of_entropy(torch.zeros(2, 3), torch.tensor([0, 2]))
    1.0
    """
    return float(cross_entropy(outputs.to(WORKING), labels.to(outputs.device)) / math.log(outputs.shape[1]))


def logit_of(share: float, n_outputs: int) -> float:
    """s at which s times one-hot rows of C classes have this share of log C as their cross-entropy.

    log(1 + (C - 1) exp(-s)) = share log C.

    >>> import torch
    >>> round(share_of_entropy(logit_of(0.2, 4) * torch.eye(4), torch.arange(4)), 6)
    0.2
    """
    return -math.log(math.expm1(share * math.log(n_outputs)) / (n_outputs - 1))


def plan_ladder(
    start: Start, observed: Observed, rungs: int, loss: str | None = None
) -> tuple[tuple[float, ...], float]:
    """(gammas, relative loss) of a ladder around a model: rungs half a decade apart, centred where its R is expected.

    The linear response to what the labels want is R at gamma = 1, and R grows by one decade per decade of gamma.
    The loss is the model's own on the probes, between .01 and .5: with `loss` "cross-entropy" that of its outputs as
    they are, over log C; else what a multiple of the wanted change leaves of the change of the outputs.
    """
    if observed.labels is None:
        raise BadInput(
            "ladder needs labels: pass labels= (classes or target values of the inputs; of a language model the token "
            "that follows what is read)"
        )
    if start.task.projection is not None:
        raise BadInput("a ladder compares all outputs: leave out projections=, or the ladder")
    if start.all_frozen:
        raise BadInput("no hidden layer moved, and a ladder is read by how far they move: leave out ladder=")
    if rungs < 2:
        raise BadInput(f"ladder={rungs}: at least 2 rungs")
    n_outputs = start.outputs.shape[1]
    wanted = wanted_change(observed.labels, n_outputs).to(start.outputs.device)
    if loss == "cross-entropy":
        classes = as_classes(observed.labels, n_outputs)
        if classes.ndim != 1 or classes.is_floating_point() or n_outputs < 2:
            raise BadInput("ladder= with loss='cross-entropy' needs classes: pass labels= (n,) whole numbers, or names")
        reached = float(np.clip(share_of_entropy(observed.outputs, classes), *LOSS_BOUNDS))
        wanted = logit_of(reached, n_outputs) * wanted
    else:
        reached = float(np.clip(fitted_scale(observed.outputs - start.outputs, wanted)[1], *LOSS_BOUNDS))
    # R has slope 1 on log10 gamma, so the model's R minus that of the targets at gamma = 1 estimates its log10 gamma.
    center = start.demand.richness - solve(start.task.towards(wanted)).richness
    return tuple(10 ** (center + SPACING * (i - (rungs - 1) / 2)) for i in range(rungs)), reached


def train_ladder(
    initial: nn.Module,
    inputs: Any,
    labels: Any,
    gammas: Sequence[float],
    *,
    loss: str = "mse",
    target_loss: float = 0.05,
    layers: Any = "*",
    n_probes: int | None = None,
    params: Params | None = None,
    optimizer: Any = None,
    seed: int = 0,
    readout: Readout | str | None = None,
    device: Any = None,
    progress: bool = True,
) -> Ladder:
    """Train a reference network at each gamma from `initial` on (inputs, labels), and measure each as `locate` would.

    Args:
        labels: (n,) classes or (n, C) target values. loss, target_loss: as for `train_at_gamma`; the relative loss at
            which a rung stops should be that of the models to locate.
        layers, n_probes, seed, readout: as given to `locate` for these models.
        params: which parameters to train, as for `locate`; default those of `initial` that require a gradient.
        optimizer: what trained these models, as for `locate`: rungs are measured in its coordinates, and descend at its
            rates by layer. Default None: descent at one rate.

    A rung that missed the loss has converged False and a note.
    """
    if len(gammas) < 2 or min(gammas) <= 0:
        raise BadInput(f"gammas={tuple(gammas)}: at least 2, all positive")
    inputs, labels = as_inputs(inputs), as_goal(labels, "labels")
    if isinstance(inputs, LazyInputs):  # training goes over the samples many times
        inputs = inputs.take(slice(None))
    # As `locate` reads a network whose loss it does not know, whatever the rungs are trained by.
    reading = reading_of(initial, readout, "cross-entropy" if loss == "cross-entropy" else None)
    space = None if params is None else space_of_moved(initial, initial, params)
    initial = initial if space is None else _trainable(initial, space)
    rates = None if optimizer is None else optimizer_rates(optimizer, initial)
    network = Network.prepare(initial, inputs, layers=layers, readout=reading, device=device)
    options = TrainOptions(lr_multipliers=None if rates is None else _multipliers(rates, initial))
    probes = {"n_probes": n_probes, "seed": seed}
    first = observe(network, labels, **probes)
    labels = as_values(as_classes(labels, first.outputs.shape[1]), first.outputs.shape[1])
    wanted_change(labels, first.outputs.shape[1])
    rows, metric = [], RATES
    for gamma in tqdm(sorted(gammas), desc="ladder", disable=not progress, leave=False):
        trained = train_at_gamma(
            initial, inputs, labels, gamma=gamma, loss=loss, target_loss=target_loss, seed=seed, readout=reading,
            device=device, options=options,
        )  # fmt: skip
        row = {
            "gamma": float(gamma), "train_loss": trained.train_loss, "steps": trained.steps,
            "converged": trained.converged, "note": trained.note, "richness": math.nan, "movement": math.nan,
        }  # fmt: skip
        try:
            free = space_of_moved(initial, trained.model) if space is None else space
            end = replace(network.at(trained.model).within(free), rates=rates or trained.rates)
            rung = start_from(initial, observe(end, labels, **probes), seed=seed, with_kernel=False)
        except BadInput as cause:
            row |= {"converged": False, "note": str(cause)}
        else:
            metric = rung.metric
            moved = [m for m in rung.movement.values() if math.isfinite(m)]
            row |= {"richness": rung.demand.richness, "movement": float(np.mean(moved)) if moved else math.nan}
        rows.append(row)
    said = network.f.words(inputs)
    return Ladder(pd.DataFrame(rows), target_loss, first.layers, len(first.rows), metric, said)


def _multipliers(rates: OptimizerRates, model: nn.Module) -> dict[str, float] | None:
    """Factors on the rate of descent by parameter: the rates, or 1 where an optimizer divides by gradients."""
    plain = {name: rates.rates.get(plain_name(name), 0.0) for name in differentiable(model)}
    if rates.adaptive or rates.orthogonal:
        plain = {name: float(rate > 0) for name, rate in plain.items()}
    largest = max(plain.values())
    return None if set(plain.values()) == {largest} else {name: rate / largest for name, rate in plain.items()}


def _trainable(model: nn.Module, space: TangentSpace) -> nn.Module:
    """A copy in which the parameters of the space require a gradient, and no others."""
    model = copied(model)
    for name, parameter in differentiable(model).items():
        parameter.requires_grad_(name in space.names)
    return model


def read_off(ladder: Ladder, richness: float, stderr: float, z: float) -> tuple[float, float, float]:
    """(gamma, low, high) at which the converged rungs have this richness.

    Between rungs by linear interpolation of R in log gamma, beyond them at slope 1. The interval combines `stderr`
    of R with the scatter of the rungs about their line of slope 1.
    """
    good = ladder.rungs[ladder.rungs["converged"].astype(bool)]
    good = good.iloc[np.argsort(np.asarray(good["richness"], float))]
    if len(good) < 2:
        raise BadInput(
            f"only {len(good)} of {len(ladder.rungs)} rungs reached the relative loss {ladder.target_loss:.3g}: "
            "the ladder cannot be read; train longer or ask for a larger loss"
        )
    r, g = np.asarray(good["richness"], float), np.log10(np.asarray(good["gamma"], float))
    at = float(np.interp(richness, r, g)) + min(richness - r[0], 0.0) + max(richness - r[-1], 0.0)
    scatter = float(np.std(r - g, ddof=1))
    half = z * float(np.hypot(stderr, scatter))
    return 10**at, 10 ** (at - half), 10 ** (at + half)
