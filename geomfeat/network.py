"""One network with what every question about it needs: prepared once, carried through location, study and kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations import require_samples_first
from geomfeat.activations.chosen_layers import ChosenLayers, choose_hidden_layers
from geomfeat.activations.layer_selection import Patterns
from geomfeat.errors import BadInput
from geomfeat.models.copying import require_whole
from geomfeat.models.functional import Functional, Readout
from geomfeat.models.nested_inputs import as_inputs, n_samples, take
from geomfeat.models.readouts.reading import fitted
from geomfeat.models.trained_parameters import differentiable, plain_name
from geomfeat.numerics import WORKING
from geomfeat.tangent import vjp
from geomfeat.tangent.metric import PLAIN_METRIC, Metric, metric_of, require_moving
from geomfeat.tangent.optimizer_rates import OptimizerRates, optimizer_rates
from geomfeat.tangent.tangent_space import (
    EVERY,
    MOVED,
    RATED,
    Params,
    TangentSpace,
    space_of_moved,
    space_without_start,
)

# A network of more parameters is differentiated in float32: float64 convolutions cost ten times as much. The
# algebra on its kernel stays in float64.
HEAVY = 1_000_000


@dataclass(frozen=True, eq=False)
class Network:
    """A network at one moment of its training, the inputs it is measured on, and how.

    Attributes:
        model: it, with the weights of this moment. inputs: samples, in the form that the model takes.
        layers: the hidden layers to measure. space: the parameters that training was free to move.
        readout: see `output_matrix`. device: where it is computed; None for the model's own. dtype: in what precision.
        rates: of the optimizer, or None where it is not known. metric: the coordinates that `f` is taken in.
        borrowed: whether `f` of a heavy network reads the weights where `model` keeps them, which then must stay as
            they are as long as it is used; else it holds a copy.
    """

    model: nn.Module
    inputs: Any
    layers: ChosenLayers
    space: TangentSpace
    readout: Readout | None = None
    device: str | torch.device | None = None
    dtype: torch.dtype = WORKING
    rates: OptimizerRates | None = None
    metric: Metric = PLAIN_METRIC
    borrowed: bool = False

    @classmethod
    def prepare(
        cls,
        model: nn.Module,
        inputs: Any,
        *,
        layers: Patterns = "*",
        initial: nn.Module | None = None,
        params: Params | None = None,
        optimizer: Any = None,
        readout: Readout | None = None,
        device: str | torch.device | None = None,
    ) -> Network:
        """Find the layers and the trained parameters, and check that the model takes the inputs as samples.

        Args:
            layers: patterns, see `choose_hidden_layers`. initial: the network before training, if it is known.
            params: which parameters were trained; default those that differ from `initial`, see `TangentSpace`.
            optimizer: what trained them, see `optimizer_rates`; None where it is not known.

        Raises BadInput (or a subclass) for layers, parameters or inputs that cannot be used.

        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> network = Network.prepare(net, torch.ones(4, 2), params="2.*")
        >>> network.layers.names, network.space.words, network.n
        (('0',), '4 of 13 parameters', 4)
        """
        for whole in (model, initial):
            if whole is not None:
                require_whole(whole)
        inputs = as_inputs(inputs)
        n_samples(inputs)
        rates = None if optimizer is None else optimizer_rates(optimizer, model)
        space = trained_space(model, initial, params, rates)
        chosen = choose_hidden_layers(model, inputs, layers, readout=readout, device=device)
        require_samples_first(model, inputs, device=device)
        readout = fitted(readout, inputs)
        return cls(model, inputs, chosen, space, readout, device, working_precision(model), rates)

    @property
    def n(self) -> int:
        """Number of samples."""
        return n_samples(self.inputs)

    @property
    def is_heavy(self) -> bool:
        """Whether it has more than a million parameters."""
        return is_heavy(self.model)

    @cached_property
    def f(self) -> Functional:
        """The network as a function of the parameters of `space`, in the coordinates of `metric`."""
        f = self.space.functional(self.model, dtype=self.dtype, device=self.device, readout=self.readout)
        f = f.borrowing(self.model, self.inputs) if self.borrowed and self.is_heavy else f
        return f.scaled(self.metric.scale) if self.metric.scale else f

    def at(self, model: nn.Module) -> Network:
        """The same at another moment: other weights of the same architecture."""
        return replace(self, model=model)

    def within(self, space: TangentSpace) -> Network:
        """The same with other parameters free to move, in their own coordinates."""
        return self if space is self.space else replace(self, space=space, metric=PLAIN_METRIC)

    def in_metric(self, metric: Metric) -> Network:
        """The same in the coordinates in which an optimizer's training is gradient flow."""
        other = replace(self, metric=metric)
        if "f" in self.__dict__ and not self.metric.scale:
            other.__dict__["f"] = self.f.scaled(metric.scale)
        return other

    def in_own_metric(self, change: Tensor) -> Network:
        """The same in the coordinates of its optimizer, for the change (n, C) of the outputs that training made."""
        if self.rates is None:
            return self
        return self.in_metric(metric_of(self.rates, self.f.theta, lambda: vjp(self.f, self.inputs, change)))

    def take(self, rows: Tensor | slice) -> Network:
        """The same on some of its samples."""
        return self._measured_on(inputs=take(self.inputs, rows))

    def on_layers(self, layers: ChosenLayers) -> Network:
        """The same with other layers to measure."""
        return self._measured_on(layers=layers)

    def _measured_on(self, **changed: Any) -> Network:
        """With other inputs or layers, on which `f` does not depend: it is not prepared again."""
        other = replace(self, **changed)
        if "f" in self.__dict__:
            other.__dict__["f"] = self.f
        return other


