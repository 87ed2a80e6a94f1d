"""What a study measures: one network at several moments, on the same inputs, through the same layers; checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from geomfeat.activations import ExtractOptions, extract, hidden_weight_layers, readable_layers
from geomfeat.activations.chosen_layers import no_hidden_layer
from geomfeat.activations.layer_selection import Patterns
from geomfeat.activations.random_projection import AUTO, PROJECTED, projected_width
from geomfeat.errors import BadInput, CheckpointMismatch, require_kind
from geomfeat.labels import Labels, as_goal, as_groups, classes_in
from geomfeat.models.functional import Readout, copied, unwrapped
from geomfeat.models.nested_inputs import Inputs, as_inputs, n_samples
from geomfeat.models.one_network import require_one_network
from geomfeat.models.readouts.reading import Reading, as_readout, reading_of
from geomfeat.network import Network
from geomfeat.numerics import resolve_device, whole_seed
from geomfeat.tangent.optimizer_rates import OptimizerRates, optimizer_rates
from geomfeat.tangent.tangent_space import Params
from geomfeat.types import Representation, Snapshot

INITIAL, TRAINED = "init", "trained"
# The options of `extract` that a study takes: its other numbers are of outputs, of samples that come first.
TAKEN = ("reduce", "project", "batch_size", "readout")


@dataclass(frozen=True, eq=False)
class Look:
    """How features are taken, at all moments of a study: options of `extract`, with the readout as a function."""

    options: ExtractOptions
    seed: int = 0
    device: str | torch.device | None = None

    @classmethod
    def of(
        cls,
        extraction: ExtractOptions | None = None,
        *,
        seed: int = 0,
        device: str | torch.device | None = None,
        model: nn.Module | None = None,
        loss: str | None = None,
    ) -> Self:
        """A checked Look; wide layers are projected unless the options say otherwise.

        model, loss: of which network outputs are read, and the loss of its training, if it is known, see `reading_of`.

        Raises BadInput for options that only `extract` takes, an unknown device, and a seed that is no number.
        """
        options = ExtractOptions() if extraction is None else extraction
        require_kind(options, ExtractOptions, "extraction")
        for name, value in options.given().items():
            if name not in TAKEN:
                shown = repr(value) if isinstance(value, bool | int | str) else "..."
                raise BadInput(
                    f"extraction=ExtractOptions({name}={shown}): {name} is an option of extract alone. Outputs of "
                    "layers are measured, of samples that come first: leave it out, or extract the features and "
                    "measure or compare them"
                )
        where = str(resolve_device(device))
        whole_seed(seed)
        reading = as_readout(options.readout) if model is None else reading_of(model, options.readout, loss)
        if model is None and isinstance(reading, Reading) and reading.samples_tokens:
            raise BadInput(
                f"extraction=ExtractOptions(readout={options.readout!r}): tokens as samples are taken of one network. "
                "Extract the features of each with it, and compare those"
            )
        options = replace(options.with_projection(AUTO), readout=reading)
        return cls(options, seed, where if device == "auto" else device)

    @property
    def readout(self) -> Readout | None:
        """What reads the outputs of the network, or None."""
        return cast(Readout | None, self.options.readout)

    def reading_by(self, readout: Readout | None) -> Self:
        """The same with outputs read by this."""
        return self if readout is self.readout else replace(self, options=replace(self.options, readout=readout))

    def widths(self, model: nn.Module, inputs: Any, layers: Patterns) -> tuple[dict[str, int], bool]:
        """Layer -> number of its features, of those that can be read, and whether the outputs can be read as (n, C)."""

        def found(outputs: bool) -> dict[str, int]:
            options = replace(self.options, project=None, with_outputs=outputs)
            return readable_layers(
                model, inputs, layers=layers, device=self.device, seed=self.seed, options=options
            )  # fmt: skip

        try:
            return found(True), True
        except BadInput:
            # Either the outputs cannot be read as (n, C), which a study can do without, or this raises again.
            return found(False), False


@dataclass(frozen=True, eq=False)
class Subject:
    """One network at its moments, by name: "init", the steps of checkpoints, "trained".

    Attributes:
        layers: names of the features that are measured, in forward order. projected: those that are projected.
        labels: (n,) classes, or None where there are none. goal: what was to be learned: these, or values (n,), (n, C).
        has_outputs: whether the network's outputs can be read as (n, C). classes: names that the labels stand for.
        groups: (n,) which samples belong together, or None.
        patterns: how the layers were selected; "*" means the hidden layers with weights.
        params, rates: which parameters were trained, and how fast, if it is known, see `Network.prepare`.
    """

    snapshots: dict[str, Snapshot]
    inputs: Any
    labels: Tensor | None
    look: Look
    layers: tuple[str, ...]
    projected: frozenset[str]
    has_outputs: bool
    classes: tuple[str, ...] = ()
    groups: Tensor | None = None
    patterns: Patterns = "*"
    goal: Tensor | None = None
    params: Params | None = None
    rates: OptimizerRates | None = None

    @cached_property
    def network(self) -> Network:
        """The trained network as its location takes it."""
        start = self.snapshots.get(INITIAL)
        return Network.prepare(
            self.snapshots[TRAINED].model, self.inputs, layers=self.patterns,
            initial=None if start is None else start.model, params=self.params, optimizer=self.rates,
            readout=self.look.readout, device=self.look.device,
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Number of samples."""
        return n_samples(self.inputs)

    @property
    def n_groups(self) -> int | None:
        """Number of groups that the samples come in, or None."""
        return None if self.groups is None else len(self.groups.unique())

    @property
    def width(self) -> int | None:
        """Number of features that projected layers have."""
        project = self.look.options.project
        return project if isinstance(project, int) else PROJECTED if self.projected else None

    def features(self, at: str, progress: bool = False) -> dict[str, Representation]:
        """Features of every layer at one moment, wide ones projected, on the device of the study."""
        labels = None if self.labels is None else Labels(self.labels, self.classes)
        found = extract(
            self.snapshots[at].model, self.inputs, labels, layers=list(self.layers), groups=self.groups,
            device=self.look.device, seed=self.look.seed, progress=progress,
            options=replace(self.look.options, with_outputs=self.has_outputs),
        )  # fmt: skip
        return {name: _moved(found[name], self.look.device) for name in self.layers}


