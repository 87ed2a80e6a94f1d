"""What a study measures: one network at several moments, on the same inputs, through the same layers; checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from geomfeat.activations import extract, hidden_weight_layers, readable_layers
from geomfeat.activations.chosen_layers import no_hidden_layer
from geomfeat.activations.layer_selection import Patterns
from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.labels import Labels, as_goal, as_groups, classes_in
from geomfeat.models.functional import Inputs, Readout, as_inputs, copied, n_samples, unwrapped
from geomfeat.models.one_network import require_one_network
from geomfeat.numerics import resolve_device, whole_seed
from geomfeat.types import Representation, Snapshot

INITIAL, TRAINED = "init", "trained"
# Wider layers are projected for geometry: at 4096 features a covariance takes 0.1 GB, and 2048 random directions
# preserve distances between samples to about sqrt(2 / 2048) = 3 %.
WIDE, PROJECTED = 4096, 2048


@dataclass(frozen=True, eq=False)
class Look:
    """How features are taken: the options of `extract` that a study shares between its moments."""

    reduce: str | Callable[[Tensor], Tensor] = "flatten"
    project: str | int | None = "auto"
    batch_size: int = 256
    seed: int = 0
    device: str | torch.device | None = None
    readout: Readout | None = None

    def __post_init__(self) -> None:
        odd = self.project not in ("auto", None) and not (isinstance(self.project, int) and self.project >= 1)
        if odd:
            raise BadInput(f"project={self.project!r}: use 'auto', None, or a number of features of at least 1")
        resolve_device(self.device)
        whole_seed(self.seed)

    def features(
        self,
        model: nn.Module,
        inputs: Any,
        layers: Patterns,
        labels: Any = None,
        *,
        groups: Any = None,
        outputs: bool,
        progress: bool = False,
        project: int | None = None,
    ) -> dict[str, Representation]:
        """`extract` with these options, held in memory."""
        return dict(
            extract(
                model, inputs, labels, layers=layers, groups=groups, reduce=self.reduce, project=project,
                batch_size=self.batch_size, device=self.device, progress=progress, seed=self.seed,
                with_outputs=outputs, readout=self.readout,
            )
        )  # fmt: skip

    def widths(self, model: nn.Module, inputs: Any, layers: Patterns) -> tuple[dict[str, int], bool]:
        """Layer -> number of its features, of those that can be read, and whether the outputs can be read as (n, C)."""
        options: dict[str, Any] = {
            "layers": layers, "reduce": self.reduce, "batch_size": self.batch_size, "device": self.device,
            "seed": self.seed, "readout": self.readout,
        }  # fmt: skip
        try:
            return readable_layers(model, inputs, with_outputs=True, **options), True
        except BadInput:
            # Either the outputs cannot be read as (n, C), which a study can do without, or this raises again.
            return readable_layers(model, inputs, **options), False


@dataclass(frozen=True, eq=False)
class Subject:
    """One network at its moments, by name: "init", the steps of checkpoints, "trained".

    Attributes:
        layers: names of the features that are measured, in forward order. projected: those that are projected.
        labels: (n,) classes, or None where there are none. goal: what was to be learned: these, or values (n,), (n, C).
        has_outputs: whether the network's outputs can be read as (n, C). classes: names that the labels stand for.
        groups: (n,) which samples belong together, or None.
        patterns: how the layers were selected; "*" means the hidden layers with weights.
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
        return self.look.project if isinstance(self.look.project, int) else PROJECTED if self.projected else None

    def features(self, at: str, progress: bool = False) -> dict[str, Representation]:
        """Features of every layer at one moment, wide ones projected, on the device of the study."""
        model, found = self.snapshots[at].model, {}
        labels = None if self.labels is None else Labels(self.labels, self.classes)
        for names, width in (
            ([name for name in self.layers if name not in self.projected], None),
            ([name for name in self.layers if name in self.projected], self.width),
        ):
            if names:
                found |= self.look.features(
                    model, self.inputs, names, labels, groups=self.groups, outputs=self.has_outputs, progress=progress,
                    project=width,
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
    patterns: Patterns = layers
    if layers in ("*", ["*"], ("*",)):
        patterns = "weights"
        if not hidden_weight_layers(model, inputs, readout=look.readout, device=look.device):
            raise BadInput(
                f"layers='*' means hidden layers with weights, and the model has none: {no_hidden_layer(model)}. Name "
                "layers, e.g. 'leaf'. All of them: geomfeat extract --list"
            )
    widths, has_outputs = look.widths(model, inputs, patterns)
    limit = WIDE if look.project == "auto" else look.project
    projected = frozenset(name for name, d in widths.items() if isinstance(limit, int) and d > limit)
    return Subject(
        snapshots, inputs, codes, look, tuple(widths), projected, has_outputs, classes, together, patterns=layers,
        goal=goal,
    )  # fmt: skip


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
