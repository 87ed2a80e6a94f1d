"""Recording: what is kept, and that nothing else changes."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.testing import assert_close

from geomfeat.activations import ExtractOptions, extract, fired_layers, hidden_weight_layers, recording, tensors_by_path
from geomfeat.activations.model_state import unfused_attention
from geomfeat.errors import BadInput, GeomfeatError, LayerNotFound
from geomfeat.models.functional import call, functional
from geomfeat.numerics import tolerance
from tests.activations.zoo import ZOO, conv_bn_residual, gru_cell_loop, lstm, mlp

# torch itself still uses torch.jit in its rules for forward-mode derivatives, and says so on first use.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that must come back: hooks, flags, tensors and their identity, global random state, switches."""
    return {
        "hooks": [{h: list(getattr(m, h)) for h in HOOKS} for m in model.modules()],
        "training": [m.training for m in model.modules()],
        "values": {k: v.clone() for k, v in model.state_dict().items()},
        "identity": {k: id(v) for k, v in [*model.named_parameters(), *model.named_buffers()]},
        "grads": [p.grad for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "rng": torch.get_rng_state(),
        "fastpath": torch.backends.mha.get_fastpath_enabled(),
        "grad_mode": torch.is_grad_enabled(),
    }


def assert_untouched(model: nn.Module, before: dict[str, Any]) -> None:
    """The model and the globals are as `before` says."""
    after = state_of(model)
    for key in ("values", "rng"):
        assert_close(after.pop(key), before[key], rtol=0, atol=0, equal_nan=True)
    assert after == {k: v for k, v in before.items() if k not in ("values", "rng")}


class Boom(RuntimeError):
    pass


@contextmanager
def breaking(model: nn.Module) -> Iterator[None]:
    """The last leaf that a forward pass calls raises Boom."""

    def boom(*_args: Any, **_kwargs: Any) -> None:
        raise Boom

    last = list(model.modules())[-1]
    last.forward = boom
    try:
        yield
    finally:
        del last.forward


def mixed_modes(model: nn.Module, bits: int) -> None:
    """Every submodule its own `.training` flag."""
    for i, module in enumerate(model.modules()):
        module.training = bool(bits >> (i % 16) & 1)


@pytest.mark.parametrize("name", ZOO)
@settings(deadline=None, max_examples=5)
@given(bits=st.integers(0, 2**16 - 1), fails=st.booleans(), calls=st.sampled_from(["last", "all", 0]))
def test_recording_leaves_no_trace(name: str, bits: int, fails: bool, calls: Any) -> None:
    model, inputs = ZOO[name]()
    model.eval()
    with torch.no_grad(), unfused_attention():
        plain = call(model, inputs)
    mixed_modes(model, bits)
    before = state_of(model)
    with recording(model, "*", calls=calls) as seen:
        model.eval()
        with torch.no_grad():
            assert torch.equal(call(model, inputs), plain)
        assert seen
        if fails:
            with breaking(model), pytest.raises(Boom):
                call(model, inputs)
    assert_untouched(model, before)


@pytest.mark.parametrize("name", ZOO)
@settings(deadline=None, max_examples=5)
@given(bits=st.integers(0, 2**16 - 1))
def test_extraction_leaves_no_trace(name: str, bits: int) -> None:
    model, inputs = ZOO[name]()
    mixed_modes(model, bits)
    before = state_of(model)
    extract(model, inputs, progress=False, options=ExtractOptions(batch_size=4, calls="all", with_outputs=True))
    assert_untouched(model, before)
    fired_layers(model, inputs)
    hidden_weight_layers(model, inputs)
    assert_untouched(model, before)


@pytest.mark.parametrize("name", ZOO)
def test_extraction_leaves_no_trace_when_the_forward_pass_raises(name: str) -> None:
    model, inputs = ZOO[name]()
    mixed_modes(model, 0b1010011010)
    before = state_of(model)
    for use in (extract_quietly, fired_layers, hidden_weight_layers):
        with breaking(model), pytest.raises(Boom):
            use(model, inputs)
        assert_untouched(model, before)


def extract_quietly(model: nn.Module, inputs: Any) -> None:
    extract(model, inputs, progress=False)


def test_an_unknown_layer_leaves_no_hook_either() -> None:
    model, _ = mlp()
    before = state_of(model)
    with pytest.raises(LayerNotFound), recording(model, ["0", "nope"]):
        pass
    assert_untouched(model, before)


def test_buffers_that_count_in_eval_mode_come_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))
            self.register_buffer("replaced", torch.zeros(2))
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            self.replaced = self.replaced + torch.rand(2)
            return self.fc(x)

    model = Counting()
    before = state_of(model)
    extract(model, torch.ones(5, 2), progress=False)
    assert_untouched(model, before)


