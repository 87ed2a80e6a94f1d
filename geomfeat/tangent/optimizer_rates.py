"""What an optimizer says about how fast each parameter moves: its rate, and the size that it divides gradients by."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, near
from geomfeat.models.modules import inside_wrappers, real_pairs, wrapper_names
from geomfeat.models.trained_parameters import differentiable, plain_name
from geomfeat.models.weights.checkpoints import tensors_content
from geomfeat.models.weights.optimizer_files import read_optimizer
from geomfeat.storage.npz_files import UNREADABLE
from geomfeat.storage.owned_files import as_path, make_folder, replace_file
from geomfeat.tangent.optimizer_state import checked_rate, parts_of, rates_of

NOTE = "optimizer"  # the entry of a file's header that holds the rates


@dataclass(frozen=True, eq=False)
class OptimizerRates:
    """Rates of a network's parameters; only their ratios matter.

    Attributes:
        rates: name -> learning rate; names are without the wrappers of compiled parts.
        sizes: name -> size of the gradients that updates are divided by, if it is known.
        adaptive: names of the parameters whose updates are divided by it, known or not.
        orthogonal: names of the matrices whose updates have singular values of 1 (Muon).
    """

    rates: Mapping[str, float]
    sizes: Mapping[str, Tensor] = field(default_factory=dict)
    adaptive: frozenset[str] = frozenset()
    orthogonal: frozenset[str] = frozenset()

    def moves(self, name: str) -> bool:
        """Whether a parameter has a rate above 0."""
        return self.rates.get(plain_name(name), 0.0) > 0

    def are_plain(self, names: Iterable[str]) -> bool:
        """Whether all these parameters moved along their gradients at one rate: what is assumed without any rates.

        >>> rates = OptimizerRates({"w": 0.1, "v": 0.1})
        >>> rates.are_plain(["v", "w"]), rates.are_plain(["u", "v", "w"])
        (True, False)
        """
        known = {self.rates.get(plain_name(name), 0.0) for name in names}
        return not (self.adaptive or self.orthogonal or self.sizes) and len(known) == 1

    def save(self, path: str | Path) -> Path:
        """Write as .safetensors, which `locate(optimizer=)` and `geomfeat analyze --optimizer` read; returns the path.

        Raises BadInput for another suffix, OutputExists for a file that geomfeat did not write.
        """
        path = as_path(path)
        if path.suffix != ".safetensors":
            raise BadInput(f"rates are saved as .safetensors, got {str(path)!r}")
        content = rates_content(self)
        make_folder(path.parent)
        replace_file(path, lambda draft: draft.write_bytes(content))
        return path

    @classmethod
    def load(cls, path: str | Path) -> OptimizerRates:
        """Read what `save` wrote; BadInput for a file that is missing or something else."""
        from safetensors import SafetensorError, safe_open

        path = as_path(path, "optimizer")
        if not path.is_file():
            raise BadInput(f"optimizer {str(path)!r}: no such file")
        try:
            with safe_open(path, "pt") as file:
                notes = (file.metadata() or {}).get(NOTE)
                sizes = {name: file.get_tensor(name) for name in (file.keys() if notes else ())}
            kept = json.loads(notes or "{}")
            rates = {str(name): checked_rate(rate, name) for name, rate in kept.get("rates", {}).items()}
            adaptive, orthogonal = (frozenset(map(str, kept.get(name, ()))) for name in ("adaptive", "orthogonal"))
        except (*UNREADABLE, SafetensorError) as cause:
            raise BadInput(f"optimizer {str(path)!r} cannot be read ({cause}): copy it again") from cause
        if notes is None:
            raise BadInput(f"optimizer {str(path)!r} holds no optimizer: it is a file of weights")
        return cls(rates, sizes, adaptive, orthogonal)


def rates_content(rates: OptimizerRates) -> bytes:
    """What the file of rates holds: the sizes as tensors, the rest as JSON in its header."""
    plain = {"rates": dict(rates.rates), "adaptive": sorted(rates.adaptive), "orthogonal": sorted(rates.orthogonal)}
    return tensors_content(rates.sizes, {NOTE: json.dumps(plain)})


def optimizer_rates(optimizer: Any, model: nn.Module) -> OptimizerRates:
    """The rates in a torch optimizer, its `state_dict()`, {parameter glob: rate}, or a file of one of the latter.

    A schedule is left aside: the rates are those it began with ("initial_lr"). Parameters are found by identity, else
    by the names that the optimizer was given (`model.named_parameters()`), else by their order. For files see
    `geomfeat.models.weights.optimizer_files`; `.safetensors` holds what `OptimizerRates.save` wrote.

    Raises BadInput for an optimizer of other parameters, a state without steps, rates that are not positive, and
    patterns that match nothing.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> optimizer_rates({"0.*": 0.1, "1.*": 0.2}, net).rates["1.bias"]
    0.2
    >>> optimizer_rates(torch.optim.SGD(net.parameters(), lr=0.5), net).rates["0.weight"]
    0.5
    """
    if isinstance(optimizer, str | Path):
        return _in_file(optimizer, model)
    if isinstance(optimizer, OptimizerRates):
        return _of_model(optimizer, model)
    if isinstance(optimizer, Mapping) and "param_groups" not in optimizer:
        rates = {plain_name(name): rate for name, rate in _by_pattern(optimizer, model).items()}
        return _some_positive(OptimizerRates(rates))
    return rates_among(optimizer, differentiable(model))


def rates_among(optimizer: Any, known: Mapping[str, Tensor]) -> OptimizerRates:
    """The rates in a torch optimizer, or its `state_dict()`, of parameters by their names; see `optimizer_rates`."""
    if isinstance(optimizer, torch.optim.Optimizer):
        groups, state = optimizer.param_groups, optimizer.state
    elif isinstance(optimizer, Mapping):
        groups, state = parts_of(optimizer)
    else:
        raise BadInput(
            f"optimizer is a {type(optimizer).__name__}: give a torch optimizer, its state_dict(), "
            "{parameter pattern: rate}, or a file of one of these"
        )
    rates, sizes, adaptive, orthogonal = rates_of(groups, state, known)
    found = _some_positive(OptimizerRates(rates, sizes, frozenset(adaptive), frozenset(orthogonal)))
    if isinstance(optimizer, Mapping) and adaptive and not state:
        raise BadInput(
            "optimizer: its state has made no step: give the state after training, or the optimizer itself if only its "
            "kind is known"
        )
    return found


def _in_file(path: str | Path, model: nn.Module) -> OptimizerRates:
    saved = str(path).endswith(".safetensors")
    held = OptimizerRates.load(path) if saved else read_optimizer(path)
    try:
        return optimizer_rates(held, model)
    except BadInput as cause:
        raise BadInput(f"optimizer {str(path)!r}: {str(cause).removeprefix('optimizer: ')}") from cause


def _of_model(found: OptimizerRates, model: nn.Module) -> OptimizerRates:
    """The rates as they are; BadInput where they are of another model."""
    own = {plain_name(name): tuple(real_pairs(p).shape) for name, p in differentiable(model).items()}
    for name in [*found.rates, *found.sizes]:
        if name not in own:
            raise BadInput(f"optimizer: the model has no parameter {name!r}; near: {near(name, list(own))}")
    _some_positive(found)
    for name in [name for name in own if name in found.sizes]:
        if (shape := tuple(found.sizes[name].shape)) != own[name]:
            raise BadInput(
                f"optimizer: it holds {shape} where parameter {name!r} of the model is {own[name]}: it is "
                "the optimizer of another model"
            )
    return found


def _by_pattern(rates: Mapping[Any, Any], model: nn.Module) -> dict[str, float]:
    names, found = list(differentiable(model)), {}
    wrappers = wrapper_names(model)
    for pattern, rate in rates.items():
        matching = fnmatch.filter(names, str(pattern)) or fnmatch.filter(names, inside_wrappers(str(pattern), wrappers))
        if not matching:
            raise BadInput(f"optimizer: {pattern!r} matches no parameter; near: {near(str(pattern), names)}")
        found |= dict.fromkeys(matching, checked_rate(rate, str(pattern)))
    return found


def _some_positive(found: OptimizerRates) -> OptimizerRates:
    if not any(found.rates.values()):
        raise BadInput("optimizer: all rates are 0, so it moves nothing: give the rates that training had")
    return found
