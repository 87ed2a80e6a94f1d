"""Any torch module as a pure function of its parameters: f(theta, inputs) -> (n, C).

The one place that knows how to call a model: inputs may be a tensor, a tuple (positional) or a mapping (keyword,
as transformers take them), with samples along the first dimension of every tensor; outputs may be a tensor, a tuple,
or an object with `logits` or `last_hidden_state`. Everything that differentiates a network goes through `Functional`.
"""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from geomfeat.errors import BadInput, near
from geomfeat.numerics import WORKING, as_tensor, resolve_device

Inputs = Any  # Tensor | ndarray | tuple | list | Mapping[str, ...]
Readout = Callable[[Any, Any], Tensor]


def as_inputs(inputs: Inputs) -> Any:
    """Tensors in the shape the model takes them: arrays and lists of numbers become tensors, mappings dicts.

    Other lists and tuples become tuples, one entry per positional argument. Inside of them, None, switches (bool) and
    words (str) stay as they are, to be handed to the model with every batch.

    >>> as_inputs({"tokens": [[1, 2], [3, 4]], "mask": None})
    {'tokens': tensor([[1, 2],
            [3, 4]]), 'mask': None}
    """
    if isinstance(inputs, Mapping):
        return {k: _as_argument(v) for k, v in inputs.items()}
    if isinstance(inputs, tuple | list) and inputs and not _is_array(inputs):
        return tuple(_as_argument(v) for v in inputs)
    return as_tensor(inputs, "inputs")


def _as_argument(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | str) else as_inputs(value)


def _is_array(inputs: Sequence[Any]) -> bool:
    """Whether a sequence stands for one array: numbers, or lists of numbers. A tuple of lists is several arguments."""
    first = inputs[0]
    if isinstance(inputs, list) and isinstance(first, list) and first:
        return _is_array(first)
    return isinstance(first, numbers.Number)


def _leaves(inputs: Any) -> list[Tensor]:
    if isinstance(inputs, Mapping):
        return [t for v in inputs.values() for t in _leaves(v)]
    if isinstance(inputs, tuple | list):
        return [t for v in inputs for t in _leaves(v)]
    return [inputs] if isinstance(inputs, Tensor) else []


