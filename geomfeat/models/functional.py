"""Any torch module as a pure function of its parameters: f(theta, inputs) -> (n, C).

The one place that knows how to call a model: inputs may be a tensor, a tuple (positional) or a mapping (keyword,
as transformers take them), with samples along the first dimension of every tensor; outputs may be a tensor, a tuple,
or an object with `logits` or `last_hidden_state`. Everything that differentiates a network goes through `Functional`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.memory import is_out_of_memory
from geomfeat.models.forward_passes.contexts import differentiable_attention, eager, holding, without_checkpoints
from geomfeat.models.forward_passes.last_token import last_token_only, may_keep_last
from geomfeat.models.forward_passes.recomputed_blocks import recomputing
from geomfeat.models.modules import (
    chosen_parameters,
    copied,
    in_precision,
    real_pairs,
    require_differentiable,
    unwrapped,
    uses_of,
    wrapper_names,
)
from geomfeat.models.nested_inputs import Inputs, as_inputs, map_inputs, moved, take
from geomfeat.models.outputs import Readout, output_matrix, output_tensor
from geomfeat.models.readouts.reading import as_readout, checked_tokens, words_of
from geomfeat.numerics import WORKING, all_finite, resolve_device, times

__all__ = [
    "Functional", "Readout", "call", "call_with", "copied", "differentiable_attention", "eager", "functional",
    "in_dtype", "output_matrix", "output_tensor", "unwrapped", "uses_of",
]  # fmt: skip

logger = logging.getLogger(__name__)
_PRECISION, _NOTES, _LAST_TOKEN = "precision", "notes", "last token alone"


def call(model: Callable[..., Any], inputs: Any, **settings: Any) -> Any:
    """model(x), model(*tuple) or model(**mapping), on a copy of the tensors; with `settings` of the call.

    A model that works in place on what it is given (a first layer ReLU(inplace=True)) must not change it for others.
    """
    inputs = map_inputs(inputs, torch.clone)
    if isinstance(inputs, Mapping):
        return model(**inputs, **settings)
    return model(*inputs, **settings) if isinstance(inputs, tuple) else model(inputs, **settings)


def call_with(
    model: nn.Module, values: Mapping[str, Tensor], uses: Sequence[tuple[str, str]], inputs: Inputs, **settings: Any
) -> Any:
    """`call` with `values` in place of the model's own tensors, differentiable in them; the model is as before after.

    `uses` of the model says where each value goes. torch's functional_call does not do: it swaps a module that has two
    names twice, and leaves the wrong tensor in it; and it takes longer than a small model.
    """
    modules = dict(model.named_modules())
    placed = {name: values[source] for name, source in uses if source in values}
    for name in _rescaled(modules):
        if name in placed:  # in place, at every access
            placed[name] = placed[name].clone()
    with (
        differentiable_attention(), eager(modules.values()), without_checkpoints(), holding(modules, placed),
        recomputing(model),
    ):  # fmt: skip
        return call(model, inputs, **settings)


def _rescaled(modules: Mapping[str, nn.Module]) -> list[str]:
    """Names of the weights that embeddings with max_norm rescale."""
    return [
        f"{path}.weight" if path else "weight"
        for path, module in modules.items()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None
    ]


@dataclass(frozen=True, eq=False)
class Functional:
    """A model as f(theta, inputs), in evaluation mode, on a copy that nothing else touches.

    Complex parameters stand in theta and fixed as pairs of real numbers: (*shape, 2), real and imaginary parts.

    A model that cannot run in `dtype` (an operation in single precision only, tensors made in float32 inside) runs in
    the precision it came in, and theta, inputs and outputs stay in `dtype`; see `precision` and `notes`.

    Attributes:
        model: the copy. theta: trainable parameters by name (a shared parameter once). fixed: frozen ones and buffers.
        uses: where each of them is used: (name in the model, name in theta or fixed), each module once.
        dtype, device: of theta. readout: see `output_matrix`. native: the precision the model came in.
        pairs: names of the complex parameters.
        scale: name -> factor: theta holds these parameters over it (numbers, or tensors of their shape); see `scaled`.
        known: what was measured or checked about it once, by what asked; a changed copy begins without.
        shorter: which ways of computing less give the same outputs; shared with changed copies, which read the same.
    """

    model: nn.Module
    theta: dict[str, Tensor]
    fixed: dict[str, Tensor]
    uses: tuple[tuple[str, str], ...]
    dtype: torch.dtype
    device: torch.device
    readout: Readout | None = None
    native: torch.dtype = WORKING
    pairs: frozenset[str] = frozenset()
    scale: Mapping[str, Tensor | float] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    shorter: dict[str, bool] = field(default_factory=dict, repr=False)

    def __call__(self, theta: Mapping[str, Tensor], inputs: Any) -> Tensor:
        """(n, C) outputs at parameters `theta`; the inputs are copied, as in `call`."""
        if _PRECISION in self.known or self.native == self.dtype:
            return self._in(self.precision, theta, inputs)
        try:
            out = self._in(self.dtype, theta, inputs)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            if is_out_of_memory(error) or isinstance(error, GeomfeatError):
                raise
            with contextlib.suppress(RuntimeError, TypeError, ValueError, AssertionError):
                out = self._in(self.native, theta, inputs)
                self.narrow(error)
                return out
            raise  # it does not run in the other precision either
        self.known[_PRECISION] = self.dtype
        return out

    def narrow(self, error: Exception) -> None:
        """From here on run in the precision that the model came in, since it fails in `dtype`."""
        self.known[_PRECISION] = self.native
        self.note(
            f"the model does not run in {_name(self.dtype)} ({str(error).partition(chr(10))[0]}): computed in "
            f"{_name(self.native)}, to that precision"
        )

    def _in(self, dtype: torch.dtype, theta: Mapping[str, Tensor], inputs: Any) -> Tensor:
        unscaled = {name: times(theta[name], factor) for name, factor in self.scale.items() if name in theta}
        values = self.stored({**self.fixed, **theta, **unscaled})
        if dtype != self.dtype:
            values = {name: in_dtype(value, dtype) for name, value in values.items()}
            inputs = map_inputs(inputs, lambda t: in_dtype(t, dtype))
        only = last_token_only(self.model, inputs) if self.shorter.get(_LAST_TOKEN) else {}
        output = call_with(self.model, values, self.uses, inputs, **only)
        return output_matrix(output, None if only else inputs, self.readout).to(self.dtype)

    def try_last_token(self, inputs: Any, outputs: Tensor) -> None:
        """From here on leave out the logits of tokens that are not read, if `outputs` of `inputs` come out without."""
        if _LAST_TOKEN in self.shorter or not may_keep_last(self.model, self.readout):
            return
        self.shorter[_LAST_TOKEN] = True
        try:
            with torch.no_grad():
                again = self(self.theta, inputs)
            near = torch.finfo(self.precision).eps ** 0.6 * outputs.abs().max()
            same = again.shape == outputs.shape and bool((again - outputs).abs().max() <= near)
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            same = False
        self.shorter[_LAST_TOKEN] = same

    def stored(self, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of theta as the model itself holds them: complex where its parameter is."""
        return {name: torch.view_as_complex(value) if name in self.pairs else value for name, value in theta.items()}

    def scaled(self, scale: Mapping[str, Tensor | float]) -> Functional:
        """The same function of theta over these factors: its tangent features are those of theta times them.

        Gradient flow in theta / sqrt(D) is gradient flow of theta with rates D.
        """
        # A factor of higher precision would raise that of the whole network.
        own = {n: s.to(self.device, self.dtype) if isinstance(s, Tensor) else s for n, s in scale.items()}
        theta = {name: value / own[name] if name in own else value for name, value in self.theta.items()}
        return replace(self, theta=theta, scale=own)

    def unscaled(self) -> Functional:
        """The same function of the parameters themselves."""
        if not self.scale:
            return self
        theta = {name: value * self.scale.get(name, 1.0) for name, value in self.theta.items()}
        return replace(self, theta=theta, scale={})

    def borrowing(self, model: nn.Module, inputs: Any) -> Functional:
        """The same function on the weights of `model`, of which it is a copy, where they are of its type and device.

        No second copy is held then, so nothing may change them as long as this is used. A pass of two of the `inputs`
        on the copy shows whether the model itself does (it clips its weights in forward); then this stays as it is.
        """
        with torch.no_grad(), contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError, AssertionError):
            self(self.theta, self.inputs(take(inputs, slice(0, 2))))  # what fails is explained by whoever needs it
        pairs = list(zip(self.model.named_parameters(), unwrapped(model).parameters(), strict=True))
        like = lambda t: (t.dtype, t.device, t.shape)  # noqa: E731
        lent = [((name, own), given) for (name, own), given in pairs if like(own) == like(given)]
        if not all(torch.equal(own, given) for (_, own), given in lent):
            return self
        kept = {}
        for (name, own), given in lent:
            own.data = given.data
            kept[name] = real_pairs(own.detach())
        theta, fixed = ({n: kept.get(n, value) for n, value in held.items()} for held in (self.theta, self.fixed))
        other = replace(self, theta=theta, fixed=fixed)
        other.known.update(self.known)
        return other

    def at(self, theta: Mapping[str, Tensor]) -> Functional:
        """The same function at other parameters; what was checked about its derivatives holds there too."""
        other = replace(self, theta=dict(theta))
        other.known.update(self.known)
        return other

    def inputs(self, inputs: Inputs) -> Any:
        """Inputs on this function's device and in its precision; BadInput for samples that are all padding."""
        checked_tokens(inputs, self.readout)
        return moved(as_inputs(inputs), self.device, self.dtype)

    def words(self, inputs: Any) -> str:
        """What is read as the outputs of these inputs, from a pass of two samples."""
        said: list[str] = []

        def read(output: Any, inputs: Any) -> Tensor:
            said.append(words_of(self.readout, output, inputs))
            return output_matrix(output, inputs, self.readout)

        with torch.no_grad():
            replace(self, readout=read)(self.theta, self.inputs(take(inputs, slice(0, 2))))
        return said[-1]

    def note(self, text: str) -> None:
        """Keep something that the reader of any result must know."""
        if text not in self.notes:
            logger.info("%s", text)
            self.known[_NOTES] = (*self.notes, text)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found about the network on the way; results show it."""
        return self.known.get(_NOTES, ())

    @property
    def precision(self) -> torch.dtype:
        """The precision in which the network runs; known after the first call."""
        return self.known.get(_PRECISION, self.dtype)

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters, a complex one counted twice."""
        return sum(t.numel() for t in self.theta.values())