def test_noise_in_eval_mode_is_that_of_the_seed_and_leaves_the_global_stream() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x + torch.randn_like(x))

    model = Noisy()
    state = torch.get_rng_state()
    first = extract(model, torch.ones(5, 2), progress=False, seed=3)["fc"].x
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(extract(model, torch.ones(5, 2), progress=False, seed=3)["fc"].x, first)
    assert not torch.equal(extract(model, torch.ones(5, 2), progress=False, seed=4)["fc"].x, first)


def test_an_in_place_operation_does_not_overwrite_what_was_recorded() -> None:
    model, x = mlp()
    model.eval()
    with recording(model, ["0", "1"]) as seen:
        model(x)
    assert_close(seen["0"], model[0](x).detach(), rtol=0, atol=0)
    assert (seen["0"] < 0).any()
    assert (seen["1"] >= 0).all()


def test_inputs_are_recorded_before_the_layer_changes_them_in_place() -> None:
    model, x = mlp()
    model.eval()
    with recording(model, ["1"], io="input") as seen:
        model(x)
    assert_close(seen["1"], model[0](x).detach(), rtol=0, atol=0)


def test_inputs_by_position_and_by_keyword() -> None:
    class Add(nn.Module):
        def forward(self, a: Tensor, b: Tensor, *, factor: Tensor) -> Tensor:
            return (a + b) * factor

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add = Add()

        def forward(self, x: Tensor) -> Tensor:
            return self.add(x, b=2 * x, factor=x)

    outer, x = Outer(), torch.ones(3, 2)
    with recording(outer, "add", io="input") as seen:
        outer(x)
    assert list(seen) == ["add[0]", "add[b]", "add[factor]"]
    assert_close(seen["add[b]"], 2 * x)


def test_the_record_is_filled_anew_at_every_forward_pass() -> None:
    model, x = gru_cell_loop()
    with recording(model, "cell", calls="all") as seen:
        model(x)
        first = dict(seen)
        model(x[:2, :3])
        assert list(first) == ["cell@0", "cell@1", "cell@2", "cell@3"]
        assert list(seen) == ["cell@0", "cell@1", "cell@2"]
        assert seen["cell@2"].shape[0] == 2


def test_repeated_calls_by_index_equal_the_loop() -> None:
    model, x = gru_cell_loop()
    h, states = x.new_zeros(len(x), 4), []
    for step in x.unbind(1):
        h = model.cell(step, h)
        states.append(h.detach())
    with recording(model, ["cell", "cell@1"]) as seen:
        model(x)
    assert_close(seen["cell"], states[-1])
    assert_close(seen["cell@1"], states[1])
    with recording(model, "cell", calls=2) as seen:
        model(x)
    assert list(seen) == ["cell@2"]
    assert_close(seen["cell@2"], states[2])


def test_a_module_under_two_names_is_recorded_once_per_call() -> None:
    model, x = ZOO["shared_weights"]()
    with recording(model, "*", calls="all") as seen:
        model(x)
    assert list(seen) == ["first@0", "first@1", "tied@0", "head@0"]
    assert_close(seen["first@1"], model.first(torch.relu(model.first(x))).detach())


@dataclass
class Point:
    here: Tensor
    there: list[Tensor | None]


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (torch.ones(1), [""]),
        ((torch.ones(1), None), [""]),
        ({"only": [torch.ones(1)]}, [""]),
        ((torch.ones(1), (torch.ones(1), torch.ones(1))), ["[0]", "[1][0]", "[1][1]"]),
        ({"a": torch.ones(1), 3: (None, torch.ones(1))}, ["[a]", "[3][1]"]),
        (Point(torch.ones(1), [None, torch.ones(1)]), ["[here]", "[there][1]"]),
        (Pair(torch.ones(1), torch.ones(1)), ["[0]", "[1]"]),
        ((None, "text", 3), []),
    ],
)
def test_nested_values_are_flattened_by_path(value: Any, paths: list[str]) -> None:
    assert list(tensors_by_path(value)) == paths


