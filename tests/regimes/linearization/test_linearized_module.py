"""The linearised network: values, gradients and training against the whole Jacobian, for every kind of module."""

from __future__ import annotations

import copy
import importlib
import itertools
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.models.functional import call
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.linearization import Linearised, linearisation_gaps, linearize
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.tangent import ntk
from tests.reference import linearised as reference
from tests.reference.kernels import gradients_by_loop
from tests.zoo import Case, nudged, zoo

F64 = torch.float64
X = torch.randn(7, 5, generator=stream(0, "linearize test"), dtype=F64)
PRECISIONS = [torch.float32, F64]


def small(activation: str = "tanh") -> nn.Module:
    return mlp(5, (9, 8), 3, activation=activation, seed=1).double()


def displaced(network: nn.Module, size: float = 0.3, seed: int = 0) -> tuple[Linearised, nn.Module]:
    """The linearised network at other weights, and a network with these weights."""
    flat, moved = linearize(network), nudged(network, size, seed)
    flat.load_state_dict(moved.state_dict())
    return flat, moved


def in_precision(case: Case, dtype: torch.dtype) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    return case.model.to(dtype).eval(), tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_equals_the_definition_with_the_whole_jacobian(activation):
    network = small(activation)
    flat, moved = displaced(network)
    assert_close(flat(X), reference.linear_outputs(network, moved, X), **tolerance(F64))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("case", zoo(), ids=str)
def test_values_and_gradients_of_every_kind_of_network(case, dtype):
    network, inputs = in_precision(case, dtype)
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    j = gradients_by_loop(network, inputs if len(inputs) > 1 else inputs[0]).flatten(0, 1)
    flat, moved = displaced(network, 0.1)
    now, then = dict(moved.named_parameters()), dict(network.named_parameters())
    step = torch.cat([(now[n] - then[n]).detach().flatten() for n in names])
    start = call(network, inputs).detach()
    assert_close(linearize(network)(*inputs), start, **tolerance(dtype))
    out = flat(*inputs)
    assert_close(out, start + (j.to(dtype) @ step).view_as(start), **tolerance(dtype, 10))
    v = torch.randn(start.shape, generator=stream(1, "cotangent"), dtype=dtype)
    own = dict(flat.named_parameters())
    slopes = torch.autograd.grad((out * v).sum(), [own[n] for n in names], materialize_grads=True, allow_unused=True)
    assert_close(torch.cat([g.flatten() for g in slopes]), v.flatten() @ j.to(dtype), **tolerance(dtype, 10))


@pytest.mark.parametrize("way", ["backward twice", "differences", "rows"])
def test_every_way_gives_the_same_outputs_and_gradients(way: str, monkeypatch: pytest.MonkeyPatch):
    cases = {case.name: case for case in zoo()}
    network, inputs = in_precision(cases["mlp"], F64)
    flat, _ = displaced(network)
    expected = flat(*inputs)
    slopes = torch.autograd.grad(expected.sum(), list(flat.parameters()), allow_unused=True)
    monkeypatch.setattr(
        importlib.import_module("geomfeat.regimes.linearization.linearized_module"), "way_of_outputs", lambda *_: way
    )
    monkeypatch.setattr("geomfeat.tangent.jacobians.products.right_way", lambda *_: way)
    found = flat(*inputs)
    near = {"rtol": 1e-7, "atol": 1e-8} if way == "differences" else tolerance(F64)
    assert_close(found, expected, **near)
    again = torch.autograd.grad(found.sum(), list(flat.parameters()), allow_unused=True)
    for mine, theirs in zip(again, slopes, strict=True):
        assert_close(torch.zeros(()) if mine is None else mine, torch.zeros(()) if theirs is None else theirs,
                     **tolerance(F64))  # fmt: skip
    with torch.no_grad():
        assert not flat(*inputs).requires_grad


def test_a_network_without_forward_mode_is_linearised():
    network, inputs = in_precision({case.name: case for case in zoo()}["lstm"], torch.float32)
    assert_close(linearize(network)(*inputs), network.eval()(*inputs).detach(), **tolerance(torch.float32))


