"""The module itself: out of its wrappers, copied, in another precision, and the names of its tensors."""

from __future__ import annotations

import fnmatch
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from geomfeat.errors import BadInput, near
from geomfeat.models.copying import deep_copy

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def wrapper_names(model: nn.Module) -> tuple[str, ...]:
    """The parts that its wrappers put before every name inside a model, outermost first.

    >>> wrapper_names(nn.DataParallel(nn.Linear(2, 2)))
    ('module',)
    """
    if isinstance(model, _WRAPPERS):
        return ("module", *wrapper_names(model.module))
    inner = getattr(model, "_orig_mod", None)
    return ("_orig_mod", *wrapper_names(inner)) if isinstance(inner, nn.Module) else ()


def inside_wrappers(pattern: str, wrappers: tuple[str, ...]) -> str:
    """A name or glob as the unwrapped model shows it, without the leading names of its wrappers.

    >>> inside_wrappers("module.0.*", ("module",))
    '0.*'
    """
    for part in wrappers:
        pattern = pattern.removeprefix(f"{part}.")
    return pattern


def unwrapped(model: nn.Module) -> nn.Module:
    """The eager module, without the wrappers of torch.compile, data parallelism and averaged weights.

    Raises BadInput for TorchScript, which hooks cannot see into, and for weights without values (on the meta device).

    >>> net = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(net)) is net
    True
    """
    while True:
        inner = model.module if isinstance(model, _WRAPPERS) else getattr(model, "_orig_mod", model)
        if inner is model:
            break
        model = inner
    if isinstance(model, torch.jit.ScriptModule) or type(model).__name__ == "RecursiveScriptModule":
        raise BadInput("model is a TorchScript module, whose layers cannot be hooked: load the eager nn.Module instead")
    if not isinstance(model, nn.Module):
        raise BadInput(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise BadInput(
                f"{name!r} of the model is on the meta device, so it has no values: load the weights first, by "
                "model.to_empty(device='cpu') and load_state_dict, or load_state_dict(..., assign=True)"
            )
    return model


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of the eager module, with dense gradients of embeddings.

    Raises BadInput where it cannot be copied, or has weights without a shape yet.
    """
    model = unwrapped(model)
    for name, value in model.named_parameters():
        if isinstance(value, nn.parameter.UninitializedParameter):
            raise BadInput(f"parameter {name!r} of a lazy module has no shape yet: call the model once on some inputs")
    try:
        clone = deep_copy(model)
    except RuntimeError as cause:
        raise BadInput(
            f"the model cannot be copied ({cause}): keep no tensors with a gradient history in objects that it holds"
        ) from cause
    for module in clone.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            # How a gradient is stored, not what it is; a sparse one cannot be reshaped or batched.
            module.sparse = False
    return clone


def in_precision(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The model itself, moved: floating tensors in `dtype`, complex ones in complex numbers of that precision.

    `nn.Module.to` would take the imaginary parts away.
    """
    wide = dtype.to_complex()

    def cast(t: torch.Tensor) -> torch.Tensor:
        return t.to(device, wide if t.is_complex() else dtype if t.is_floating_point() else t.dtype)

    return model._apply(cast)


def real_pairs(value: torch.Tensor) -> torch.Tensor:
    """A complex tensor as pairs of real numbers, (*shape, 2); a real one as it is.

    >>> real_pairs(torch.tensor([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    return torch.view_as_real(value) if value.is_complex() else value


def require_differentiable(model: nn.Module) -> None:
    """BadInput for a model that holds quantised weights, which have no gradient."""
    for name, module in model.named_modules():
        kind = type(module)
        if ".quantized" in kind.__module__ or hasattr(module, "_packed_params"):
            raise BadInput(f"module {name!r} ({kind.__name__}) is quantised, {_QUANTISED}")
    for name, tensor in model.named_parameters():
        if tensor.is_quantized or tensor.dtype in (torch.int8, torch.uint8):
            raise BadInput(f"parameter {name!r} is quantised ({tensor.dtype}), {_QUANTISED}")


_QUANTISED = "so it has no gradient: load the weights in floating point (float32, bfloat16) instead"


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


def chosen_parameters(params: Any, candidates: list[str], wrappers: tuple[str, ...]) -> set[str]:
    """The names among the candidates that globs or a predicate choose; all of them for None. BadInput for none."""
    if not candidates:
        raise BadInput("the model has no trainable parameters: there are none to differentiate with respect to")
    if params is None:
        return set(candidates)
    if callable(params):
        chosen = {n for n in candidates if params(n)}
    else:
        patterns = [params] if isinstance(params, str) else list(params)
        given = [p if fnmatch.filter(candidates, p) else inside_wrappers(p, wrappers) for p in patterns]
        chosen = {n for p in given for n in fnmatch.filter(candidates, p)}
    if not chosen:
        raise BadInput(f"params={params!r} matches no trainable parameter; near: {near(str(params), candidates)}")
    return chosen
