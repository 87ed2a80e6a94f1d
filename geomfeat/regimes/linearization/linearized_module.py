"""The linearised network f_lin(w) = f(w0) + Df(w0) (w - w0) as a module, and how far training leaves it.

One Jacobian-vector product gives values and tangents together, and autograd goes through it backwards, so any torch
optimizer trains the linear model and no Jacobian is ever formed. How the product is taken: see `kernels.tangent`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import Functional, Readout, copied, functional, unwrapped
from geomfeat.models.modules import real_pairs
from geomfeat.models.nested_inputs import batches
from geomfeat.models.one_network import in_one_form
from geomfeat.numerics import require_finite
from geomfeat.tangent import jvp, vjp
from geomfeat.tangent.jacobians.directional_derivative import FORWARD_MODES, load_forward_mode
from geomfeat.tangent.jacobians.gradients import differentiable_recurrence, plain_gradient
from geomfeat.tangent.jacobians.products import way_of_outputs

Weights = Mapping[str, Tensor]
EVALUATE_AT_ONCE = 256  # samples per pass where outputs alone are wanted


class Linearised(nn.Module):
    """A network's first-order Taylor expansion in its parameters; made by `linearize`.

    Its parameters are the displaced weights w, under the network's own names, so state dicts go both ways. The
    expansion point w0, frozen parameters and buffers (running statistics) stay as they were when it was made; loaded
    buffers are stored but have no effect. It is always in evaluation mode, and returns (n, C).
    """

    def __init__(self, model: nn.Module, point: Functional) -> None:
        super().__init__()
        # The copy only holds the displaced weights and buffers, in modules of the same names: its code never runs.
        holder = copied(model)
        for name, parameter in holder.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in holder.named_buffers(recurse=False):
            self.register_buffer(name, buffer, persistent=name not in holder._non_persistent_buffers_set)
        for name, child in holder.named_children():
            self.add_module(name, child)
        self._expansion_point = point

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """f_lin at the current weights, (n, C), for the inputs that the network takes."""
        if args and kwargs:
            raise BadInput("a linearised network takes its inputs all by position or all by keyword, not both")
        f = self._expansion_point
        inputs = kwargs or (args[0] if len(args) == 1 else args)
        step = {name: real_pairs(_own(self, name)) - start for name, start in f.theta.items()}

        def at(theta: Weights) -> Tensor:
            return f(theta, inputs)

        way = way_of_outputs(f, inputs)
        with differentiable_recurrence(f):
            if way in FORWARD_MODES:
                load_forward_mode()
                value, tangent, *_ = torch.func.jvp(at, (f.theta,), (step,))
                return value + tangent
            if way == "backward twice":
                return _by_two_backward_passes(at, f.theta, step)
            with torch.no_grad():
                value = f(f.theta, inputs)
            return value + _Product.apply(f, inputs, tuple(step), *step.values())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Linearised":
        """Move the expansion point along with the weights (`to`, `double`, `cuda`)."""
        super()._apply(fn, recurse)
        f = self._expansion_point
        f.model._apply(fn)
        tensors = {n: t.detach() for n, t in [*f.model.named_parameters(), *f.model.named_buffers()]}
        theta = {name: real_pairs(tensors[name]) for name in f.theta}
        first = next(iter(theta.values()))
        self._expansion_point = dataclasses.replace(
            f, theta=theta, fixed={name: tensors[name] for name in f.fixed}, dtype=first.dtype, device=first.device
        )
        return self


def _own(module: nn.Module, name: str) -> Tensor:
    """The tensor that stands under a parameter's name now: functional_call puts others than parameters there."""
    path, _, own = name.rpartition(".")
    return getattr(module.get_submodule(path), own)


def _by_two_backward_passes(at: Callable[[Weights], Tensor], theta: Weights, step: Weights) -> Tensor:
    """f(theta) + J step, differentiable in `step`."""
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
        value = at(leaves)
        dual = torch.zeros_like(value, requires_grad=True)
        pulled = plain_gradient((value * dual).sum(), leaves, create_graph=True)
        inner = sum(((pulled[name] * along).sum() for name, along in step.items()), value.new_zeros(()))
        tangent = plain_gradient(inner, {"": dual}, create_graph=recording)[""]
    out = value.detach() + tangent
    return out if recording else out.detach()