def test_a_model_linear_in_its_parameters_is_its_own_linearisation():
    network = nn.Linear(5, 3).double()
    flat, moved = displaced(network, 5.0)
    assert_close(flat(X), moved(X), **tolerance(F64))


def test_the_rest_is_of_second_order():
    network = small()
    moved = nudged(network, 1.0)
    rests = []
    for size in (1e-2, 1e-3, 1e-4):
        near = copy.deepcopy(network)
        with torch.no_grad():
            for p, q, w in zip(near.parameters(), moved.parameters(), network.parameters(), strict=True):
                p.copy_(torch.lerp(w, q, size))
        flat = linearize(network)
        flat.load_state_dict(near.state_dict())
        rests.append(float((near(X) - flat(X)).detach().norm()))
    slopes = [math.log10(a / b) for a, b in itertools.pairwise(rests)]
    assert slopes == pytest.approx([2, 2], abs=0.05)


def test_state_dicts_are_exchanged_and_shared_weights_stay_shared():
    shared = next(case for case in zoo() if case.name == "shared").model
    flat = linearize(shared)
    assert list(flat.state_dict()) == list(shared.state_dict())
    assert [n for n, _ in flat.named_parameters()] == [n for n, _ in shared.named_parameters()]
    moved = nudged(shared, 1.0)
    flat.load_state_dict(moved.state_dict())
    assert flat.get_parameter("head.weight") is flat.get_parameter("first.weight")
    shared.load_state_dict(flat.state_dict())
    assert_close(shared.state_dict(), moved.state_dict())