def make_subject(
    trained: nn.Module | Snapshot,
    inputs: Inputs,
    labels: Any,
    *,
    groups: Any = None,
    initial: nn.Module | Snapshot | None,
    checkpoints: Mapping[Any, Any] | None,
    layers: Patterns,
    look: Look,
    params: Params | None = None,
    optimizer: Any = None,
) -> Subject:
    """A checked Subject; cheap passes of a few samples find the layers and their widths.

    Raises BadInput for weights that are not finite, inputs without samples, or a model without such layers;
    CheckpointMismatch where the moments are not of one architecture.
    """
    snapshots = _snapshots(trained, initial, checkpoints)
    inputs = as_inputs(inputs)
    n = n_samples(inputs)
    goal, given = (None, None) if labels is None else (as_goal(labels), classes_in(labels, n=n))
    codes, classes = (None, ()) if given is None else (given.codes, given.classes)
    together = None if groups is None else as_groups(groups, n=n)
    model = snapshots[TRAINED].model
    optimizer = snapshots[TRAINED].optimizer if optimizer is None else optimizer
    rates = None if optimizer is None else optimizer_rates(optimizer, model)
    patterns: Patterns = layers
    if layers in ("*", ["*"], ("*",)):
        patterns = "weights"
        if not hidden_weight_layers(model, inputs, readout=look.readout, device=look.device):
            raise BadInput(
                f"layers='*' means hidden layers with weights, and the model has none: {no_hidden_layer(model)}. Name "
                "layers, e.g. 'leaf'. All of them: geomfeat extract --list"
            )
    widths, has_outputs = look.widths(model, inputs, patterns)
    projected = frozenset(name for name, d in widths.items() if projected_width(d, look.options.project) is not None)
    return Subject(
        snapshots, inputs, codes, look, tuple(widths), projected, has_outputs, classes, together, patterns=layers,
        goal=goal, params=params, rates=rates,
    )  # fmt: skip


def network_of(model: nn.Module | Snapshot) -> nn.Module:
    """The eager network of a model or a Snapshot of one."""
    return unwrapped(model.model if isinstance(model, Snapshot) else model)


def _snapshots(trained: Any, initial: Any, checkpoints: Mapping[Any, Any] | None) -> dict[str, Snapshot]:
    last = _snapshot(trained, TRAINED, None)
    found = {} if initial is None else {INITIAL: _snapshot(initial, INITIAL, last.model)}
    steps = dict(checkpoints or {})
    for step in sorted(steps, key=lambda s: (not str(s).isdigit(), int(s) if str(s).isdigit() else 0, str(s))):
        if str(step) in (INITIAL, TRAINED, ""):
            raise BadInput(f"checkpoints: {step!r} is not a step; pass initial= and trained= by name")
        found[str(step)] = _snapshot(steps[step], str(step), last.model)
    found[TRAINED] = last
    for at, snapshot in found.items():
        _require_finite_weights(snapshot.model, at)
    return found


def _snapshot(value: Any, at: str, like: nn.Module | None) -> Snapshot:
    if isinstance(value, Snapshot):
        made = replace(value, at=at, model=unwrapped(value.model))
    elif isinstance(value, Mapping) and like is not None:
        model = copied(like)
        try:
            model.load_state_dict(dict(value))
        except RuntimeError as cause:
            raise CheckpointMismatch(
                f"checkpoint {at!r} does not fit the trained model: {' '.join(str(cause).split())}"
            ) from cause
        return Snapshot(model, at)
    else:
        made = Snapshot(unwrapped(cast(nn.Module, value)), at)
    if like is not None:
        words = f"the weights of {at!r} are not of the trained model's architecture"
        require_one_network(made.model, like, words)
    return made


def _require_finite_weights(model: nn.Module, at: str) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta or nn.parameter.is_lazy(tensor):
            why = "it is on the meta device" if tensor.is_meta else "its lazy module has seen no inputs"
            raise BadInput(f"{name!r} of {at!r} has no values: {why}; load weights first, or run the model once")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise BadInput(
                f"the weights of {at!r} hold {bad} NaN or infinite values in {name!r}: "
                "the checkpoint is damaged or training diverged; use an earlier one, or leave it out"
            )


def _moved(rep: Representation, device: str | torch.device | None) -> Representation:
    return rep if device is None else rep.with_(x=rep.x.to(device))
