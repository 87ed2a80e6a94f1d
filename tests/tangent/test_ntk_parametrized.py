"""Kernels and products of networks whose weights are made of other tensors, against plain backward passes by row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from geomfeat.models.functional import Functional, functional
from geomfeat.numerics import stream
from geomfeat.tangent import jvp, ntk

ORTHOGONAL = [
    (shape, kind, trivial)
    for shape in ((6, 6), (6, 5), (5, 7))
    for kind in ("matrix_exp", "cayley", "householder")
    for trivial in (True, False)
]


class _Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).T


class _Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return (weight.abs() + 0.1).log()


def _made_by(module: nn.Module) -> Callable[[nn.Linear], nn.Module]:
    def register(layer: nn.Linear) -> nn.Module:
        parametrize.register_parametrization(layer, "weight", module)
        return layer

    return register


OTHERS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "symmetric": _made_by(_Symmetric()),
    "positive": _made_by(_Positive()),
    "spectral norm of a symmetric one": lambda layer: parametrizations.spectral_norm(_made_by(_Symmetric())(layer)),
    "older weight norm": weight_norm,
    "older spectral norm": spectral_norm,
}


def _rows(f: Functional, inputs: Tensor) -> Tensor:
    """(n, C, p) by one backward pass for each output of each sample."""
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    outputs = f(theta, f.inputs(inputs))
    each = [
        torch.autograd.grad(out, list(theta.values()), retain_graph=True, materialize_grads=True, allow_unused=True)
        for out in outputs.flatten()
    ]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in each]).view(*outputs.shape, -1)


def _notes(make: Callable[[nn.Linear], nn.Module], shape: tuple[int, int]) -> tuple[str, ...]:
    """Notes on a network with such a layer, whose kernel and products are compared with plain gradients."""
    torch.manual_seed(5)
    net = nn.Sequential(make(nn.Linear(*shape)), nn.Tanh(), nn.Linear(shape[1], 3))
    x = torch.randn(7, shape[0])
    f = functional(net)
    rows = _rows(f, x)
    torch.testing.assert_close(ntk(f, x).gram, torch.einsum("icp,jcp->ij", rows, rows), rtol=1e-9, atol=1e-9)
    direction = {
        name: torch.randn(w.shape, generator=stream(0, "parametrized", name), dtype=w.dtype)
        for name, w in f.theta.items()
    }
    flat = torch.cat([direction[name].flatten() for name in f.theta])
    torch.testing.assert_close(jvp(f, x, direction), rows @ flat, rtol=1e-9, atol=1e-9)
    return f.notes


@pytest.mark.parametrize(("shape", "kind", "trivial"), ORTHOGONAL)
def test_orthogonal_weights_have_their_derivatives_and_no_note(
    shape: tuple[int, int], kind: str, trivial: bool
) -> None:
    def make(layer: nn.Linear) -> nn.Module:
        return parametrizations.orthogonal(layer, orthogonal_map=kind, use_trivialization=trivial)

    assert _notes(make, shape) == ()


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm")
@pytest.mark.parametrize("name", OTHERS)
def test_other_parametrised_weights_have_their_derivatives_and_no_note(name: str) -> None:
    assert _notes(OTHERS[name], (6, 6)) == ()


def test_a_gradient_that_a_parametrisation_stops_is_noted() -> None:
    class Stopped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.detach()

    torch.manual_seed(5)
    f = functional(nn.Sequential(_made_by(Stopped())(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, 3)))
    ntk(f, torch.randn(7, 6))
    assert any("backward passes differ" in note for note in f.notes)