class Rooted(nn.Module):
    """Parameters and buffers of its own, beside those of children; a number multiplied in that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("shift", torch.tensor(0.5))
        self.register_buffer("cache", torch.tensor(2.0), persistent=False)
        self.inner = nn.Linear(5, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.scale.square() * self.inner(self.drop(x)) * self.cache + self.shift}


def test_own_parameters_buffers_dropout_and_mapping_outputs():
    network = Rooted().double()
    flat = linearize(network)
    assert list(flat.state_dict()) == list(network.state_dict())
    assert flat.training == network.training
    with torch.no_grad():
        flat.get_parameter("scale").add_(0.1)
        flat.get_buffer("shift").add_(9.0)  # has no effect
    inner = network.inner(X).detach()
    assert_close(flat(x=X), (1.5**2 + 2 * 1.5 * 0.1) * 2 * inner + 0.5, **tolerance(F64))
    picked = linearize(network, readout=lambda out, _: out["logits"][:, :1])
    assert_close(picked(X), network.eval()(X)["logits"][:, :1], **tolerance(F64))
    with pytest.raises(BadInput, match="by position or all by keyword"):
        flat(X, x=X)


def test_a_hugging_face_model_with_its_mapping_of_inputs():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=12, num_labels=3)  # fmt: skip
    network = transformers.BertForSequenceClassification(config).double().eval()
    tokens = {"input_ids": torch.arange(8).view(2, 4), "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])}
    flat, moved = displaced(network, 1e-5)
    before, after = network(**tokens).logits, moved(**tokens).logits
    assert_close(linearize(network)(**tokens), before, **tolerance(F64))
    assert float(((flat(**tokens) - after).norm() / (after - before).norm()).detach()) < 1e-3


def test_precision_and_copies_move_the_expansion_point_along():
    network = small().float()
    flat, moved = displaced(network)
    wide = copy.deepcopy(flat).double()
    assert wide(X).dtype == F64
    assert flat(X.float()).dtype == torch.float32
    assert_close(wide(X), reference.linear_outputs(network.double(), moved.double(), X), **tolerance(F64))
    assert_close(wide.float()(X.float()), flat(X.float()), **tolerance(torch.float32))


def test_the_given_model_is_not_touched():
    network = small().train()
    before = copy.deepcopy(network.state_dict())
    flat, _ = displaced(network)
    flat(X).sum().backward()
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert_close(network.state_dict(), before)


@pytest.mark.parametrize(
    "optimizer",
    [lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9), lambda p: torch.optim.Adam(p, lr=1e-2)],
    ids=["momentum", "adam"],
)
def test_any_optimizer_trains_it_as_the_explicit_linear_model(optimizer):
    network = small()
    y = torch.randn(7, 3, generator=stream(0, "targets"), dtype=F64)
    want = reference.trained_linear_model(network, X, y, optimizer, 40)
    flat = linearize(network)
    descent = optimizer(list(flat.parameters()))
    for _ in range(40):
        descent.zero_grad()
        (flat(X) - y).square().sum().backward()
        descent.step()
    assert_close(flat(X).detach(), want, **tolerance(F64, 1e3))


def test_its_tangent_kernel_is_that_of_the_network_wherever_it_stands():
    network = small()
    flat, _ = displaced(network, 1.0)
    assert_close(ntk(flat, X, outputs="full").gram, ntk(network, X, outputs="full").gram, **tolerance(F64))
    assert_close(linearize(flat)(X), flat(X), **tolerance(F64))


def test_gradients_reach_the_inputs_and_batches_over_weights_are_possible():
    network = small()
    flat, moved = displaced(network)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flat(x).sum(), x)
    h = 1e-6
    ahead, behind = (float(flat(X + sign * h * slope).detach().sum()) for sign in (1, -1))
    assert (ahead - behind) / (2 * h) == pytest.approx(float(slope.square().sum()), rel=1e-6)
    two = {n: torch.stack([w, v]) for (n, w), v in zip(network.named_parameters(), moved.parameters(), strict=True)}
    both = torch.func.vmap(lambda theta: torch.func.functional_call(flat, theta, (X,)))(two)
    assert_close(both, torch.stack([network(X), flat(X)]), **tolerance(F64))


def test_gaps_along_a_run_are_the_definition_and_grow_with_gamma():
    network = small()
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    last = []
    for gamma in (1e-3, 0.1, 3.0):
        run = train_at_gamma(network, X, y, gamma=gamma, max_steps=30, options=TrainOptions(snapshot_steps=(0, 3, 30)))
        gaps = linearisation_gaps(network, run.snapshots, X)
        assert list(gaps) == [0, 3, 30]
        assert gaps[0] == 0.0
        after = run.snapshots[30]
        change = after(X).detach() - network(X).detach()
        rest = after(X).detach() - reference.linear_outputs(network, after, X)
        assert gaps[30] == pytest.approx(float(rest.norm() / change.norm()), rel=1e-6)
        last.append(gaps[30])
    assert last[0] < 2e-3
    assert last[0] < 0.1 * last[1] < last[2]


def test_gaps_of_a_square_by_hand():
    square = Rooted().double()
    after = copy.deepcopy(square)
    with torch.no_grad():
        after.scale.add_(0.7)
    # (w + d)^2 - w^2 = 2 w d + d^2, of which 2 w d is linear.
    assert linearisation_gaps(square, {1: after}, X)[1] == pytest.approx(0.7 / (2 * 1.5 + 0.7), rel=1e-9)


def dead() -> nn.Module:
    """Its outputs do not depend on its weights: the gate is shut."""
    network = nn.Sequential(nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(-1.0)
        network[2].bias.zero_().requires_grad_(False)
    return network


def dead_and_moved() -> nn.Module:
    network = dead()
    with torch.no_grad():
        network[0].bias.fill_(-2.0)
    return network


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: linearize(nn.ReLU()), "no trainable parameters"),
        (lambda: linearize(nn.Linear(2, 1).requires_grad_(False)), "no trainable parameters"),
        (lambda: linearize(nn.LazyLinear(3)), "call the model once"),
        (lambda: linearize(nudged(small(), math.nan)), "NaN"),
        (lambda: linearisation_gaps(small(), {4: mlp(5, (9, 9), 3)}, X), "snapshot 4 has other trainable parameters"),
        (lambda: linearisation_gaps(small(), {4: small()}, X * math.nan), "outputs on the inputs"),
        (lambda: linearisation_gaps(dead(), {4: dead_and_moved()}, X), "snapshot 4 did not change"),
    ],
)
def test_bad_input_is_reported(make, said):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with pytest.raises(BadInput, match=said):
            make()
