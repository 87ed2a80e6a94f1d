"""What a forecast begins with: the network before training on the probes, its outputs, and the loss on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput
from geomfeat.forecasting.callable_loss import CallableLoss, Function as LossFunction, callable_loss, sees_no_mean
from geomfeat.forecasting.optimizer_facts import OptimizerFacts, optimizer_facts
from geomfeat.forecasting.options import ForecastOptions
from geomfeat.forecasting.output_loss import OutputLoss, output_loss
from geomfeat.forecasting.token_samples import is_of_tokens, labels_of, token_samples
from geomfeat.location.initial_states import Observed, observe, with_size
from geomfeat.models.functional import Readout, unwrapped
from geomfeat.models.nested_inputs import take
from geomfeat.models.readouts.prefixes import repeated, sampled
from geomfeat.models.readouts.reading import Reading, reading_of
from geomfeat.models.reinitialize import batchnorm_modules, never_estimated, with_batchnorm_statistics
from geomfeat.network import Network
from geomfeat.numerics import WORKING, require_finite, stream

AT_ONCE = 2048  # samples of one pass from which BatchNorm statistics are estimated
FEWEST_GROUPS = 3


@dataclass(frozen=True, eq=False)
class TrainingStart:
    """The network before training.

    Attributes:
        model: it. network: it on the probes, in the coordinates in which its optimizer's training is gradient flow.
        observed: its outputs and features. outputs: (n, C). loss: on the probes. initial_loss: relative.
        facts: of the optimizer. given: number of inputs, of which the probes are a part.
        left_out: hidden layers that are zero at the start. estimated: whether BatchNorm statistics were, on the inputs.
        sequences: (n,) the sequence that each probe is a token of, None where probes are no tokens. notes: on targets
            and optimizer.
    """

    model: nn.Module
    network: Network
    observed: Observed
    outputs: Tensor
    loss: OutputLoss
    initial_loss: float
    facts: OptimizerFacts
    given: int
    left_out: tuple[str, ...]
    estimated: bool
    sequences: Tensor | None = None
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> Tensor | None:
        """Which probes belong together, where there are enough of them to resample whole ones."""
        several = self.sequences is not None and len(self.sequences.unique()) >= FEWEST_GROUPS
        return self.sequences if several else None


def training_start(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    loss: str | LossFunction,
    optimizer: Any,
    readout: Readout | str | None,
    seed: int,
    options: ForecastOptions,
) -> TrainingStart:
    """Arguments and errors as of `forecast`."""
    if not isinstance(model, nn.Module):
        raise BadInput(f"model is a {type(model).__name__}: give the network, a torch module, before training")
    model = unwrapped(model)
    trainable = any(p.requires_grad for p in model.parameters())
    if not trainable and optimizer is None and options.params is None:
        raise BadInput("every parameter of the model is frozen (requires_grad is False): name some in options.params")
    # A function sees outputs as they are, unless they turn out to be logits to it.
    known = "mse" if callable(loss) else loss
    model, reading, inputs, targets, rows, notes = _samples(model, inputs, targets, known, readout, seed)
    estimated = bool(batchnorm_modules(model)) and never_estimated(model)
    network = Network.prepare(
        model, inputs, layers=options.layers, params=options.params, optimizer=optimizer, readout=reading,
        device=options.device,
    )  # fmt: skip
    if estimated:
        network = network.at(with_batchnorm_statistics(model, _some(network, seed)))
    observed = observe(network, targets, n_probes=options.n_probes, seed=seed, varied=False)
    assert observed.labels is not None
    features, left_out = with_size(observed.features, observed)
    kept = observed.layers if not left_out else tuple(features)
    at = observed.network.on_layers(replace(observed.network.layers, names=kept))
    outputs = require_finite(observed.outputs, "the network's outputs on the inputs").to(at.f.device, WORKING)
    labels = observed.labels.to(outputs.device)
    goal = (
        callable_loss(loss, labels, outputs.shape[1]) if callable(loss) else output_loss(loss, labels, outputs.shape[1])
    )
    require_finite(goal.value(outputs), "the loss of the network's outputs")
    read = at.readout if isinstance(goal, CallableLoss) and isinstance(at.readout, Reading) else None
    if read is not None and isinstance(goal, CallableLoss) and sees_no_mean(goal.function, outputs, goal.targets):
        at = replace(at, readout=replace(read, centred="always"))
        outputs = outputs - outputs.mean(1, keepdim=True)
    at = at.in_own_metric(-goal.slope(outputs))
    facts = optimizer_facts(optimizer, at.rates, at.f.theta)
    return TrainingStart(
        model, at, observed, outputs, goal, goal.relative(outputs), facts, network.n, left_out, estimated,
        None if rows is None else rows[observed.rows], notes,
    )  # fmt: skip


def _samples(
    model: nn.Module, inputs: Any, targets: Any, loss: str, readout: Readout | str | None, seed: int
) -> tuple[nn.Module, Any, Any, Any, Tensor | None, tuple[str, ...]]:
    """(model, read-out, inputs, targets, sequence of each sample, notes); of tokens, where each has a target."""
    reading = reading_of(model, readout, loss)
    inputs, targets = reread(model, inputs, targets, why="forecast")
    targets = labels_of(inputs) if targets is None else targets
    if targets is None:
        raise BadInput("targets is None: a forecast needs the classes or values that will be learned")
    if is_of_tokens(targets, loss, reading):
        tokens = token_samples(model, reading, inputs, targets, seed)
        return tokens.model, tokens.reading, tokens.inputs, tokens.targets, tokens.rows, tokens.notes
    reading, inputs, rows = sampled(model, reading, inputs, seed)
    return model, reading, inputs, repeated(targets, rows), rows, ()


def _some(network: Network, seed: int) -> Any:
    """The inputs, or a seeded choice of very many: they pass through the network at once."""
    if network.n <= AT_ONCE:
        return network.inputs
    return take(network.inputs, torch.randperm(network.n, generator=stream(seed, "forecast", "BatchNorm"))[:AT_ONCE])
