"""Snapshots of one network: before and after training, and at the steps of a training, with samples to measure on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from geomfeat.activations import extract
from geomfeat.activations.chosen_layers import ChosenLayers
from geomfeat.models.functional import Functional, Readout
from geomfeat.models.one_network import in_one_form
from geomfeat.network import Network
from geomfeat.tangent.tangent_space import TangentSpace, space_of_moved
from geomfeat.types import Representation, Snapshot


@dataclass(frozen=True, eq=False)
class SnapshotPair:
    """The same network before and after training, and the probe inputs.

    Args:
        initial, trained: snapshots with weights of equal names and shapes. Where only one of them makes its weights of
            other tensors (weight norm before and after `remove_parametrizations`), both are taken with plain weights.
        inputs: probes (tensor, tuple or mapping; samples along the first dimension).
        labels: (n,) classes of the probes, or None.
        layers: names of the hidden layers to report, in forward order.
        initial_reps, trained_reps: features of these layers, if they were extracted already.
    """

    initial: Snapshot
    trained: Snapshot
    inputs: Any
    labels: Tensor | None = None
    layers: tuple[str, ...] = ()
    seed: int = 0
    device: str | None = None
    readout: Readout | None = None
    initial_reps: Mapping[str, Representation] | None = None
    trained_reps: Mapping[str, Representation] | None = None

    def __post_init__(self) -> None:
        initial, trained = in_one_form([self.initial.model, self.trained.model])
        if trained is not self.trained.model:
            object.__setattr__(self, "initial", replace(self.initial, model=initial))
            object.__setattr__(self, "trained", replace(self.trained, model=trained))

    @cached_property
    def before(self) -> Mapping[str, Representation]:
        """Flattened features of every layer at the initial snapshot."""
        return self.initial_reps if self.initial_reps is not None else self._features(self.initial.model)

    @cached_property
    def after(self) -> Mapping[str, Representation]:
        """Flattened features of every layer at the trained snapshot."""
        return self.trained_reps if self.trained_reps is not None else self._features(self.trained.model)

    @cached_property
    def space(self) -> TangentSpace:
        """The parameters that training moved, or all of them where none differs."""
        return space_of_moved(self.initial.model, self.trained.model)

    @cached_property
    def network(self) -> Network:
        """The trained network on the probes, with the parameters that training moved, in float64."""
        chosen = ChosenLayers.by_name(self.layers)
        return Network(self.trained.model, self.inputs, chosen, self.space, self.readout, self.device)

    @cached_property
    def start(self) -> Network:
        """The same before training."""
        return self.network.at(self.initial.model)

    @property
    def f_initial(self) -> Functional:
        """The initial network as a function of the parameters that training moved, in float64."""
        return self.start.f

    @property
    def f_trained(self) -> Functional:
        """The trained network as a function of the parameters that training moved, in float64."""
        return self.network.f

    @property
    def space_note(self) -> str:
        """Which parameters moved, for the notes of what is differentiated in them; "" where all did."""
        return "" if self.space.whole else f"tangent space: {self.space.words}, those that moved"

    def _features(self, model: nn.Module) -> Mapping[str, Representation]:
        return extract(
            model,
            self.inputs,
            layers=list(self.layers),
            labels=self.labels,
            device=self.device,
            progress=False,
        )


@dataclass(frozen=True, eq=False)
class SnapshotSeries:
    """One network at several steps, in order, and its training samples.

    Args:
        snapshots: `at` their steps ("init" is step 0), the first of them the start.
        inputs, targets: training samples (first dimension); (n,) integer classes, or (n, C) values.
        test: (inputs, targets) that were not trained on, or None: then only the training side is judged.
        loss: "mse", "cross-entropy" or a function, if it is known; values are judged by "mse" without it.
        gamma: where training was of f = (net(w) - net(w0)) / gamma, as `train_at_gamma` does; w0 is the first snapshot.
    """

    snapshots: Sequence[Snapshot]
    inputs: Any
    targets: Tensor | None
    test: tuple[Any, Any] | None = None
    loss: Any = None
    gamma: float | None = None
    readout: Readout | None = None
    device: str | None = None