def map_inputs(inputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` applied to every tensor of nested inputs."""
    if isinstance(inputs, Mapping):
        return {k: map_inputs(v, function) for k, v in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(map_inputs(v, function) for v in inputs)
    return function(inputs) if isinstance(inputs, Tensor) else inputs


def n_samples(inputs: Inputs) -> int:
    """Number of samples; BadInput when the tensors of the inputs disagree or hold none."""
    sizes = {t.shape[0] if t.ndim else 0 for t in _leaves(as_inputs(inputs))}
    if len(sizes) != 1 or 0 in sizes:
        raise BadInput(
            f"inputs must hold the same positive number of samples along the first dimension of every tensor, "
            f"got {sorted(sizes)}"
        )
    return sizes.pop()


def shapes_of(inputs: Any) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Shape and type of every tensor of nested inputs."""
    return tuple((tuple(t.shape), t.dtype) for t in _leaves(inputs))


def take(inputs: Any, rows: Tensor | slice) -> Any:
    """The samples `rows` of nested inputs."""
    return map_inputs(inputs, lambda t: t[rows])


def moved(inputs: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Inputs on `device`; floating tensors also in `dtype`, integer ones (token ids, masks) as they are."""
    return map_inputs(inputs, lambda t: t.to(device, dtype if dtype is not None and t.is_floating_point() else t.dtype))


def batches(inputs: Any, size: int) -> Iterator[tuple[slice, Any]]:
    """(rows, inputs of these rows) in order, `size` at a time."""
    n = n_samples(inputs)
    for start in range(0, n, max(1, size)):
        rows = slice(start, min(n, start + max(1, size)))
        yield rows, take(inputs, rows)


def unwrapped(model: nn.Module) -> nn.Module:
    """The eager module: a compiled one without its wrapper; BadInput for TorchScript, which hooks cannot see into."""
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.jit.ScriptModule) or type(model).__name__ == "RecursiveScriptModule":
        raise BadInput("model is a TorchScript module, whose layers cannot be hooked: load the eager nn.Module instead")
    if not isinstance(model, nn.Module):
        raise BadInput(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return model


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of the eager module; BadInput where it cannot be copied, or has weights without a shape yet."""
    model = unwrapped(model)
    for name, value in model.named_parameters():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise BadInput(f"parameter {name!r} of a lazy module has no shape yet: call the model once on some inputs")
    try:
        return copy.deepcopy(model)
    except RuntimeError as cause:
        raise BadInput(
            f"the model cannot be copied ({cause}): use torch.nn.utils.parametrizations instead of weight_norm, and "
            "keep no tensors with a gradient history in modules"
        ) from cause


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """model(x), model(*tuple) or model(**mapping), on a copy of the tensors.

    A model that works in place on what it is given (a first layer ReLU(inplace=True)) must not change it for others.
    """
    inputs = map_inputs(inputs, torch.clone)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def output_matrix(output: Any, inputs: Any = None, readout: Readout | None = None) -> Tensor:
    """A model's output as (n, C).

    `readout(output, inputs)` decides if given. Else: a tensor is flattened per sample; `logits` is taken where there
    is one; `last_hidden_state` is averaged over the tokens of the attention mask, where it is (n, tokens, d); else the
    first tensor is taken, of mappings, sequences and dataclasses in order.
    """
    output = output_tensor(output, inputs, readout)
    if output.ndim == 0:
        raise BadInput("the model returns one number for all samples (a loss?): pass readout= to pick its outputs")
    return output.flatten(1) if output.ndim > 1 else output[:, None]


def output_tensor(output: Any, inputs: Any = None, readout: Readout | None = None) -> Tensor:
    """The tensor that `output_matrix` takes, in the shape that the model gave it."""
    if readout is not None:
        output = readout(output, inputs)
    elif not isinstance(output, Tensor):
        output = _main_tensor(output, inputs)
    if not isinstance(output, Tensor):
        raise BadInput(f"the model returns {type(output).__name__}, not a tensor: pass readout= to pick one")
    if not output.is_floating_point():
        raise BadInput(f"the model's output is {output.dtype}, not floating point: pass readout= to pick logits")
    return output


def _main_tensor(output: Any, inputs: Any) -> Any:
    get = output.get if isinstance(output, Mapping) else lambda key: getattr(output, key, None)
    if isinstance(get("logits"), Tensor):
        return get("logits")
    hidden = get("last_hidden_state")
    if isinstance(hidden, Tensor) and hidden.ndim != 3:
        return hidden
    if isinstance(hidden, Tensor):
        mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
        weight = torch.ones(hidden.shape[:2]) if mask is None else mask
        weight = weight.to(hidden)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp_min(1.0)
    if dataclasses.is_dataclass(output) and not isinstance(output, Mapping):
        output = [getattr(output, f.name) for f in dataclasses.fields(output)]
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else []
    for value in values:
        found = value if isinstance(value, Tensor) else _main_tensor(value, inputs)
        if isinstance(found, Tensor):
            return found
    return None


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Attention by plain matrix products: the fused kernels have no forward-mode or second derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Compiled parts run their eager code, which hooks can see and torch.func can transform.

    Nothing is done (or imported) where there are none.
    """
    with ExitStack() as stack:
        if any(hasattr(module, "_orig_mod") for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def uses_of(model: nn.Module) -> tuple[tuple[str, str], ...]:
    """Every own tensor of every module (each module once), with the name it has in named_parameters or named_buffers.

    >>> tied = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> tied[1].weight = tied[0].weight
    >>> uses_of(tied)
    (('0.weight', '0.weight'), ('1.weight', '0.weight'))
    """
    names = {id(t): n for n, t in [*model.named_parameters(), *model.named_buffers()]}
    return tuple(
        (f"{path}.{own}" if path else own, names[id(tensor)])
        for path, module in model.named_modules()
        for own, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    )


def call_with(model: nn.Module, values: Mapping[str, Tensor], uses: Sequence[tuple[str, str]], inputs: Inputs) -> Any:
    """`call` with `values` in place of the model's own tensors, differentiable in them; the model is as before after.

    `uses` of the model says where each value goes. functional_call's own tying does not do: it swaps a module that has
    two names twice, and leaves the wrong tensor in it.
    """
    placed = {name: values[source] for name, source in uses if source in values}
    inputs = map_inputs(inputs, torch.clone)
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    with differentiable_attention(), eager(model):
        return functional_call(model, placed, args, kwargs, tie_weights=False)


@dataclass(frozen=True, eq=False)
class Functional:
    """A model as f(theta, inputs), in evaluation mode, on a copy that nothing else touches.

    Attributes:
        model: the copy. theta: trainable parameters by name (a shared parameter once). fixed: frozen ones and buffers.
        uses: where each of them is used: (name in the model, name in theta or fixed), each module once.
        dtype, device: of theta. readout: see `output_matrix`.
        known: what was measured or checked about it once, by what asked; a changed copy begins without.
    """

    model: nn.Module
    theta: dict[str, Tensor]
    fixed: dict[str, Tensor]
    uses: tuple[tuple[str, str], ...]
    dtype: torch.dtype
    device: torch.device
    readout: Readout | None = None
    known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, theta: Mapping[str, Tensor], inputs: Any) -> Tensor:
        """(n, C) outputs at parameters `theta`; the inputs are copied, as in `call`."""
        out = call_with(self.model, {**self.fixed, **theta}, self.uses, inputs)
        return output_matrix(out, inputs, self.readout)

    def inputs(self, inputs: Inputs) -> Any:
        """Inputs on this function's device and in its precision."""
        return moved(as_inputs(inputs), self.device, self.dtype)

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(t.numel() for t in self.theta.values())


def functional(
    model: nn.Module,
    *,
    params: str | Sequence[str] | Callable[[str], bool] | None = None,
    dtype: torch.dtype = WORKING,
    device: str | torch.device | None = None,
    readout: Readout | None = None,
) -> Functional:
    """A `Functional` of a model: deep copy, evaluation mode, `dtype`.

    Args:
        params: which parameters count as theta: name patterns (globs) or a predicate; default all that require grad.

    Raises BadInput for a model without (such) parameters, with NaN in them, that cannot be copied, or for TorchScript.

    >>> f = functional(nn.Linear(3, 2), params="*bias")
    >>> list(f.theta), tuple(f(f.theta, f.inputs([[1.0, 2.0, 3.0]])).shape)
    (['bias'], (1, 2))
    """
    clone = copied(model)
    device = resolve_device(device, next(clone.parameters(), None))
    clone = clone.to(device=device, dtype=dtype).eval()
    chosen = _chosen(params, [n for n, p in clone.named_parameters() if p.requires_grad])
    theta = {n: p.detach() for n, p in clone.named_parameters() if n in chosen}
    fixed = {n: p.detach() for n, p in clone.named_parameters() if n not in chosen}
    for name, value in {**theta, **fixed}.items():
        if not torch.isfinite(value).all():
            raise BadInput(
                f"parameter {name!r} holds NaN or infinite values: the checkpoint is damaged or training diverged"
            )
    fixed |= {n: b.detach() for n, b in clone.named_buffers()}
    return Functional(clone, theta, fixed, uses_of(clone), dtype, device, readout)


def _chosen(params: Any, trainable: list[str]) -> set[str]:
    if not trainable:
        raise BadInput("the model has no trainable parameters (requires_grad is False for all, or there are none)")
    if params is None:
        return set(trainable)
    if callable(params):
        chosen = {n for n in trainable if params(n)}
    else:
        patterns = [params] if isinstance(params, str) else list(params)
        chosen = {n for n in trainable if any(fnmatch.fnmatchcase(n, p) for p in patterns)}
    if not chosen:
        raise BadInput(f"params={params!r} matches no trainable parameter; near: {near(str(params), trainable)}")
    return chosen