class _Product(torch.autograd.Function):
    """J step by products alone, whose gradient in `step` is J' of the gradient."""

    @staticmethod
    def forward(ctx: Any, f: Functional, inputs: Any, names: tuple[str, ...], *step: Tensor) -> Tensor:
        ctx.f, ctx.given, ctx.names = f, inputs, names
        return jvp(f, inputs, dict(zip(names, step, strict=True)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        pulled = vjp(ctx.f, ctx.given, gradient)
        return None, None, None, *(pulled[name] for name in ctx.names)


def linearize(model: nn.Module, readout: Readout | None = None) -> Linearised:
    """The linearised network at the model's present weights; the given model is not touched.

    Args:
        model: any module; in evaluation mode, with dropout off. Its frozen parameters are constants.
        readout: (output, inputs) -> tensor where the model does not return one with the samples first, as in
            `geomfeat.models.functional.output_matrix`.

    Raises BadInput for a model without trainable parameters, with NaN in them, that cannot be copied, or TorchScript.

    Source: Lee et al. 2019, eq. 4; Chizat, Oyallon and Bach 2019, eq. 3.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    >>> flat, x = linearize(net), torch.ones(1, 2, dtype=torch.float64)
    >>> bool(torch.allclose(flat(x), net(x)))
    True
    >>> weight = flat.get_parameter("2.weight")
    >>> weight.data += 1.0  # the last layer is linear: still exact
    >>> loaded = net.load_state_dict(flat.state_dict())
    >>> bool(torch.allclose(flat(x), net(x)))
    True
    """
    model = unwrapped(model)
    first = next((p for p in model.parameters() if p.requires_grad), None)
    if first is None:
        raise BadInput("the model has no trainable parameters (requires_grad is False for all, or there are none)")
    point = functional(model, dtype=first.real.dtype, readout=readout)
    return Linearised(model, point)


def linearisation_gaps(
    model: nn.Module, snapshots: Mapping[int, nn.Module], inputs: Any, *, readout: Readout | None = None
) -> dict[int, float]:
    """|f(w) - f_lin(w)| / |f(w) - f(w0)| of each snapshot of a training run that began at `model`, in float64.

    Norms are over all samples and outputs, each network in evaluation mode. 0: linear in the parameters (lazy); near
    1 and beyond: rich. A snapshot with the initial weights has gap 0.

    Args:
        snapshots: step -> network, as `Trained.snapshots`. inputs: samples to compare the outputs on.

    Raises BadInput for snapshots of another architecture, or whose outputs stay where they were while weights moved.

    >>> net, after = nn.Linear(2, 1), nn.Linear(2, 1)  # linear in its parameters
    >>> linearisation_gaps(net, {0: net, 5: after}, torch.eye(2))[5] < 1e-12
    True
    """
    model, *networks = in_one_form([model, *snapshots.values()])
    snapshots = dict(zip(snapshots, networks, strict=True))
    f = functional(model, readout=readout)
    inputs = f.inputs(inputs)
    before = require_finite(_outputs(f, inputs), "the network's outputs on the inputs")
    return {step: _gap(f, network, inputs, before, step) for step, network in snapshots.items()}


def _gap(f: Functional, network: nn.Module, inputs: Any, before: Tensor, step: int) -> float:
    after = functional(network, device=f.device, readout=f.readout)
    if {n: t.shape for n, t in after.theta.items()} != {n: t.shape for n, t in f.theta.items()}:
        raise BadInput(f"snapshot {step} has other trainable parameters than the initial model: give the same network")
    moved = {name: after.theta[name] - start for name, start in f.theta.items()}
    if not any(bool(change.any()) for change in moved.values()):
        return 0.0
    change = require_finite(_outputs(after, inputs), f"the outputs of snapshot {step}") - before
    size = float(change.norm())
    if not size > 0:
        raise BadInput(f"the outputs of snapshot {step} did not change although the weights did: the gap is 0/0")
    return float((change - jvp(f, inputs, moved)).norm()) / size


def _outputs(f: Functional, inputs: Any) -> Tensor:
    with torch.no_grad():
        return torch.cat([f(f.theta, part) for _, part in batches(inputs, EVALUATE_AT_ONCE)])
