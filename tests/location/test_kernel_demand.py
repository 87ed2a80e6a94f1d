"""Kernel demand against closed forms, an explicit kernel, and what must leave it unchanged."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from geomfeat.location.kernel_demand import demand_on_target, kernel_demand
from geomfeat.location.kernel_forms import vectors_of
from geomfeat.models.functional import Functional, functional
from geomfeat.regimes.linearization.response import Response, respond
from geomfeat.tangent import ntk, vjp
from tests.geometry.clouds import normal

SHARE = 0.01
Q = 1 - math.sqrt(SHARE)


def responded(f: Functional, x: Tensor, change: Tensor, share: float = SHARE) -> tuple[Response, dict[str, Tensor]]:
    kernel = ntk(f, x, outputs="full").gram
    (response,) = respond(kernel, change.flatten(), [share])
    return response, vjp(f, x, response.coefficients.reshape(change.shape))


class Found(NamedTuple):
    demand: float
    on_target: float
    at_response: float
    guessed: float = math.nan  # on the target, with the first demand as a guess


def demanded(
    f: Functional, x: Tensor, change: Tensor, precision: float = 1e-8, *, guess: bool = False, **options: Any
) -> Found:
    """`guess`: whether the demand on the target is also found from a guess."""
    response, direction = responded(f, x, change)
    found = kernel_demand(f, x, direction, precision=precision, **options)
    a = response.coefficients.reshape(change.shape)
    on_target = [
        demand_on_target(f, x, direction, a, precision=precision, guess=known).demand
        for known in (None, found)[: 1 + guess]
    ]
    return Found(found.demand, on_target[0], found.at_response, *on_target[1:])


class Two(nn.Module):
    """a W x, with `multipliers` of both in the forward pass."""

    def __init__(
        self, w: Tensor, a: Tensor, multipliers: tuple[float, float] = (1.0, 1.0), act: Callable = lambda h: h
    ):
        super().__init__()
        self.w, self.a = nn.Parameter(w.double().clone()), nn.Parameter(a.double().clone())
        self.multipliers, self.act = multipliers, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x @ (self.multipliers[0] * self.w).T) @ (self.multipliers[1] * self.a).T


def two_weights(a: float, w: float) -> Functional:
    return functional(Two(torch.tensor([[w]]), torch.tensor([[a]])))


def explicit(net: nn.Module, theta: dict[str, Tensor], x: Tensor) -> Tensor:
    """The kernel of all outputs by the full Jacobian, reverse mode, no code of the package."""
    rows = jacrev(lambda t: functional_call(net, t, (x,)).flatten())(theta)
    j = torch.cat([part.flatten(1) for part in rows.values()], 1)
    return j @ j.T


def z_star(m: float, c: float) -> float:
    up = -2 * m + math.sqrt(4 * m * m + c)
    return min(up, 2 * abs(m) - math.sqrt(4 * m * m - c)) if m < 0 and 4 * m * m >= c else up


ONE = torch.ones(1, 1, dtype=torch.float64)
decades = st.floats(-1, 1)


@settings(max_examples=25, deadline=None)
@given(decades, decades, decades, st.booleans(), st.booleans())
def test_two_weights_have_the_closed_form(a: float, w: float, d: float, flip: bool, down: bool) -> None:
    """f = a w x: K(s) - K0 = 4 m z + z^2 with z the change over the square root of K0."""
    a, w, d = 10**a, 10**w * (-1 if flip else 1), 10**d * (-1 if down else 1)
    size = a * a + w * w
    m = a * w * math.copysign(1, d) / size
    if abs(4 * m * m - 0.2) < 0.04 or abs(4 * m * m - 0.5) < 0.04:
        return  # two crossings meet there: the search may step over both and find the third
    found = demanded(two_weights(a, w), ONE, torch.full((1, 1), d, dtype=torch.float64), guess=True)
    assert found.demand == pytest.approx(math.log10(Q * abs(d) / (size * z_star(m, 0.2))), abs=1e-5)
    assert found.on_target == pytest.approx(math.log10(Q * abs(d) / (size * z_star(m, 0.5))), abs=1e-5)
    assert found.guessed == pytest.approx(found.on_target, abs=1e-5)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_one_probe_of_a_two_layer_linear_network_has_the_closed_form(scale: float) -> None:
    w, a, x = scale * normal(4, 3), normal(1, 4, seed=1), normal(1, 3, seed=2)
    f = functional(Two(w, a))
    x2, wx = float(x.square().sum()), w @ x[0]
    size = x2 * float(a.square().sum()) + float(wx.square().sum())
    d, c, f0 = 0.7, 0.2, float(a[0] @ wx)
    b = 2 * x2 * f0 / size
    z = (-b + math.sqrt(b * b + c * x2)) / x2
    found = demanded(f, x, torch.tensor([[d]], dtype=torch.float64))
    assert found.demand == pytest.approx(math.log10(Q * d / (size * z)), abs=1e-6)


def balanced(lam: float, start: float, d: int = 5) -> nn.Module:
    """Square two-layer linear network with W2' W2 - W1 W1' = lam I and a small end to end map."""
    turned = torch.linalg.qr(normal(d, d, seed=4))[0]
    small = start * normal(d, d, seed=3)
    other = turned @ torch.linalg.cholesky(small @ small.T + abs(lam) * torch.eye(d, dtype=torch.float64)).T
    return Two(small, other) if lam > 0 else Two(other.T.contiguous(), small.T.contiguous())


def rotated(values: Tensor, seed: int = 7) -> Tensor:
    d = len(values)
    u, v = (torch.linalg.qr(normal(d, d, seed=seed + i))[0] for i in range(2))
    return u @ values.diag() @ v.T


@pytest.mark.parametrize(("lam", "want"), [(20.0, -0.6339), (5.0, -0.0318)])
def test_lambda_balanced_networks_have_the_closed_form(lam: float, want: float) -> None:
    values = torch.linspace(1, 3, 5, dtype=torch.float64)
    formula = math.log10(Q * float(values.pow(4).mean()) ** 0.25 / (lam * math.sqrt(0.2)))
    assert formula == pytest.approx(want, abs=1e-4)
    x, change = torch.eye(5, dtype=torch.float64), rotated(values).T
    found = demanded(functional(balanced(lam, 1e-4)), x, change)
    assert found.demand == pytest.approx(formula, abs=1e-3)
    mirrored = demanded(functional(balanced(-lam, 1e-4)), x, change.T)
    assert mirrored.demand == pytest.approx(found.demand, abs=1e-6)
    assert mirrored.on_target == pytest.approx(found.on_target, abs=1e-6)


class Diagonal(nn.Module):
    """f = (u^D - v^D) . x with u = v = alpha: bare parameters (Woodworth et al. 2020)."""

    def __init__(self, d: int, depth: int, alpha: float):
        super().__init__()
        self.depth = depth
        self.u = nn.Parameter(torch.full((d,), alpha, dtype=torch.float64))
        self.v = nn.Parameter(torch.full((d,), alpha, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ (self.u**self.depth - self.v**self.depth))[:, None]


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
def test_diagonal_networks_have_the_closed_form(depth: int, alpha: float) -> None:
    """K(s) = D^2 alpha^(2D-2) X diag((1 + s delta)^(2D-2) + (1 - s delta)^(2D-2)) X'."""
    x = normal(6, 9)
    change = x @ normal(9, 1, seed=1)
    f = functional(Diagonal(9, depth, alpha))
    _, direction = responded(f, x, change)
    delta = direction["u"] / alpha

    def moved(s: float) -> float:
        power = 2 * depth - 2
        there = x @ ((1 + s * delta) ** power + (1 - s * delta) ** power).diag() @ x.T
        start = 2 * x @ x.T
        return float((there - start).norm() / start.norm())

    found = demanded(f, x, change)
    assert moved(10**-found.demand) == pytest.approx(0.2, rel=1e-6)
    if depth == 2:
        part = (x @ delta.square().diag() @ x.T).norm() / (0.2 * (x @ x.T).norm())
        assert found.demand == pytest.approx(0.5 * math.log10(float(part)), abs=1e-6)


