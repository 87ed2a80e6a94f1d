"""Products with the Jacobian agree with backward passes, whatever a network's operations can and cannot do."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import Functional, functional
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.linearization import linearize
from geomfeat.tangent import feature_jvp, jacobian, jvp, ntk, vjp
from geomfeat.tangent.jacobians import derivative_checks
from geomfeat.tangent.jacobians.derivative_checks import random_direction
from geomfeat.tangent.jacobians.directional_derivative import (
    FORWARD_MODES,
    NESTED,
    along,
    load_forward_mode,
    right_way,
)
from geomfeat.tangent.jacobians.products import way_of_outputs

X = torch.randn(7, 4, generator=stream(0, "directional"), dtype=torch.float64)


class Squash(torch.autograd.Function):
    """tanh, with a backward pass that is not itself differentiable."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g: Tensor) -> Tensor:
        return g * (1 - ctx.saved_tensors[0] ** 2)


class Sign(torch.autograd.Function):
    """A sign whose gradient is that of the identity, by numpy: no derivative of any kind but the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g: Tensor) -> Tensor:
        return torch.as_tensor(g.detach().cpu().numpy() * 1.0, device=g.device)


class WrongForwardMode(torch.autograd.Function):
    """A sine whose rule for forward mode has a slip."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx, t: Tensor) -> Tensor:
        return t * 1.1 * ctx.saved_tensors[0].cos()


class Net(nn.Module):
    """Two layers around one operation."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(4, 6).double(), nn.Linear(6, 2).double()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.operation(self.a(x)))


def unit_rows(h: Tensor) -> Tensor:
    with torch.no_grad():
        size = h.norm(dim=1, keepdim=True)
    return h / size


def rounded(h: Tensor) -> Tensor:
    return h + ((4 * h).round() / 4 - h).detach()


def bag(h: Tensor) -> Tensor:
    """Six samples' units as weights of a look-up that has no second derivative."""
    return torch.stack([torch.nn.functional.embedding_bag(torch.tensor([[0, 0]]), row[None])[0] for row in h])


OPERATIONS = {
    "once differentiable": (Squash.apply, "differences", False),
    "no_grad": (unit_rows, "backward twice", True),
    "straight through": (rounded, "forward", True),
    "sign": (Sign.apply, "rows", True),
    "wrong forward mode": (WrongForwardMode.apply, "backward twice", False),
    "embedding bag": (bag, "differences", False),
    "ordinary": (torch.tanh, "forward", False),
}


def direction(f: Functional) -> dict[str, Tensor]:
    return {name: torch.randn(w.shape, generator=stream(1, name), dtype=w.dtype) for name, w in f.theta.items()}


def flat(d: dict[str, Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in d.values()])


@pytest.mark.parametrize(("operation", "way", "false"), OPERATIONS.values(), ids=OPERATIONS)
def test_products_are_those_with_the_rows_of_backward_passes(
    operation: Callable[[Tensor], Tensor], way: str, false: bool
) -> None:
    f = functional(Net(operation))
    u = direction(f)
    j = jacobian(f, X)
    near = {"rtol": 1e-7, "atol": 1e-8} if way == "differences" else tolerance(scale=10)
    torch.testing.assert_close(jvp(f, X, u), (j @ flat(u)).view(len(X), 2), **near)
    v = torch.randn(len(X), 2, generator=stream(2, "v"), dtype=torch.float64)
    torch.testing.assert_close(flat(vjp(f, X, v)), v.flatten() @ j, **tolerance(scale=10))
    assert way_of_outputs(f, X) == way
    assert any("backward passes differ from the derivative" in note for note in f.notes) == false


