"""Which modules a forward pass calls, and which of them are the hidden layers with weights."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geomfeat.activations.checks.time_axis import require_samples_off_the_time_axis
from geomfeat.activations.hooks import recording, tensors_by_path
from geomfeat.activations.layer_selection import holder_of_bare_parameters, modules_by_name, split_key, weight_layers
from geomfeat.activations.model_state import evaluating, with_gradients
from geomfeat.errors import BadInput
from geomfeat.models.copying import deep_copy, is_dispatched
from geomfeat.models.functional import Readout, call, output_matrix, unwrapped
from geomfeat.models.nested_inputs import Inputs, as_inputs, batches_remedy, moved, n_samples, take
from geomfeat.models.refused_inputs import explained
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.numerics import resolve_device


def home(model: nn.Module) -> tuple[torch.device, torch.dtype | None]:
    """Device and floating precision of a model's first floating parameter or buffer."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), None


def few(inputs: Any, k: int) -> Any:
    """`k` samples of the inputs, repeated where there are fewer."""
    if isinstance(inputs, LazyInputs):
        inputs = inputs.first(k)
    return take(inputs, torch.arange(k) % n_samples(inputs))


def placed(model: nn.Module, device: str | torch.device | None) -> nn.Module:
    """The eager model: itself where it is, or a copy on `device` if that is given and elsewhere.

    A dispatched model stays where it is, whatever `device` says, see `is_dispatched`.

    Raises BadInput for weights without a shape, which a first forward pass would draw at random.
    """
    model = unwrapped(model)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(value, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer):
            raise BadInput(f"parameter {name!r} of a lazy module has no shape yet: call the model once on some inputs")
    if is_dispatched(model):
        return model
    here = home(model)[0]
    wanted = here if device is None else resolve_device(device)
    same = wanted.type == here.type and wanted.index in (None, here.index)
    return model if same else deep_copy(model).to(wanted)


def fired_layers(model: nn.Module, inputs: Inputs, *, device: str | torch.device | None = None) -> list[str]:
    """Names of the modules that one forward pass calls, in the order of their (first) calls, the root left out.

    Two samples are passed in evaluation mode without gradients; no trace is left.

    >>> fired_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.ones(4, 2))
    ['0', '1']
    """
    model = placed(model, device)
    return fired_on(model, moved(few(as_inputs(inputs), 2), *home(model)))


def fired_on(model: nn.Module, probe: Any) -> list[str]:
    """`fired_layers` of a few samples that are ready for the model, on its device and in its precision."""
    fired: dict[str, None] = {}
    with evaluating(model, home(model)[0]), torch.no_grad(), ExitStack() as stack:
        for name, module in modules_by_name(model).items():
            note = partial(_note, fired, name)
            stack.callback(module.register_forward_pre_hook(note).remove)
        tried(model, probe)
    return list(fired)


def tried(model: nn.Module, inputs: Inputs) -> Any:
    """`call` on a few samples; BadInput with their shapes and types if the model cannot take such inputs."""
    return explained(model, lambda: call(model, inputs), inputs, remedy=lambda: batches_remedy(inputs))


def _note(fired: dict[str, None], name: str, *_: Any) -> None:
    fired.setdefault(name)


def hidden_weight_layers(
    model: nn.Module,
    inputs: Inputs,
    *,
    readout: Readout | None = None,
    device: str | torch.device | None = None,
) -> list[str]:
    """The hidden layers of a network: modules with a weight matrix that fire, in call order, without the read-out.

    Weight matrices are parameters of two or more dimensions of a module's own (linear, convolution, recurrent cells,
    attention projections), embedding tables aside; a layer with an adapter counts as one. A module is read-out, not
    hidden, where

    - its output is the network's output: equal values for equal shapes; or
    - it has as many outputs per sample as the network, and nothing with weights lies between it and the output: the
      network's output is then its output rescaled, shifted, normalised or centred.

    Where no such module is hidden and the model itself, or the one module that it wraps, holds parameters, as code with
    bare nn.Parameters does, its hidden layers are the modules without children that are called in it on what these
    parameters made (an nn.Tanh, an nn.Identity), the output aside.

    Names are as `recording` gives them: of nested outputs the first tensor with floating numbers ("rnn[0]", the states
    of an LSTM). An empty list says that no layer is hidden, as in a single linear layer.

    Raises BadInput where a recurrent or attention layer runs over the samples as if they were time.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> hidden_weight_layers(net, torch.ones(4, 2))
    ['0']
    """
    model, inputs = placed(model, device), as_inputs(inputs)
    found = hidden_on(model, moved(few(inputs, 2), *home(model)), readout)
    require_samples_first(model, inputs)
    return found