def test_demand_of_diagonal_networks_falls_by_the_depth_per_decade_of_the_start() -> None:
    x = normal(6, 9)
    change = x @ normal(9, 1, seed=1)
    for depth in (2, 3, 4):
        low, high = (demanded(functional(Diagonal(9, depth, alpha)), x, change).demand for alpha in (1.0, 10.0))
        assert high - low == pytest.approx(-depth, abs=1e-6)


@pytest.mark.parametrize("act", [torch.tanh, torch.relu], ids=["tanh", "relu"])
def test_kernel_reaches_the_share_by_an_explicit_jacobian(act: Callable) -> None:
    net = Two(normal(12, 3), normal(2, 12, seed=1), act=act)
    x, change = normal(7, 3, seed=2), normal(7, 2, seed=3)
    f = functional(net)
    response, direction = responded(f, x, change)
    a = response.coefficients.reshape(7, 2)
    found = demanded(f, x, change, precision=1e-6)

    def at(s: float) -> Tensor:
        return explicit(net, {name: p + s * direction[name] for name, p in f.theta.items()}, x)

    start = at(0.0)
    share = float((at(10**-found.demand) - start).norm() / start.norm())
    on_target = float(((at(10**-found.on_target) - start) @ a.flatten()).norm() / (start @ a.flatten()).norm())
    at_response = float((at(1.0) - start).norm() / start.norm())
    tolerance = 1e-5 if act is torch.tanh else 0.02  # a kernel with kinks jumps where a unit switches
    assert (share, on_target) == pytest.approx((0.2, 0.5), abs=tolerance)
    assert found.at_response == pytest.approx(math.log10(at_response), abs=1e-9)


