"""Sharpness: the whole Hessian on small networks, the residual bound, closed forms, every kind of network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.func import functional_call, jacrev

from geomfeat.errors import BadInput
from geomfeat.models.functional import call
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.linearization import linearize
from geomfeat.regimes.stability import sharpness
from geomfeat.regimes.stability.hessian_spectrum import top_eigenvalues
from tests.zoo import nudged, zoo

F64 = torch.float64
X = torch.randn(9, 4, generator=stream(0, "sharpness test"), dtype=F64)
CLASSES = torch.tensor([0, 1, 2] * 3)
Y = torch.randn(9, 3, generator=stream(1, "sharpness test"), dtype=F64)


def small() -> nn.Module:
    return mlp(4, (6,), 3, activation="tanh", seed=2).double()


def whole_hessian(network: nn.Module, loss, x=X) -> torch.Tensor:
    """(p, p), from the flat weights."""
    named = {n: p.detach() for n, p in network.named_parameters()}
    sizes = [p.numel() for p in named.values()]

    def value(flat: torch.Tensor) -> torch.Tensor:
        pieces = zip(named.items(), flat.split(sizes), strict=True)
        return loss(functional_call(network, {n: piece.view_as(p) for (n, p), piece in pieces}, (x,)))

    return jacrev(jacrev(value))(torch.cat([p.flatten() for p in named.values()]))


def squares(f: torch.Tensor) -> torch.Tensor:
    return (f - Y).square().sum() / len(Y)


@pytest.mark.parametrize(
    ("targets", "loss", "by_hand"),
    [
        (Y, "mse", squares),
        (CLASSES, "cross-entropy", lambda f: nn.functional.cross_entropy(f, CLASSES)),
        (Y, lambda f, y: (f - y).abs().pow(3).mean(), lambda f: (f - Y).abs().pow(3).mean()),
    ],
    ids=["mse", "cross-entropy", "callable"],
)
def test_equals_the_eigenvalues_of_the_whole_hessian(targets, loss, by_hand):
    network = small()
    values, vectors = torch.linalg.eigh(whole_hessian(network, by_hand))
    found = sharpness(network, X, targets, loss=loss, k=4, rtol=1e-10)
    assert found.converged
    torch.testing.assert_close(found.values, values.flip(0)[:4], rtol=1e-9, atol=1e-9)
    assert float((found.vectors[:, 0] @ vectors[:, -1]).abs()) == pytest.approx(1.0, abs=1e-8)
    torch.testing.assert_close(found.vectors.mT @ found.vectors, torch.eye(4, dtype=F64), rtol=1e-9, atol=1e-9)


def test_the_output_scale_enters_as_in_training():
    network = small()
    after, gamma = nudged(network, 0.2), 0.3
    start = network(X).detach()
    want = torch.linalg.eigvalsh(whole_hessian(after, lambda f: squares((f - start) / gamma)))[-1]
    assert sharpness(after, X, Y, initial=network, gamma=gamma).top == pytest.approx(float(want), rel=1e-6)
    want = torch.linalg.eigvalsh(whole_hessian(after, lambda f: squares(f / gamma)))[-1]
    assert sharpness(after, X, Y, gamma=gamma).top == pytest.approx(float(want), rel=1e-6)


class Product(nn.Module):
    """f(x) = u v x."""

    def __init__(self, u: float, v: float) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.tensor(u)), nn.Parameter(torch.tensor(v))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.u * self.v * x


@pytest.mark.parametrize(("u", "v"), [(1.5, 0.5), (2.0, -1.0), (0.0, 0.0)])
def test_two_factors_by_hand(u, v):
    # L = (uv - 3)^2: H = 2 [[v^2, 2uv - 3], [2uv - 3, u^2]].
    off = 2 * u * v - 3
    want = (u * u + v * v) + math.hypot(u * u - v * v, 2 * off)
    one = torch.ones(1, 1)
    assert sharpness(Product(u, v), one, 3 * one).top == pytest.approx(want, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 6))
def test_an_eigenvalue_lies_within_each_residual(seed, size, steps):
    a = torch.randn(size, size, generator=stream(seed, "matrix"), dtype=F64)
    a = a + a.mT
    k = min(2, size)
    found = top_eigenvalues(lambda v: a @ v, size, k, max_steps=steps, seed=seed)
    values = torch.linalg.eigvalsh(a)
    for value, residual, vector in zip(found.values, found.residuals, found.vectors.mT, strict=True):
        assert float((values - value).abs().min()) <= float(residual) + 1e-9 * float(values.abs().max())
        assert float((a @ vector - value * vector).norm()) == pytest.approx(float(residual), abs=1e-8)


def test_negative_curvature_counts_as_small_and_few_steps_are_reported():
    diagonal = torch.tensor([-50.0, *range(20)], dtype=F64)
    found = top_eigenvalues(lambda v: diagonal * v, 21, 1)
    assert found.top == pytest.approx(19.0, rel=1e-6)
    hurried = top_eigenvalues(lambda v: diagonal * v, 21, 1, max_steps=3)
    assert not hurried.converged
    assert float(hurried.residuals[0]) > 0.1


def test_a_start_near_the_answer_saves_steps():
    network = small()
    first = sharpness(network, X, Y, rtol=1e-4)
    again = sharpness(network, X, Y, rtol=1e-4, start=first.vectors[:, 0])
    assert again.steps <= first.steps
    assert again.top == pytest.approx(first.top, rel=1e-4)


def test_the_linear_model_has_the_gauss_newton_curvature():
    network = small()
    j = torch.autograd.functional.jacobian(lambda *w: functional_call(
        network, dict(zip(dict(network.named_parameters()), w, strict=True)), (X,)).flatten(),
        tuple(p.detach() for p in network.parameters()))  # fmt: skip
    flat = torch.cat([b.flatten(1) for b in j], 1)
    want = 2 / len(Y) * float(torch.linalg.matrix_norm(flat, 2)) ** 2
    assert sharpness(linearize(network), X, Y).top == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_every_kind_of_network_by_differences_of_gradients(case):
    network = case.model.double().eval()
    inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    weights = [p for p in network.parameters() if p.requires_grad]
    goal = torch.ones_like(call(network, inputs).detach())
    if case.name == "custom function":  # its backward pass is written with plain operations, so it can be repeated
        assert sharpness(network, inputs, goal).converged
    found = sharpness(network, inputs, goal, rtol=1e-8)
    v = [piece.view_as(p) for p, piece in zip(weights, found.vectors[:, 0].split([p.numel() for p in weights]),
                                             strict=True)]  # fmt: skip
    slopes = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(weights, v, strict=True):
                p.add_(sign * 1e-6 * d)
        loss = (call(network, inputs) - goal).square().sum(1).mean()
        slopes.append(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))
        with torch.no_grad():
            for p, d in zip(weights, v, strict=True):
                p.sub_(sign * 1e-6 * d)
    along = sum(float(((a - b) * d).sum()) for a, b, d in zip(*slopes, v, strict=True)) / 2e-6
    assert along == pytest.approx(found.top, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sharpness(small(), X, Y, k=0), "k=0 must be from 1"),
        (lambda: sharpness(small(), X, Y, k=10_000), "k=10000 must be"),
        (lambda: sharpness(small(), X, Y, gamma=0.0), "gamma=0.0"),
        (lambda: sharpness(small(), X, Y[:5]), "5 entries"),
        (lambda: sharpness(small(), X, Y, loss="hinge"), "mse, cross-entropy"),
        (lambda: sharpness(nudged(small(), math.nan), X, Y), "NaN"),
        (lambda: sharpness(small(), X * math.nan, Y), "outputs on the inputs"),
        (lambda: sharpness(small(), X[:0], Y[:0]), "positive number of samples"),
        (lambda: sharpness(small(), X, torch.full((len(X), 2), math.nan)), "targets holds"),
        (lambda: sharpness(small(), X, Y, loss=lambda f, y: torch.tensor(1.0)), "no gradient in f"),
        (lambda: top_eigenvalues(lambda v: v * math.nan, 3), "NaN"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].cos()


class Between(nn.Module):
    """Two layers around an operation."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        draw = stream(0, "between")
        self.a = nn.Parameter(torch.randn(3, 5, generator=draw, dtype=F64))
        self.b = nn.Parameter(torch.randn(5, 2, generator=draw, dtype=F64))
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x @ self.a) @ self.b


def test_an_operation_without_a_second_derivative_has_the_hessian_of_its_twin() -> None:
    x, y = (torch.randn(12, k, generator=stream(1, k), dtype=F64) for k in (3, 2))
    plain, custom = (sharpness(Between(op), x, y, k=2) for op in (torch.sin, OnceDifferentiable.apply))
    torch.testing.assert_close(custom.values, plain.values, rtol=1e-6, atol=0.0)
    assert custom.converged


def test_gradients_of_no_function_are_refused() -> None:
    x, y = (torch.randn(12, k, generator=stream(1, k), dtype=F64) for k in (3, 2))

    def stopped(h: Tensor) -> Tensor:
        return h * h.detach().tanh()

    with pytest.raises(BadInput, match="are those of no function"):
        sharpness(Between(stopped), x, y)


def test_rectified_networks_keep_two_passes() -> None:
    x, y = (torch.randn(12, k, generator=stream(1, k), dtype=F64) for k in (3, 2))
    x[0] = 0.0  # every unit exactly at its kink
    assert math.isfinite(sharpness(Between(torch.relu), x, y).top)