def require_samples_first(model: nn.Module, inputs: Inputs, *, device: str | torch.device | None = None) -> None:
    """BadInput where a recurrent or attention layer of torch's runs over the samples as if they were time."""
    model, inputs = placed(model, device), as_inputs(inputs)
    require_samples_off_the_time_axis(model, lambda k: moved(few(inputs, k), *home(model)), home(model)[0])


def hidden_on(model: nn.Module, probe: Any, readout: Readout | None) -> list[str]:
    """`hidden_weight_layers` of two samples that are ready for the model, on its device and in its precision."""
    modules, fired = modules_by_name(model), fired_on(model, probe)
    weights = set(weight_layers(modules))
    holder = holder_of_bare_parameters(model)
    if holder is not None and (hasattr(holder[1], "parametrizations") or not list(holder[1].children())):
        holder = None
    # What a model only wraps makes its output, however the model turns that.
    weights -= set() if holder is None else {holder[0]}
    found = _hidden(model, probe, [n for n in fired if n in weights], readout)
    if found or holder is None:
        return found
    within = f"{holder[0]}." if holder[0] else ""
    leaves = [n for n in fired if n.startswith(within) and not any(True for _ in modules[n].parameters())
              and not list(modules[n].children())]  # fmt: skip
    return _hidden(model, probe, leaves, readout, holder=holder[0])


def _hidden(
    model: nn.Module, probe: Any, names: list[str], readout: Readout | None, *, holder: str | None = None
) -> list[str]:
    """The modules that are not the read-out; inside of a holder of bare parameters, those that depend on a parameter
    and are not the holder's output, nor the network's."""
    if not names:
        return []
    shown = [*names, holder] if holder else names
    # cuDNN's recurrent layers have no backward pass in evaluation mode.
    with evaluating(model, home(model)[0]), with_gradients(model), torch.backends.cudnn.flags(enabled=False):
        with _attached(model, names, "input") as given, _attached(model, shown, "output") as made:
            output = call(model, probe)
        matrix = output_matrix(output, probe, readout)
        raw = [*tensors_by_path(output).values(), matrix]
        first = _first_of_each(names, made)
        if holder is not None:
            raw += [made[key] for key in made if holder and split_key(key)[0] == holder]
            return [key for key in first.values() if made[key].requires_grad and not _is_among(made[key], raw)]
        later = {name: [t for key, t in given.items() if split_key(key)[0] == name] for name in names}
        return [key for name, key in first.items() if not _is_readout(made[key], name, raw, matrix, later)]


def _attached(model: nn.Module, names: list[str], io: Literal["input", "output"]) -> Any:
    # The tensors themselves, not copies: a copy is no part of the graph between a layer and the output.
    return recording(model, names, io=io, detach=False, transform=lambda _key, tensor: tensor)


def _first_of_each(names: Iterable[str], made: dict[str, Tensor]) -> dict[str, str]:
    """Module name -> key of the first tensor that it returned; of those with floating numbers, if there are any."""
    first: dict[str, str] = {}
    for name in names:
        keys = [key for key in made if split_key(key)[0] == name]
        readable = [key for key in keys if made[key].is_floating_point() and made[key].numel()]
        if keys:
            first[name] = (readable or keys)[0]
    return first


def _is_readout(made: Tensor, name: str, raw: list[Tensor], matrix: Tensor, given: dict[str, list[Tensor]]) -> bool:
    if _is_among(made, raw):
        return True
    if made.numel() != matrix.numel():
        return False
    inputs = [t for other, ts in given.items() if other != name for t in ts if t.requires_grad]
    if not inputs or not made.requires_grad:
        return True
    total = torch.stack([t.sum() for t in inputs]).sum()
    return torch.autograd.grad(total, made, retain_graph=True, allow_unused=True)[0] is None


def _is_among(made: Tensor, outputs: list[Tensor]) -> bool:
    return any(made.shape == out.shape and torch.equal(made, out) for out in outputs)