def small() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return normal(6, 3), normal(2, 6, seed=1), normal(5, 3, seed=2), normal(5, 2, seed=3)


@cache
def demand_of_small() -> Found:
    w, a, x, change = small()
    return demanded(functional(Two(w, a, act=torch.tanh)), x, change)


@settings(max_examples=8, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2))
def test_multipliers_and_rates_of_one_trajectory_have_one_demand(first: float, second: float) -> None:
    """theta = c phi in the forward pass trains as theta itself with rate c^2."""
    w, a, x, change = small()
    one, two = 10**first, 10**second
    by_multipliers = functional(Two(w / one, a / two, (one, two), torch.tanh))
    by_rates = functional(Two(w, a, act=torch.tanh)).scaled({"w": one, "a": two})
    found, again = demanded(by_multipliers, x, change), demanded(by_rates, x, change)
    assert again.demand == pytest.approx(found.demand, abs=1e-6)
    assert again.on_target == pytest.approx(found.on_target, abs=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.floats(-2, 2))
def test_larger_outputs_add_their_factor(log_scale: float) -> None:
    """Outputs x c with their change x c: the same response in the same network, so the same demand."""
    c, (w, a, x, change) = 10**log_scale, small()
    plain = demand_of_small()
    scaled = demanded(functional(Two(w, a, (1.0, c), torch.tanh)), x, c * change)
    assert scaled.demand == pytest.approx(plain.demand, abs=1e-6)
    larger = demanded(functional(Two(w, a, act=torch.tanh)), x, c * change)
    assert larger.demand == pytest.approx(plain.demand + log_scale, abs=1e-6)


def test_a_kernel_that_cannot_change_has_no_demand() -> None:
    f = functional(Two(normal(6, 3), normal(2, 6, seed=1), act=torch.tanh), params="a")
    found = demanded(f, normal(5, 3, seed=2), normal(5, 2, seed=3), guess=True)
    assert (found.demand, found.on_target, found.at_response, found.guessed) == (-math.inf,) * 4