def test_packed_sequences_are_unpacked_in_the_order_of_the_samples() -> None:
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 4, 1]), batch_first=True, enforce_sorted=False)
    found = tensors_by_path((packed, torch.ones(1)))["[0]"]
    assert found.shape == x.shape
    assert torch.equal(found[0, :2], x[0, :2])
    assert torch.equal(found[1], x[1])
    assert not found[2, 1:].any()


def test_every_key_can_be_given_as_a_layer() -> None:
    for build in (lstm, gru_cell_loop, mlp):
        model, x = build()
        model.eval()
        with recording(model, "*", calls="all") as seen:
            model(x)
        for key, value in dict(seen).items():
            with recording(model, [key]) as one:
                model(x)
            assert list(one) == [key]
            assert_close(one[key], value, rtol=0, atol=0)


def test_recordings_nest() -> None:
    model, x = mlp()
    with recording(model, "0") as outer, recording(model, ["0", "3"]) as inner:
        model(x)
    assert torch.equal(outer["0"], inner["0"])
    assert "3" in inner


def test_transform_sees_key_and_tensor_and_may_keep_nothing() -> None:
    model, x = mlp()
    with recording(model, "*", transform=lambda key, t: t.mean().item() if key == "3" else None) as seen:
        model(x)
    assert list(seen) == ["3"]
    assert isinstance(seen["3"], float)


def test_hooks_never_change_the_output_even_if_the_transform_returns_a_tensor() -> None:
    model, x = mlp()
    model.eval()
    plain = model(x)
    with recording(model, "*", transform=lambda _key, t: torch.zeros_like(t)):
        assert torch.equal(model(x), plain)


def test_recorded_tensors_are_detached_unless_asked_otherwise() -> None:
    model, x = mlp()
    with recording(model, "0") as seen:
        model(x)
    assert not seen["0"].requires_grad
    with recording(model, "0", detach=False) as seen:
        model(x)
    seen["0"].sum().backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize("name", ["mlp", "conv_bn_residual", "gru_cell_loop", "transformer_encoder_masked"])
