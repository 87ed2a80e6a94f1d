"""Jacobian products: against the Jacobian, against finite differences, and both ways of computing them."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor, nn

from geomfeat.activations import recording
from geomfeat.errors import BadInput
from geomfeat.models.functional import Functional, functional
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import feature_jvp, jvp, ntk, vjp
from geomfeat.tangent.jacobians import directional_derivative
from geomfeat.tangent.jacobians.derivative_checks import require_callable
from tests.reference.kernels import gradients_by_loop
from tests.zoo import Case, zoo

tangent = importlib.import_module("geomfeat.tangent.jacobians.products")


def directions(f: Functional, seed: int = 0) -> dict[str, Tensor]:
    return {k: torch.randn(v.shape, generator=stream(seed, k), dtype=torch.float64) for k, v in f.theta.items()}


def flat(direction: dict[str, Tensor]) -> Tensor:
    return torch.cat([v.reshape(-1) for v in direction.values()])


@pytest.fixture(params=["as it comes", "two backward passes"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Forward mode where the model allows it, and the fallback for all."""
    if request.param == "two backward passes":

        def missing(*_: object) -> None:
            raise NotImplementedError("no forward-mode rule")

        monkeypatch.setattr("geomfeat.tangent.jacobians.directional_derivative._forward_mode", missing)
    return request.param


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_products_equal_those_with_the_jacobian(case: Case, mode: str) -> None:
    f = functional(case.model)
    j = gradients_by_loop(case.model, case.inputs)
    d = directions(f)
    torch.testing.assert_close(jvp(f, case.inputs, d, batch_size=2), j @ flat(d), **tolerance(scale=10))
    v = torch.randn(j.shape[:2], generator=stream(1, "v"), dtype=torch.float64)
    expected = torch.einsum("nc,ncp->p", v, j)
    torch.testing.assert_close(flat(vjp(f, case.inputs, v, batch_size=3)), expected, **tolerance(scale=10))


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_several_directions_at_once_are_the_single_ones(case: Case, mode: str) -> None:
    f = functional(case.model)
    singles = [directions(f, seed) for seed in range(3)]
    stacked = {k: torch.stack([d[k] for d in singles]) for k in f.theta}
    got = jvp(f, case.inputs, stacked, batch_size=2)
    expected = torch.stack([jvp(f, case.inputs, d) for d in singles])
    torch.testing.assert_close(got, expected, **tolerance(scale=10))


@pytest.mark.parametrize("case", [c for c in zoo() if c.layer], ids=str)
def test_feature_derivatives_equal_finite_differences(case: Case, mode: str) -> None:
    f = functional(case.model)
    d = directions(f)
    h, dh = feature_jvp(f, case.inputs, [case.layer], d, batch_size=4)[case.layer]

    def features(step: float) -> Tensor:
        moved = {k: v + step * d[k] for k, v in f.theta.items()}
        with recording(f.model, [case.layer]) as seen, torch.no_grad():
            f(moved, f.inputs(case.inputs))
        return seen[case.layer].flatten(1)

    torch.testing.assert_close(h, features(0.0), **tolerance(scale=10))
    e = 1e-6
    central = (features(e) - features(-e)) / (2 * e)
    torch.testing.assert_close(dh, central, rtol=1e-5, atol=1e-7 * float(central.abs().max()) + 1e-7)


def test_feature_derivatives_of_several_directions_and_nested_outputs(mode: str) -> None:
    case = next(c for c in zoo() if c.name == "lstm")
    f = functional(case.model)
    singles = [directions(f, seed) for seed in range(2)]
    stacked = {k: torch.stack([d[k] for d in singles]) for k in f.theta}
    got = feature_jvp(f, case.inputs, ["rnn[0]", "head"], stacked, batch_size=2)
    assert got["rnn[0]"][0].shape == (5, 16)
    assert got["rnn[0]"][1].shape == (2, 5, 16)
    for b, d in enumerate(singles):
        one = feature_jvp(f, case.inputs, ["rnn[0]", "head"], d)
        for layer in ("rnn[0]", "head"):
            torch.testing.assert_close(got[layer][1][b], one[layer][1], **tolerance(scale=10))
    # "rnn" alone is every output with one row per sample: the states, not the (1, n, h) last ones.
    assert list(feature_jvp(f, case.inputs, ["rnn"], singles[0])) == ["rnn[0]"]


def test_parameters_left_out_do_not_move(mode: str) -> None:
    f = functional(zoo()[0].model)
    d = directions(f)
    part = {k: d[k] for k in list(d)[:2]}
    zeros = {k: v if k in part else torch.zeros_like(v) for k, v in d.items()}
    x = zoo()[0].inputs
    torch.testing.assert_close(jvp(f, x, part), jvp(f, x, zeros), **tolerance())


def test_layers_before_the_moved_parameters_have_zero_derivative(mode: str) -> None:
    f = functional(zoo()[0].model)
    (h, dh) = feature_jvp(f, zoo()[0].inputs, ["0"], {"4.bias": torch.ones(3)})["0"]
    assert h.abs().max() > 0
    assert not dh.any()


def test_the_model_is_left_without_hooks(mode: str) -> None:
    f = functional(zoo()[0].model)
    feature_jvp(f, zoo()[0].inputs, ["0"], {"4.bias": torch.ones(3)})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in f.model.modules())