def test_a_guess_and_kernels_seen_about_half_the_way_save_kernels() -> None:
    f, x, change = functional(Two(normal(40, 8), normal(4, 40, seed=1))), normal(20, 8, seed=2), normal(20, 4, seed=3)
    response, direction = responded(f, x, change)
    a = response.coefficients.reshape(change.shape)
    found = kernel_demand(f, x, direction, precision=0.02)
    # A response that reaches the share at s = 2.5 is seen at s = 1 first, which is about half the way.
    longer = {name: d * 10 ** (-found.demand - 0.4) for name, d in direction.items()}
    taken: list[float] = []

    def kernel(at: Functional) -> Tensor:
        taken.append(float(((at.theta["w"] - f.theta["w"]) / longer["w"]).mean()))
        return ntk(at, x, outputs="full").gram

    again = kernel_demand(f, x, longer, precision=0.02, kernel=kernel)
    assert again.demand == pytest.approx(-0.4, abs=0.02)
    assert taken[:2] == pytest.approx([0.0, 1.0])
    assert all(s > 1.8 for s in taken[2:]), "none at half of 2.5 again"
    unknown, guessed = (demand_on_target(f, x, direction, a, precision=0.05, guess=g) for g in (None, found))
    assert guessed.demand == pytest.approx(unknown.demand, abs=0.05)
    assert guessed.steps < unknown.steps
    assert math.isnan(guessed.at_response)
    assert math.isfinite(unknown.at_response)


@pytest.mark.parametrize("seed", [7, 10, 11])
def test_a_kernel_that_rests_just_below_the_share_is_followed_until_it_leaves(seed: int) -> None:
    """Under a large read-out all ReLUs switch, which changes the kernel by less than .2, long before the weights grow.

    The kernel rests there over a factor of 1000 in s, |a_j| / |w_j|; beyond, it changes by the growth of the weights.
    """
    w, a = normal(128, 16, seed=seed), 4000 * normal(1, 128, seed=seed + 1).sign()
    x = normal(24, 16, seed=seed + 2)
    change = 1e6 * (x @ normal(16, 1, seed=seed + 3)).relu()
    net = Two(w, a, act=torch.relu)
    f = functional(net)
    direction = responded(f, x, change)[1]
    found = kernel_demand(f, x, direction)

    def moved(s: float) -> float:
        start, end = (explicit(net, {n: p + t * direction[n] for n, p in f.theta.items()}, x) for t in (0.0, s))
        return float((end - start).norm() / start.norm())

    assert moved(10**-found.demand) == pytest.approx(0.2, rel=0.01)
    assert moved(0.05 * 10**-found.demand) == pytest.approx(0.2, rel=0.25), "it rests"


@pytest.mark.parametrize(("m", "w", "first"), [(0.27, 0.29319, 1.0), (0.4, 0.5, 1.5)])
def test_a_kernel_that_is_back_near_its_start_is_not_taken_for_half_the_way(m: float, w: float, first: float) -> None:
    """At s = 1 these kernels have shrunk and come back (z = `first`), so that the search goes on to the last crossing.

    Where they have changed by more than the share before, half of its way shows that, and the kernel at s = 1 does not.
    """
    size = 1 + w * w
    assert w / size == pytest.approx(m, abs=1e-4)
    found = demanded(two_weights(1.0, w), ONE, torch.full((1, 1), -first * size / Q, dtype=torch.float64))
    m = -w / size
    assert 10**-found.demand * first == pytest.approx(z_star(m, 0.2), rel=1e-5)
    assert 10**-found.on_target * first == pytest.approx(z_star(m, 0.5), rel=1e-5)


def test_random_vectors_stand_for_the_kernel() -> None:
    f = functional(Two(normal(40, 8), normal(4, 40, seed=1), act=torch.tanh))
    x, change = normal(20, 8, seed=2), normal(20, 4, seed=3)
    whole = demanded(f, x, change).demand
    estimates = [demanded(f, x, change, kernel=vectors_of(f, x, 8, seed)).demand for seed in range(4)]
    mean = sum(estimates) / len(estimates)
    assert mean == pytest.approx(whole, abs=0.02)
    assert max(abs(e - whole) for e in estimates) < 0.15
    assert len(set(estimates)) == len(estimates)