def test_forward_mode_derivatives_of_activations_are_finite_differences(name: str) -> None:
    model, inputs = ZOO[name]()
    f = functional(model)
    inputs = f.inputs(inputs)
    layers = hidden_weight_layers(model, inputs)

    def hidden(theta: dict[str, Tensor]) -> dict[str, Tensor]:
        with recording(f.model, layers, detach=False) as seen:
            f(theta, inputs)
        return dict(seen)

    generator = torch.Generator().manual_seed(1)
    direction = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in f.theta.items()}
    at, tangent = jvp(hidden, (f.theta,), (direction,))
    step = 1e-6
    above = hidden({k: v + step * direction[k] for k, v in f.theta.items()})
    below = hidden({k: v - step * direction[k] for k, v in f.theta.items()})
    assert list(at) == list(tangent)
    for key in at:
        assert tangent[key].abs().max() > 0
        assert_close(tangent[key], (above[key] - below[key]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_an_in_place_relu_does_not_spoil_the_tangent() -> None:
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(inplace=True), nn.Linear(3, 1)).double()
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    theta = {k: p.detach() for k, p in net.named_parameters()}

    def first(theta: dict[str, Tensor]) -> Tensor:
        with recording(net, "0", detach=False) as seen:
            functional_call(net, theta, (x,))
        return seen["0"]

    direction = {k: torch.ones_like(v) for k, v in theta.items()}
    value, tangent = jvp(first, (theta,), (direction,))
    assert_close(value, x @ theta["0.weight"].T, **tolerance())
    assert_close(tangent, x.sum(1, keepdim=True).expand(1, 3), **tolerance())


def test_recording_under_vmap_grad_jacrev_and_hessian() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    xs = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theta = {k: p.detach() for k, p in net.named_parameters()}

    def energy(theta: dict[str, Tensor], x: Tensor) -> Tensor:
        with recording(net, "1", detach=False) as seen:
            functional_call(net, theta, (x[None],))
        return seen["1"].square().sum()

    each = vmap(grad(energy), (None, 0))(theta, xs)
    total = grad(lambda t: sum(energy(t, x) for x in xs))(theta)
    assert_close(each["0.weight"].sum(0), total["0.weight"], **tolerance())
    jacobian = jacrev(energy, argnums=1)(theta, xs[0])
    curvature = hessian(energy, argnums=1)(theta, xs[0])
    w, b = theta["0.weight"], theta["0.bias"]
    h = torch.tanh(w @ xs[0] + b)
    slope = 1 - h**2
    assert_close(jacobian, w.T @ (2 * h * slope), **tolerance())
    assert_close(curvature, w.T @ torch.diag(2 * slope**2 - 4 * h**2 * slope) @ w, **tolerance())


def test_compiled_models_run_eagerly_and_are_seen() -> None:
    model, x = mlp()
    model.eval()
    plain = extract(model, x, progress=False)
    compiled = torch.compile(model, backend="eager")
    found = extract(compiled, x, progress=False)
    assert list(found) == list(plain)
    with recording(compiled, "0") as seen:
        compiled(x)
    assert_close(seen["0"], plain["0"].x, rtol=0, atol=0)
    partly = nn.Sequential(OrderedDict(body=torch.compile(model, backend="eager"), tail=nn.Tanh()))
    found = extract(partly, x, progress=False)
    assert_close(found["body.0"].x, plain["0"].x, rtol=0, atol=0)
    assert not any("_orig_mod" in name for name in found)


@pytest.mark.parametrize("how", ["module", "blocks", "forward", "method"])
def test_hooks_see_through_every_way_of_compiling(how: str) -> None:
    class Block(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.linear, self.compute = nn.Linear(before, after), self.plain

        def plain(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.linear(x))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.compute(x)

    model, x = nn.Sequential(Block(5, 8), Block(8, 3)), mlp()[1]
    layers = ["0.linear", "1.linear", "1"]
    plain = extract(model, x, layers=layers, progress=False)
    if how == "module":
        model.compile(backend="eager")
    for block in model:
        if how == "blocks":
            block.compile(backend="eager")
        elif how == "forward":
            block.forward = torch.compile(block.forward, backend="eager")
        elif how == "method":
            block.compute = torch.compile(block.plain, backend="eager")
    with torch.no_grad():
        model(x)
    found = extract(model, x, layers=layers, progress=False)
    for key, rep in plain.items():
        assert_close(found[key].x, rep.x, rtol=0, atol=0)
    assert hidden_weight_layers(model, x) == ["0.linear"]


def test_parallel_wrappers_leave_the_names_alone() -> None:
    model, x = mlp()
    plain = extract(model, x, progress=False)
    found = extract(nn.DataParallel(model), x, progress=False)
    assert list(found) == list(plain)
    for key, rep in plain.items():
        assert torch.equal(found[key].x, rep.x)


def test_weights_without_values_or_shapes_are_refused() -> None:
    with torch.device("meta"):
        empty = mlp()[0]
    lazy = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
    for model, said in ((empty, "meta device.*load the weights first"), (lazy, "lazy module has no shape yet")):
        for use in (extract, fired_layers, hidden_weight_layers):
            with pytest.raises(BadInput, match=said):
                use(model, torch.ones(4, 5))
    assert isinstance(lazy[0].weight, nn.parameter.UninitializedParameter)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dynamically_quantised_layers_are_extracted_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    model, x = mlp()
    quantised = torch.ao.quantization.quantize_dynamic(model.eval(), {nn.Linear}, dtype=torch.qint8)
    with caplog.at_level("WARNING", logger="geomfeat"):
        found = extract(quantised, x, layers=["0", "weights"], progress=False)
    assert list(found) == ["0", "3"]
    assert "through dynamic quantisation, whose scale is that of the batch" in caplog.text
    plain = extract(model, x, layers="0", progress=False)["0"].x
    assert float((found["0"].x - plain).norm() / plain.norm()) < 0.05


def test_torchscript_is_refused_with_the_remedy() -> None:
    model, x = mlp()
    for scripted in (torch.jit.script(model.eval()), torch.jit.trace(model, x)):
        for use in (
            lambda m=scripted: extract(m, x, progress=False),
            lambda m=scripted: recording(m, "*").__enter__(),
            lambda m=scripted: fired_layers(m, x),
            lambda m=scripted: hidden_weight_layers(m, x),
        ):
            with pytest.raises(BadInput, match=r"eager nn\.Module"):
                use()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"io": "outputs"}, "io='outputs'"), ({"calls": "first"}, "calls='first'"), ({"calls": -1}, "calls=-1")],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    model, _ = mlp()
    with pytest.raises(GeomfeatError, match=said), recording(model, "*", **arguments):
        pass


def test_batchnorm_counts_in_training_mode_are_the_users_own() -> None:
    model, x = conv_bn_residual()
    model.train()
    reference, _ = conv_bn_residual()
    with recording(model, "*"):
        model(x)
    reference(x)
    assert_close(model.state_dict(), reference.state_dict(), rtol=0, atol=0)
