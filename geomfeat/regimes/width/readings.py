"""What a change of weights did inside a network, layer by layer, in the terms of the width-scaling criteria.

Layers are the modules with a weight matrix that fire, in call order; h_l is what layer l returns (its preactivation)
and x_l what it is given. With 0 and 1 for initial and trained weights, W_l(x) for the layer as a function,

    feature change   h_l(1) - h_l(0)
    direct           W_l(1)(x_l(0)) - W_l(0)(x_l(0))      the layer's own update on its old input
    inherited        W_l(0)(x_l(1)) - W_l(0)(x_l(0))      its old weights on the change of its input
    spectral update  |W_l(1) - W_l(0)|_op / |W_l(0)|_op   the weight matrix as (out, everything else)

and of the whole network net, in units of the scaled outputs f = net / gamma,

    initial output   net(0)
    output change    net(1) - net(0)
    useful update    net(all layers new but the read-out's weights) - net(0)
    second order     net(1) - net(0) - J (w1 - w0), J = d net / d w at 0: all that the linearised network leaves out

Sizes are l2 norms per sample, their root mean square over samples. Karkada 2024, section 3, where the useful update is
W3 Dh2, direct is DW_l h_{l-1}. The second-order term is a difference, not a Hessian: for smooth activations the two
scale with the same power; a ReLU's kinks add to it where features hardly move.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from geomfeat.activations import fired_layers, hidden_weight_layers, module_name, recording, split_key, tensors_by_path
from geomfeat.activations.layer_selection import has_weight_matrix, modules_by_name
from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout, call_with, functional, output_matrix
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import tolerance
from geomfeat.regimes.width.parallel_training import Family, Values, over_seeds
from geomfeat.tangent import jvp

OF_NETWORK = ("initial_output", "output_change", "useful_update", "second_order")


@dataclass(frozen=True)
class ReadingSites:
    """The layers with a weight matrix, in call order.

    Attributes:
        names: of all. hidden: of those that are not read-out. alone: of those that can be run by themselves, because
            they take nothing but tensors by position; direct and inherited terms exist for these.
    """

    names: tuple[str, ...]
    hidden: tuple[str, ...]
    alone: tuple[str, ...]

    @property
    def readout(self) -> tuple[str, ...]:
        """The layers whose output is the network's."""
        return tuple(name for name in self.names if name not in self.hidden)


def find_sites(nets: Family, inputs: Any, readout: Readout | None = None) -> ReadingSites:
    """The layers of a family; BadInput where none of them is hidden."""
    model = nets.network(nets.start, 0)
    modules = modules_by_name(model)
    names = [name for name in fired_layers(model, inputs) if has_weight_matrix(modules[name])]
    hidden = {module_name(key) for key in hidden_weight_layers(model, inputs, readout=readout)}
    if len(names) < 2 or not hidden:
        raise BadInput(f"the model has weight layers {names}, none of them hidden: width scaling needs a hidden layer")
    if len(hidden) == len(names):
        hidden.discard(names[-1])  # the last layer is read out through something that hides it
    first = {name: t[0] for name, t in {**nets.start, **nets.fixed}.items()}
    made, given, _ = passed(nets, first, inputs, names, readout)
    alone = []
    for name in names:
        try:
            again = _run(nets, name, first, given.get(name, ()))
        # A layer that needs more than its tensors says so in its own way; it is then left without these two terms.
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError):
            continue
        if again.shape == made[name].shape and _equal(again, made[name]):
            alone.append(name)
    return ReadingSites(tuple(names), tuple(n for n in names if n in hidden), tuple(alone))


def readings(
    nets: Family,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    inputs: Any,
    *,
    gamma: float,
    sites: ReadingSites,
    readout: Readout | None = None,
    batched: bool = True,
) -> dict[tuple[str, str], Tensor]:
    """(quantity, layer) -> (S,) sizes; layer "" is the network. Terms that a layer does not have are left out.

    Args:
        before, after: all weights and buffers by name, each (S, ...), in the precision to work in.
    """

    def one(old: Values, new: Values) -> dict[str, Tensor]:
        return _sizes(nets, old, new, inputs, sites, readout)

    with torch.no_grad():
        found = over_seeds(one, batched)(dict(before), dict(after))
    scale = math.sqrt(n_samples(inputs))
    out = {_key(name): value / scale for name, value in found.items()}
    out[("second_order", "")] = _second_order(nets, before, after, inputs, readout) / scale
    for name in sites.names:
        out[("spectral_update", name)] = _spectral_update(nets, name, before, after)
    return {key: value / gamma if key[0] in OF_NETWORK else value for key, value in out.items()}


def _key(name: str) -> tuple[str, str]:
    quantity, _, layer = name.partition("|")
    return quantity, layer