def trained_space(
    model: nn.Module, initial: nn.Module | None, params: Params | None, rates: OptimizerRates | None
) -> TangentSpace:
    """The parameters that training was free to move, see `TangentSpace`; without `initial` those that have a rate.

    Raises BadInput where they have none although they moved, or are in `params`; and for a start that is only a part of
    the network.
    """
    if initial is not None:
        _require_more_than_a_part(initial, model)
    if rates is None:
        return space_without_start(model, params) if initial is None else space_of_moved(initial, model, params)
    if initial is None and params is None:
        return replace(space_without_start(model, rates.moves), source=RATED)
    space = space_without_start(model, params) if initial is None else space_of_moved(initial, model, params)
    if initial is not None and space.source == MOVED:
        space = _without_still_parts(space, initial, model, rates)
    if space.source != EVERY:
        require_moving(rates, [name for name in space.sizes if name in space.names], given=params is not None)
    return space


def _require_more_than_a_part(initial: nn.Module, model: nn.Module) -> None:
    """BadInput for a start that is a part of the trained network alone: a pretrained body without a head."""
    old, new = ([plain_name(name) for name in differentiable(m)] for m in (initial, model))
    if not old:
        return
    ends = (name.removesuffix(old[0]) for name in new if name.endswith(f".{old[0]}"))
    holder = next((part[:-1] for part in ends if {f"{part}{name}" for name in old} <= set(new)), None)
    if holder is not None:
        raise BadInput(
            f"initial is the part {holder!r} of the model alone, without its head. Give the whole model as it was "
            f"before training: start = copy.deepcopy(model), start.{holder}.load_state_dict(initial.state_dict()), and "
            "a fresh draw in place of the head"
        )


def _without_still_parts(
    space: TangentSpace, initial: nn.Module, model: nn.Module, rates: OptimizerRates
) -> TangentSpace:
    """The space without parts of moved weights (a length, a direction) that kept their values and have no rate."""
    old, new = ({plain_name(name): p.detach() for name, p in differentiable(m).items()} for m in (initial, model))
    resting = [plain_name(name) for name in space.names if not rates.moves(name)]
    still = {name for name in resting if name in new and torch.equal(old[name].to(new[name]), new[name])}
    names = frozenset(name for name in space.names if plain_name(name) not in still)
    return replace(space, names=names) if names else space


def is_heavy(model: nn.Module) -> bool:
    """Whether a model has more than a million parameters."""
    return sum(p.numel() for p in model.parameters()) > HEAVY


def working_precision(model: nn.Module) -> torch.dtype:
    """float64, or float32 for a heavy network that is not in float64 itself."""
    return torch.float32 if is_heavy(model) and next(model.parameters()).dtype != WORKING else WORKING