def test_directions_that_do_not_fit_are_refused() -> None:
    f = functional(zoo()[0].model)
    x = zoo()[0].inputs
    with pytest.raises(BadInput, match="no parameter"):
        jvp(f, x, {"weight": torch.ones(3)})
    with pytest.raises(BadInput, match="other shapes"):
        jvp(f, x, {"4.bias": torch.ones(4)})
    with pytest.raises(BadInput, match="cotangent"):
        vjp(f, x, torch.ones(2, 3))


def test_a_layer_without_rows_per_sample_is_refused() -> None:
    case = next(c for c in zoo() if c.name == "lstm")
    f = functional(case.model)
    with pytest.raises(BadInput, match="one row per sample"):
        feature_jvp(f, case.inputs, ["rnn[1][0]"], directions(f))


def test_products_on_every_device(device: str) -> None:
    for case in zoo():
        f, g = functional(case.model, device=device), functional(case.model)
        got = jvp(f, case.inputs, directions(g)).cpu()
        torch.testing.assert_close(got, jvp(g, case.inputs, directions(g)), **tolerance(scale=100))


NET = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
TOKENS = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Flatten(), torch.nn.Linear(6, 2))


@pytest.mark.parametrize("product", [
    lambda net, x: ntk(net, x), lambda net, x: vjp(functional(net), x, torch.ones(4, 2)),
    lambda net, x: jvp(functional(net), x, {"2.bias": torch.ones(2)}),
    lambda net, x: feature_jvp(functional(net), x, ["2"], {"2.bias": torch.ones(2)}),
])  # fmt: skip
@pytest.mark.parametrize(
    ("net", "x", "words"),
    [
        (NET, torch.ones(4, 7), r"\(2, 7\)"),
        (NET, torch.ones(4), r"x\[None\]"),
        (NET, {"foo": torch.ones(4, 4)}, "'foo'"),
        (TOKENS, torch.tensor([[0, 1], [1, 0], [0, 2], [5, 1]]), "token ids run from 0 to 5 where it has 0 to 4"),
        (TOKENS, torch.ones(4, 2), "token ids as integers"),
    ],
)
def test_inputs_that_the_network_cannot_take_are_refused_with_the_cause(product, net, x, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        product(net, x)
    assert "cannot be called on these inputs" in str(refused.value)


def test_other_inputs_of_a_kernel_and_sizes_of_batches_are_checked() -> None:
    with pytest.raises(BadInput, match="cannot be called"):
        ntk(NET, torch.ones(3, 4), torch.ones(3, 5))
    with pytest.raises(BadInput, match="batch_size=0 must be at least 1"):
        ntk(NET, torch.ones(3, 4), batch_size=0)
    with pytest.raises(BadInput, match="batch_size=0 must be at least 1"):
        vjp(functional(NET), torch.ones(3, 4), torch.ones(3, 2), batch_size=0)


def test_token_ids_are_tried_once_unless_smaller_or_larger_ones_come() -> None:
    torch.manual_seed(0)
    f = functional(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3)))
    passes: list[int] = []
    f.model.register_forward_pre_hook(lambda *_: passes.append(1))

    def tried(tokens: list[list[int]]) -> int:
        passes.clear()
        require_callable(f, f.inputs(torch.tensor(tokens)))
        return len(passes)

    assert tried([[3, 4], [5, 1], [2, 7]]) > 1
    assert tried([[3, 4], [1, 5], [7, 7]]) == 0
    assert tried([[3, 4], [0, 5], [7, 7]]) == 1
    with pytest.raises(BadInput, match="9"):
        tried([[3, 4], [1, 5], [9, 7]])


def test_one_check_of_the_ways_serves_features_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    f, x = functional(nn.Sequential(nn.Linear(3, 4), nn.Mish(), nn.Linear(4, 2))), torch.randn(6, 3)
    checks: list[int] = []
    first_right = directional_derivative._first_right
    monkeypatch.setattr(directional_derivative, "_first_right", lambda *a: checks.append(1) or first_right(*a))
    direction = directions(f)
    tangent_of_outputs = feature_jvp(f, x, ["0", "2"], direction)["2"][1]
    torch.testing.assert_close(jvp(f, x, direction), tangent_of_outputs)
    assert len(checks) == 1


@pytest.mark.parametrize(("budget", "passed"), [(2**30, 0), (16, 18)])
def test_a_pullback_is_j_transposed_without_a_further_pass_where_its_graph_fits(
    budget: int, passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    draws = stream(0, "pullback")
    x, *vs = (torch.randn(6, width, generator=draws, dtype=torch.float64) for width in (5, 3, 3, 3))
    f = functional(net)
    expected = [vjp(f, x, v) for v in vs]
    monkeypatch.setattr(tangent, "BUDGET", budget)
    pulled = tangent.pullback(f, x)
    samples: list[int] = []
    handle = f.model.register_forward_pre_hook(lambda _, given: samples.append(len(given[0])))
    found = [pulled(v) for v in vs]
    handle.remove()
    assert sum(samples) == passed  # a pass of six samples for each v, one by one
    for one, truth in zip(found, expected, strict=True):
        for name, value in truth.items():
            torch.testing.assert_close(one[name], value, rtol=1e-12, atol=1e-12)