@pytest.mark.parametrize(("operation", "way", "false"), OPERATIONS.values(), ids=OPERATIONS)
def test_hidden_features_and_several_directions(operation: Callable[[Tensor], Tensor], way: str, false: bool) -> None:
    class Read(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return operation(x)

    f = functional(nn.Sequential(nn.Linear(4, 6).double(), Read()))
    one, two = direction(f), {name: 2 * w for name, w in direction(f).items()}
    both = {name: torch.stack([one[name], two[name]]) for name in one}
    features, tangent = feature_jvp(f, X, ["1"], both)["1"]
    near = {"rtol": 1e-7, "atol": 1e-8} if way == "differences" else tolerance(scale=10)
    torch.testing.assert_close(features, f(f.theta, X), **tolerance())
    expected = (jacobian(f, X) @ flat(one)).view(len(X), 6)
    torch.testing.assert_close(tangent, torch.stack([expected, 2 * expected]), **near)


@pytest.mark.parametrize("name", OPERATIONS)
def test_linearised_networks_follow_backward_passes(name: str) -> None:
    network = Net(OPERATIONS[name][0])
    f, line = functional(network), linearize(network)
    u = direction(f)
    with torch.no_grad():
        for key, parameter in line.named_parameters():
            parameter.add_(u[key])
    j = jacobian(f, X)
    out = line(X)
    expected = f(f.theta, X) + (j @ flat(u)).view(len(X), 2)
    torch.testing.assert_close(out, expected, rtol=1e-7, atol=1e-7)
    slopes = torch.autograd.grad(out.sum(), list(line.parameters()))
    torch.testing.assert_close(torch.cat([s.flatten() for s in slopes]), j.sum(0), **tolerance(scale=10))


def test_kernels_say_that_they_follow_backward_passes() -> None:
    kernel = ntk(Net(rounded), X)
    j = jacobian(functional(Net(rounded)), X).view(len(X), -1)
    torch.testing.assert_close(kernel.gram, j @ j.T, **tolerance(scale=10))
    assert "straight-through" in kernel.meta["notes"][0]
    assert ntk(Net(torch.tanh), X).meta["notes"] == ()


def test_a_stopped_gradient_is_its_detached_twin() -> None:
    class Detached(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h / h.norm(dim=1, keepdim=True).detach())

    f, twin = functional(Net(unit_rows)), functional(Detached(unit_rows))
    u = direction(f)
    torch.testing.assert_close(jvp(f, X, u), jvp(twin, X, u), **tolerance())


class Branching(nn.Module):
    """Divides by a stopped norm those samples only that a rule picks."""

    def __init__(self, picks: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.picks = Net(torch.tanh), picks

    def forward(self, x: Tensor) -> Tensor:
        h = self.net(x)
        return torch.where(self.picks(x)[:, None], unit_rows(h), h)


@pytest.mark.parametrize(
    "picks",
    [
        lambda x: x.norm(dim=1) > 3.5,
        lambda x: x.norm(dim=1) < 1,
        lambda x: x.mean(1) > 0.7,
        lambda x: x[:, 1] > 1,
    ],
    ids=["large", "small", "of high mean", "the last"],
)
def test_a_branch_that_later_samples_take_is_seen(picks: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(80, 4, generator=stream(0, "branching"), dtype=torch.float64)
    x = torch.cat([x[~picks(x)][:20], x[picks(x)][:5]])
    f = functional(Branching(picks))
    u = direction(f)
    torch.testing.assert_close(jvp(f, x, u), (jacobian(f, x) @ flat(u)).view(len(x), 2), **tolerance(scale=10))


def test_the_way_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    f = functional(Net(torch.tanh))
    calls = []
    monkeypatch.setattr(
        "geomfeat.tangent.jacobians.directional_derivative._first_right", lambda *_: calls.append(1) or "forward"
    )
    for _ in range(3):
        jvp(f, X, direction(f))
    assert len(calls) == 1


def test_a_random_network_is_refused_by_name() -> None:
    f = functional(Net(torch.nn.functional.dropout))
    with pytest.raises(BadInput, match=r"two passes of the same inputs give different outputs.*F\.dropout"):
        jvp(f, X, direction(f))


def test_too_many_entries_for_rows_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomfeat.tangent.jacobians.directional_derivative.MOST_ROWS", 1)
    f = functional(Net(Sign.apply))
    with pytest.raises(BadInput, match=r"cannot be differentiated twice.*choose smaller layers or fewer outputs"):
        jvp(f, X, direction(f))


@pytest.mark.parametrize("way", [*FORWARD_MODES, "backward twice", "differences", "rows"])
def test_directions_of_zero_and_parameters_left_out(way: str) -> None:
    f = functional(Net(torch.tanh))
    at = lambda theta: {"": f({**f.theta, **theta}, X)}  # noqa: E731
    values, tangents = along(way, at, f.theta, {"a.bias": torch.zeros_like(f.theta["a.bias"])})
    torch.testing.assert_close(values[""], f(f.theta, X), **tolerance())
    assert not tangents[""].any()


def test_padding_tokens_move_in_forward_mode() -> None:
    f = functional(nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 2)))
    tokens = torch.tensor([[0, 1], [2, 0], [3, 4]])
    assert right_way(f, "outputs", lambda theta, part: {"": f(theta, part)}, tokens) == "forward"
    assert f.notes == ()


class AlongTheInputs(nn.Module):
    """The derivative of a network along a direction of its inputs, as networks for differential equations have it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(self.body, (x,), (torch.ones_like(x),))[1]


def test_a_network_that_takes_derivatives_itself_runs_nested() -> None:
    f = functional(AlongTheInputs())
    u = random_direction(f)
    assert right_way(f, "outputs", lambda theta, part: {"": f(theta, part)}, X) == NESTED
    rows = along("rows", lambda theta: {"": f({**f.theta, **theta}, X)}, f.theta, u)[1][""]
    torch.testing.assert_close(jvp(f, X, u), rows, **tolerance())
    stacked = {name: torch.stack([value, 2 * value]) for name, value in u.items()}
    torch.testing.assert_close(jvp(f, X, stacked), torch.stack([rows, 2 * rows]), **tolerance())


def test_outputs_of_such_a_network_run_nested_after_its_features_and_when_linearised() -> None:
    net = AlongTheInputs()
    f = functional(net)
    u = random_direction(f)
    rows = along("rows", lambda theta: {"": f({**f.theta, **theta}, X)}, f.theta, u)[1][""]
    feature_jvp(f, X, ["body.0"], u)
    torch.testing.assert_close(jvp(f, X, u), rows, **tolerance())
    line = linearize(net)
    with torch.no_grad():
        for name, p in line.named_parameters():
            p += u[name]
    torch.testing.assert_close(line(X), f(f.theta, X) + rows, **tolerance())


@pytest.mark.parametrize("way", [*FORWARD_MODES, "backward twice", "differences", "rows"])
def test_what_does_not_depend_on_the_direction_stays(way: str) -> None:
    f = functional(Net(torch.tanh))
    at = lambda theta: {"moves": f({**f.theta, **theta}, X), "stays": X.square()}  # noqa: E731
    name = next(iter(f.theta))
    _, tangents = along(way, at, f.theta, {name: torch.ones_like(f.theta[name])})
    assert tangents["moves"].any()
    assert not tangents["stays"].any()


def test_rounding_inside_a_network_in_double_precision_is_no_false_gradient() -> None:
    """Norms of language models are computed in float32 whatever the weights are, and steps of float64 see that."""

    def normalised(h: Tensor) -> Tensor:
        return h * torch.rsqrt(h.float().square().mean(1, keepdim=True)).double() * 30

    for seed in range(5):
        net = Net(lambda h: normalised(h).sin())
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=stream(seed, "rounding"), dtype=p.dtype))
        assert ntk(net, X).meta["notes"] == ()


@pytest.mark.parametrize("kind", ["DeprecationWarning", "FutureWarning"])
def test_forward_mode_is_loaded_without_warnings_of_torch_about_itself(kind, tmp_path, monkeypatch):
    load_forward_mode()
    (tmp_path / "decompositions_for_jvp.py").write_text(
        f"import warnings; warnings.warn('deprecated', {kind})\nTOLD = 1"
    )
    monkeypatch.setattr(
        torch._decomp, "decompositions_for_jvp", torch._decomp.decompositions_for_jvp
    )  # put back afterwards
    monkeypatch.setattr(torch._decomp, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch._decomp.decompositions_for_jvp")
    load_forward_mode()  # a warning is an error here
    assert sys.modules["torch._decomp.decompositions_for_jvp"].TOLD == 1


def test_directions_of_large_networks_repeat_numbers_in_the_size_of_each_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    f = functional(nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 20)))
    monkeypatch.setattr(derivative_checks, "KEPT", 0)
    monkeypatch.setattr(derivative_checks, "DRAWN", 997)
    direction = derivative_checks.random_direction(f)
    for name, value in f.theta.items():
        assert float(direction[name].norm() / value.norm()) == pytest.approx(1, abs=0.4)
    first = direction["0.weight"].flatten()
    torch.testing.assert_close(first[997:], first[: len(first) - 997])
    assert float(first[:997].std() / first[:997].mean().abs()) > 5