def _sizes(
    nets: Family, old: Values, new: Values, inputs: Any, sites: ReadingSites, readout: Readout | None
) -> dict[str, Tensor]:
    """Norms over all samples, of one network."""
    h0, x0, net0 = passed(nets, old, inputs, sites.names, readout)
    h1, x1, net1 = passed(nets, new, inputs, sites.names, readout)
    kept = {source for site in sites.readout for _, source in _own(nets, site)}
    mixed = {name: old[name] if name in kept else value for name, value in new.items()}
    useful = output_matrix(call_with(nets.model, mixed, nets.uses, inputs), inputs, readout)
    out = {
        "initial_output|": net0.norm(),
        "output_change|": (net1 - net0).norm(),
        "useful_update|": (useful - net0).norm(),
    }
    for name in sites.names:
        out[f"feature_change|{name}"] = (h1[name] - h0[name]).norm()
        if name in sites.alone:
            out[f"direct|{name}"] = (_run(nets, name, new, x0[name]) - h0[name]).norm()
            out[f"inherited|{name}"] = (_run(nets, name, old, x1[name]) - h0[name]).norm()
    return out


def passed(
    nets: Family, values: Mapping[str, Tensor], inputs: Any, names: Sequence[str], readout: Readout | None
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]], Tensor]:
    """One forward pass: what every layer returned (its first tensor) and was given, and the output (n, C)."""
    with (
        recording(nets.model, list(names), io="input", detach=False) as seen,
        recording(nets.model, list(names), detach=False) as done,
    ):
        out = call_with(nets.model, values, nets.uses, inputs)
    made: dict[str, Tensor] = {}
    given: dict[str, tuple[Tensor, ...]] = {}
    for key, tensor in done.items():
        made.setdefault(split_key(key)[0], tensor)
    for key, tensor in seen.items():
        name = split_key(key)[0]
        given[name] = (*given.get(name, ()), tensor)
    return made, given, output_matrix(out, inputs, readout)


def _equal(a: Tensor, b: Tensor) -> bool:
    close = tolerance(a.dtype)
    return torch.allclose(a, b, rtol=close["rtol"], atol=close["atol"])


def _own(nets: Family, layer: str) -> list[tuple[str, str]]:
    """(name within the layer, name of the tensor) of all that a layer computes with."""
    return [(use.removeprefix(f"{layer}."), source) for use, source in nets.uses if use.startswith(f"{layer}.")]


def _run(nets: Family, layer: str, values: Mapping[str, Tensor], given: tuple[Tensor, ...]) -> Tensor:
    """The layer by itself, on tensors it was given, with other weights."""
    own = {within: values[source] for within, source in _own(nets, layer)}
    given = tuple(t.clone() for t in given)
    return next(iter(tensors_by_path(functional_call(nets.model.get_submodule(layer), own, given)).values()))


def _second_order(
    nets: Family, before: Mapping[str, Tensor], after: Mapping[str, Tensor], inputs: Any, readout: Readout | None
) -> Tensor:
    found, dtype = [], next(iter(before.values())).dtype
    first = functional(nets.network(before, 0), dtype=dtype, readout=readout)
    for i in range(nets.n_seeds):
        if first.fixed or first.pairs:
            f = functional(nets.network(before, i), dtype=dtype, readout=readout)
        else:  # networks that differ by their weights alone: what was checked about derivatives of one holds for all
            f = first.at({name: before[name][i] for name in first.theta})
        step = {name: after[name][i] - value for name, value in f.theta.items()}
        with torch.no_grad():
            moved = f({name: value + step[name] for name, value in f.theta.items()}, inputs) - f(f.theta, inputs)
        found.append((moved - jvp(f, inputs, step)).norm().detach())
        first.known.update(f.known)
    return torch.stack(found)


def _spectral_update(nets: Family, layer: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Tensor:
    """(S,) of the layer's matrices the one that changed most."""
    ratios = [
        _operator_norms(after[source] - before[source]) / _operator_norms(before[source])
        for within, source in _own(nets, layer)
        if source in nets.start and before[source].ndim > 2 and _is_own(nets, layer, within)
    ]
    size = next(iter(before.values()))
    return torch.stack(ratios).amax(0) if ratios else torch.zeros(nets.n_seeds, dtype=size.dtype, device=size.device)


def _is_own(nets: Family, layer: str, within: str) -> bool:
    """Whether a tensor belongs to the layer itself (parametrized or not), not to a layer inside of it."""
    parent = within.rpartition(".")[0]
    return not parent or parent.startswith("parametrizations")


def _operator_norms(weights: Tensor) -> Tensor:
    """(S,) largest singular values of weights (S, out, ...), from the smaller Gram matrix."""
    m = weights.flatten(2)
    gram = m @ m.mT if m.shape[1] <= m.shape[2] else m.mT @ m
    return torch.linalg.eigvalsh(gram)[:, -1].clamp_min(0).sqrt()