def functional(
    model: nn.Module,
    *,
    params: str | Sequence[str] | Callable[[str], bool] | None = None,
    dtype: torch.dtype = WORKING,
    device: str | torch.device | None = None,
    readout: Readout | str | None = None,
) -> Functional:
    """A `Functional` of a model: deep copy, evaluation mode, `dtype`.

    Args:
        params: which parameters count as theta: name patterns (globs) or a predicate; default all that require grad,
            or all, with a note, where none does (a trained model that was frozen). readout: or its name, `as_readout`.

    Raises BadInput for a model without (such) parameters, with NaN in them, quantised, on the meta device, that cannot
    be copied, or for TorchScript.

    >>> f = functional(nn.Linear(3, 2), params="*bias")
    >>> list(f.theta), tuple(f(f.theta, f.inputs([[1.0, 2.0, 3.0]])).shape)
    (['bias'], (1, 2))
    """
    clone, reading = copied(model), as_readout(readout)
    require_differentiable(clone)
    native = next((p.dtype for p in clone.parameters() if p.is_floating_point()), dtype)
    device = resolve_device(device, next(clone.parameters(), None))
    clone = in_precision(clone, device, dtype).eval()
    named = {n: p for n, p in clone.named_parameters() if p.is_floating_point() or p.is_complex()}
    trainable = [n for n, p in named.items() if p.requires_grad]
    chosen = chosen_parameters(params, trainable or list(named), wrapper_names(model))
    for name, value in named.items():
        if not all_finite(value):
            raise BadInput(
                f"parameter {name!r} holds NaN or infinite values: the checkpoint is damaged or training diverged"
            )
    parameters = {n: real_pairs(p.detach()) for n, p in clone.named_parameters()}
    theta = {n: parameters[n] for n in named if n in chosen}
    fixed = {n: t for n, t in parameters.items() if n not in chosen} | {n: b.detach() for n, b in clone.named_buffers()}
    pairs = frozenset(n for n, p in named.items() if p.is_complex())
    f = Functional(clone, theta, fixed, uses_of(clone), dtype, device, reading, native, pairs)
    if not trainable:
        f.note("requires_grad is False for all parameters of the model: all are taken as trainable")
    return f


def in_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A floating tensor in `dtype`, a complex one in complex numbers of that precision; others as they are."""
    if value.is_complex():
        return value.to(dtype.to_complex())
    return value.to(dtype) if value.is_floating_point() else value


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
