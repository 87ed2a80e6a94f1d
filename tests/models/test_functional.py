"""Any module as a function of its parameters: inputs and outputs of every form, exactness, and no trace left."""

from __future__ import annotations

import copy
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from geomfeat.errors import BadInput
from geomfeat.models.functional import (
    call,
    copied,
    differentiable_attention,
    eager,
    functional,
    output_matrix,
    unwrapped,
)
from geomfeat.models.nested_inputs import as_inputs, batches, map_inputs, moved, n_samples, take
from geomfeat.models.readouts.reading import as_readout
from geomfeat.numerics import WORKING, stream, tolerance
from geomfeat.tangent import ntk
from tests.activations.zoo import ZOO
from tests.zoo import zoo

# torch itself still uses torch.jit in its rules for forward-mode derivatives, and says so on first use.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

NETWORKS = {
    **{f"zoo/{case.name}": (case.model, case.inputs) for case in zoo()},
    **{f"activations/{name}": make() for name, make in ZOO.items()},
}


def normal(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=stream(0, "functional tests", name))


# inputs


def test_arrays_and_lists_of_numbers_are_one_tensor() -> None:
    for inputs in (np.ones((2, 3)), torch.ones(2, 3), [[1, 1, 1], [1.0, 1, 1]], [[np.float32(1)] * 3] * 2):
        out = as_inputs(inputs)
        assert isinstance(out, Tensor)
        assert out.shape == (2, 3)
    assert as_inputs([1, 2]).tolist() == as_inputs((1, 2)).tolist() == [1, 2]


def test_lists_and_tuples_of_arrays_are_positional_arguments() -> None:
    x, mask = np.ones((2, 3)), torch.zeros(2, 3, dtype=torch.bool)
    for inputs in ((x, mask), [x, mask]):
        out = as_inputs(inputs)
        assert isinstance(out, tuple)
        assert [t.dtype for t in out] == [torch.float64, torch.bool]
    assert len(as_inputs(([1, 2], [3, 4]))) == 2  # a tuple of lists: two arguments, not a matrix


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_mappings_are_keyword_arguments(kind: type) -> None:
    out = as_inputs(kind({"tokens": [[1, 2]], "mask": None, "train": False, "mode": "mean", "more": {"x": [1.0]}}))
    assert type(out) is dict
    assert out["tokens"].dtype == torch.int64
    assert out["mask"] is None
    assert out["train"] is False
    assert out["mode"] == "mean"
    assert isinstance(out["more"]["x"], Tensor)


def test_none_among_positional_arguments_stays() -> None:
    x = torch.ones(2, 3)
    assert as_inputs((x, None))[1] is None
    assert as_inputs((None, x))[0] is None
    assert n_samples((None, x)) == 2


def test_inputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="inputs must be a numeric array"):
        as_inputs("digits")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.ones(2, 3), torch.ones(4)), r"got \[2, 4\]"),
        ({"a": torch.ones(2), "b": torch.ones(3, 1)}, r"got \[2, 3\]"),
        (torch.ones(0, 3), r"got \[0\]"),
        (torch.tensor(1.0), r"got \[0\]"),
        ({}, r"got \[\]"),
        ((None, None), r"got \[\]"),
        ([], r"got \[0\]"),
    ],
)
def test_inputs_without_one_number_of_samples_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(BadInput, match=f"same positive number of samples .*{message}"):
        n_samples(inputs)


def test_samples_are_counted_along_the_first_dimension() -> None:
    assert n_samples({"a": np.ones((5, 2)), "b": {"c": torch.ones(5)}, "d": None, "e": True}) == 5


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(-2, 15))
def test_batches_cover_every_sample_once_in_order(n: int, size: int) -> None:
    inputs = {"x": torch.arange(n), "y": (torch.arange(n) * 2.0, None)}
    seen = [(rows, part["x"].tolist(), part["y"][0].tolist()) for rows, part in batches(inputs, size)]
    assert [i for _, x, _ in seen for i in x] == list(range(n))
    assert all(y == [2.0 * i for i in x] for _, x, y in seen)
    assert all(list(range(rows.start, rows.stop)) == x for rows, x, _ in seen)
    assert all(len(x) <= max(1, size) for _, x, _ in seen)


def test_taking_samples_keeps_the_structure() -> None:
    inputs = (torch.arange(4), {"y": torch.arange(4) * 2, "flag": True, "none": None})
    out = take(inputs, torch.tensor([3, 1]))
    assert out[0].tolist() == [3, 1]
    assert out[1]["y"].tolist() == [6, 2]
    assert (out[1]["flag"], out[1]["none"]) == (True, None)
    assert map_inputs(inputs, lambda t: t + 1)[0].tolist() == [1, 2, 3, 4]


def test_only_floating_inputs_change_precision(device: str) -> None:
    inputs = (torch.ones(2), torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool), None)
    x, tokens, mask, none = moved(inputs, torch.device(device), WORKING)
    assert (x.dtype, tokens.dtype, mask.dtype, none) == (WORKING, torch.int64, torch.bool, None)
    assert {t.device.type for t in (x, tokens, mask)} == {device}


# calling


class Doubling(nn.Module):
    """Works in place on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x: Tensor, *, times: Tensor | None = None, shift: bool = False) -> Tensor:
        x.mul_(self.scale if times is None else times)
        return x + 1 if shift else x


def test_models_are_called_by_position_or_by_keyword() -> None:
    x, times = torch.ones(1, 2), torch.full((1, 2), 5.0)
    with torch.no_grad():
        assert call(Doubling(), x).tolist() == [[2.0, 3.0]]
        assert call(Doubling(), (x,)).tolist() == [[2.0, 3.0]]
        assert call(Doubling(), {"x": x, "times": times, "shift": True}).tolist() == [[6.0, 6.0]]
        assert call(Doubling(), {"x": x, "times": None}).tolist() == [[2.0, 3.0]]
    assert x.tolist() == [[1.0, 1.0]]
    assert times.tolist() == [[5.0, 5.0]]


def in_place_first() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def out_of_place(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.ReLU(), *list(copy.deepcopy(model))[1:])


@pytest.mark.parametrize("as_tuple", [False, True])
def test_a_model_that_works_in_place_leaves_the_inputs_alone(as_tuple: bool) -> None:
    model, x = in_place_first(), normal(5, 4).double()
    f, held = functional(model), x.clone()
    inputs = (x,) if as_tuple else x
    expected = out_of_place(model).double()(held)
    for _ in range(2):
        torch.testing.assert_close(f(f.theta, inputs), expected, **tolerance())
        torch.testing.assert_close(call(f.model, inputs), expected, **tolerance())
    assert torch.equal(x, held)


def test_in_place_models_have_derivatives_of_every_kind() -> None:
    model, x = in_place_first(), normal(5, 4).double()
    held = x.clone()
    f, g = functional(model), functional(out_of_place(model))
    tangent = {name: normal(*t.shape, name=name).double() for name, t in f.theta.items()}
    pull = vjp(lambda theta: f(theta, x), f.theta)[1](torch.ones(5, 2, dtype=WORKING))[0]
    reference = vjp(lambda theta: g(theta, x), g.theta)[1](torch.ones(5, 2, dtype=WORKING))[0]
    for name in f.theta:
        torch.testing.assert_close(pull[name], reference[name], **tolerance())
    push = jvp(lambda theta: f(theta, x), (f.theta,), (tangent,))[1]
    torch.testing.assert_close(push, jvp(lambda theta: g(theta, x), (g.theta,), (tangent,))[1], **tolerance())
    by_sample = vmap(lambda row: f(f.theta, row[None])[0])(x)
    torch.testing.assert_close(by_sample, g(g.theta, x), **tolerance())
    torch.testing.assert_close(ntk(model, x).gram, ntk(out_of_place(model), x).gram, **tolerance())
    assert torch.equal(x, held)


def test_in_place_work_with_a_parameter_can_be_differentiated() -> None:
    """x.mul_(scale) mutates the input by what is differentiated: only a copy made inside the function allows that."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    f = functional(Doubling())
    inputs = f.inputs(x)

    def gradients(row: Tensor) -> Tensor:
        return vjp(lambda theta: f(theta, row[None])[0], f.theta)[1](torch.ones(2, dtype=WORKING))[0]["scale"]

    assert vmap(gradients)(inputs).tolist() == x.tolist()  # d(scale_c x_c) / d scale_c = x_c
    assert ntk(Doubling(), x).gram.tolist() == [[5.0, 11.0], [11.0, 25.0]]
    assert inputs.tolist() == x.tolist()


# models


def test_a_compiled_model_is_unwrapped() -> None:
    model = nn.Linear(2, 1)
    wrapper = nn.Module()
    wrapper._orig_mod = model
    assert unwrapped(wrapper) is model
    assert unwrapped(torch.compile(model, backend="eager")) is model
    assert unwrapped(model) is model


@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_models_are_refused(how: str) -> None:
    plain = nn.Linear(2, 1)
    model = torch.jit.script(plain) if how == "script" else torch.jit.trace(plain, torch.ones(1, 2))
    for use in (unwrapped, functional, copied):
        with pytest.raises(BadInput, match=r"TorchScript.*load the eager"):
            use(model)


@pytest.mark.parametrize("model", ["net.pt", None, nn.Linear, {"weight": torch.ones(1)}])
def test_what_is_no_module_is_refused(model: object) -> None:
    with pytest.raises(BadInput, match=r"model must be a torch\.nn\.Module, got"):
        unwrapped(model)


def test_a_compiled_part_runs_its_eager_code() -> None:
    def never(_graph: Any, _examples: Any) -> Any:
        raise AssertionError("compiled")

    plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model = copy.deepcopy(plain)
    model[0] = torch.compile(model[0], backend=never)
    x = normal(5, 3)
    f = functional(model)
    torch.testing.assert_close(f(f.theta, f.inputs(x)), plain.double()(x.double()), **tolerance())
    torch.testing.assert_close(ntk(model, x).gram, ntk(plain, x).gram, **tolerance())
    with eager(model):
        model(x)


class Caching(nn.Linear):
    """Holds what it computed last, with its history, where `hold` puts it."""

    def __init__(self, hold) -> None:
        super().__init__(2, 1)
        self.hold = hold

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.last = self.hold(out)
        return out


@pytest.mark.parametrize("hold", [lambda t: t, lambda t: [t], lambda t: {"out": (t, t)}])
def test_a_model_that_holds_a_history_is_copied_without_it(hold) -> None:
    torch.manual_seed(0)  # for some weights the sum of three numbers cancels, and float32 keeps no six digits of it
    model = Caching(hold)
    model(torch.ones(1, 2))
    clone = copied(model)
    assert clone.weight is not model.weight
    assert torch.equal(clone.weight, model.weight)
    f = functional(model)
    with torch.no_grad():
        assert float(f(f.theta, f.inputs(torch.ones(1, 2)))) == pytest.approx(float(model(torch.ones(1, 2))))


def test_a_model_that_cannot_be_copied_says_why() -> None:
    class Holder:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    model = Caching(Holder)
    functional(model)
    model(torch.ones(1, 2))
    with pytest.raises(BadInput, match=r"the model cannot be copied .*keep no tensors with a gradient history"):
        functional(model)


def test_a_lazy_model_without_shapes_says_what_to_do() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(BadInput, match=r"parameter '0\.weight' of a lazy module.*call the model once"):
        functional(model)
    model(torch.ones(1, 2))
    assert functional(model).n_parameters == 9


# outputs


def test_a_tensor_is_flattened_by_sample() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    assert output_matrix(x).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert output_matrix(torch.ones(4)).shape == (4, 1)


@dataclass
class Detection:
    loss: Tensor | None
    boxes: Tensor
    scores: Tensor


Pair = namedtuple("Pair", ["hidden", "logits"])


class Hugging(OrderedDict):
    """As transformers' ModelOutput: a mapping with attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


A, B = torch.ones(2, 3), torch.zeros(2, 5)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ((A, B), A),
        ([None, (B, A)], B),
        ({"features": B, "logits": A}, A),
        ({"aux": {"logits": A}, "rest": B}, A),
        (Pair(B, A), A),
        (Detection(None, A, B), A),
        (Hugging(loss=torch.tensor(1.0), logits=A, hidden_states=(B, B)), A),
    ],
    ids=["tuple", "nested", "mapping", "nested mapping", "namedtuple", "dataclass", "hugging"],
)
def test_the_main_tensor_of_structured_outputs(output: Any, expected: Tensor) -> None:
    assert torch.equal(output_matrix(output), expected)


@pytest.mark.parametrize("mask_type", [torch.int64, torch.bool, torch.float32])
def test_hidden_states_are_averaged_over_the_tokens_of_the_mask(mask_type: torch.dtype) -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 6.0], [7.0, 7.0], [7.0, 7.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).to(mask_type)
    output = Hugging(last_hidden_state=hidden, pooler_output=B)
    out = output_matrix(output, {"input_ids": mask, "attention_mask": mask})
    assert out.tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert torch.equal(output_matrix(output, mask), hidden.mean(1))
    with pytest.raises(BadInput, match=r"no valid token in sample\(s\) \[1\].*drop"):
        output_matrix(output, {"attention_mask": torch.tensor([[1, 0, 0], [0, 0, 0]])})


def test_a_projection_of_hidden_states_is_the_output() -> None:
    hidden = normal(2, 3, 4)
    assert torch.equal(output_matrix(Hugging(image_embeds=B, last_hidden_state=hidden)), B)
    assert torch.equal(output_matrix(Hugging(text_embeds=hidden, last_hidden_state=hidden)), hidden.mean(1))
    assert torch.equal(output_matrix(Hugging(logits_per_image=A, text_embeds=B, image_embeds=B)), A)
    first = as_readout("cls")
    assert torch.equal(output_matrix(Hugging(image_embeds=B, last_hidden_state=hidden), None, first), hidden[:, 0])


def test_a_recogniser_of_speech_says_something_in_every_frame() -> None:
    class CausalLMOutput(Hugging):
        pass

    frames, sounds = normal(2, 3, 4), normal(2, 30)
    output = CausalLMOutput(logits=frames)
    assert torch.equal(output_matrix(output, {"input_values": sounds}), frames.flatten(1))
    assert torch.equal(output_matrix(output, {"input_ids": torch.ones(2, 3, dtype=torch.int64)}), frames[:, -1])


def test_hidden_maps_are_flattened_not_averaged_as_tokens() -> None:
    maps = normal(2, 3, 4, 4)
    assert torch.equal(output_matrix(Hugging(last_hidden_state=maps), {"attention_mask": None}), maps.reshape(2, -1))


def test_a_readout_decides() -> None:
    inputs = {"x": A}
    assert torch.equal(output_matrix((A, B), inputs, lambda output, given: output[1] + given["x"].sum()), B + 6)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "returns NoneType, not a tensor: pass readout="),
        ("text", "returns str, not a tensor"),
        ({"a": None}, "returns dict with keys 'a', not a tensor: pass readout="),
        (torch.ones(2, 3, dtype=torch.int64), "is torch.int64, not floating point: pass readout="),
        (torch.tensor(0.5), "one number for all samples"),
    ],
    ids=str,
)
def test_outputs_that_are_no_matrix_are_refused(output: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        output_matrix(output)
    with pytest.raises(BadInput, match=r"pass readout=|it must return|one number"):
        output_matrix(A, None, lambda *_: output)


# attention


@pytest.mark.parametrize("fast", [True, False])
def test_attention_flags_come_back(fast: bool) -> None:
    def flags() -> tuple[bool, ...]:
        cuda = torch.backends.cuda
        return (
            torch.backends.mha.get_fastpath_enabled(),
            cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(),
        )  # fmt: skip

    original = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        before = flags()
        with differentiable_attention():
            assert flags() == (False, False, False, True)
        assert flags() == before
        with pytest.raises(ZeroDivisionError), differentiable_attention():
            _ = 1 / 0
        assert flags() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(original)


# the function


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_the_model_in_evaluation_mode(name: str) -> None:
    model, inputs = NETWORKS[name]
    double = copy.deepcopy(model).double().eval()
    f = functional(model)
    given = f.inputs(inputs)
    # With gradients on, torch leaves its fused attention out, which rounds differently and warns of nested tensors.
    expected = output_matrix(call(double, given), given).detach()
    with torch.no_grad():
        torch.testing.assert_close(f(f.theta, given), expected, **tolerance())
        torch.testing.assert_close(f(f.theta, given), expected, **tolerance())  # again: nothing was left behind
    single = functional(model, dtype=torch.float32)
    assert single(single.theta, single.inputs(inputs)).dtype == torch.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_model_and_copy_keep_their_tensors(name: str) -> None:
    """Also with tied weights and with one module under two names, after calls, gradients and other parameters."""
    model, inputs = NETWORKS[name]
    model.train()
    original = {k: v.clone() for k, v in model.state_dict().items()}
    f = functional(model)
    tensors = {k: v.data_ptr() for k, v in f.model.state_dict(keep_vars=True).items()}
    values = {k: v.clone() for k, v in f.model.state_dict().items()}
    given = f.inputs(inputs)
    theta = {k: (2 * t).requires_grad_() for k, t in f.theta.items()}
    torch.autograd.grad(f(theta, given).sum(), list(theta.values()), allow_unused=True)
    if name != "zoo/custom function":  # has no rule for torch.func
        vjp(lambda t: f(t, given), f.theta)[1](torch.ones_like(f(f.theta, given)))
    after = f.model.state_dict(keep_vars=True)
    assert {k: v.data_ptr() for k, v in after.items()} == tensors
    assert all(torch.equal(v, values[k]) for k, v in after.items())
    assert all(isinstance(p, nn.Parameter) for p in f.model.parameters())
    assert all(p.grad is None for p in [*model.parameters(), *f.model.parameters()])
    assert all(torch.equal(v, original[k]) for k, v in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in f.model.modules())


def test_the_copy_is_independent_of_the_model() -> None:
    model = nn.Linear(2, 1)
    f = functional(model)
    before = f(f.theta, f.inputs(torch.ones(1, 2)))
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(f(f.theta, f.inputs(torch.ones(1, 2))), before)


def test_other_parameters_give_the_other_model() -> None:
    for case in zoo():
        f = functional(case.model)
        theta = {name: t + 0.1 * normal(*t.shape, name=name) for name, t in f.theta.items()}
        other = copy.deepcopy(case.model).double().eval()
        named = dict(other.named_parameters())
        with torch.no_grad():
            for name, value in theta.items():
                named[name].copy_(value)
        given = f.inputs(case.inputs)
        torch.testing.assert_close(f(theta, given), output_matrix(call(other, given)).detach(), **tolerance())


def test_a_shared_parameter_counts_once_and_its_gradient_is_that_of_all_uses() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(1, 1, bias=False)
            self.alias = self.first
            self.second = nn.Linear(1, 1, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.alias(self.first(x)))  # w^3 x

    model = Tied()
    with torch.no_grad():
        model.first.weight.fill_(2.0)
    f = functional(model)
    assert list(f.theta) == ["first.weight"]
    assert f.n_parameters == 1
    slope = vjp(lambda theta: f(theta, torch.ones(1, 1, dtype=WORKING)), f.theta)[1](torch.ones(1, 1, dtype=WORKING))[0]
    assert float(slope["first.weight"]) == 12.0  # 3 w^2


def test_normalisation_uses_running_statistics_and_dropout_is_off() -> None:
    norm = nn.BatchNorm1d(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    f = functional(nn.Sequential(norm, nn.Dropout(0.9)).train())
    out = f(f.theta, f.inputs(torch.tensor([[3.0, 5.0]])))
    expected = torch.tensor([[2 / (4 + 1e-5) ** 0.5, 3 / (9 + 1e-5) ** 0.5]], dtype=WORKING)
    torch.testing.assert_close(out, expected, **tolerance())


def test_parametrised_weights_are_functions_of_their_own_parameters() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    f = functional(model)
    assert set(f.theta) == {"bias", "parametrizations.weight.original0", "parametrizations.weight.original1"}
    x = normal(4, 3)
    scaled = {**f.theta, "parametrizations.weight.original1": 5 * f.theta["parametrizations.weight.original1"]}
    torch.testing.assert_close(f(scaled, f.inputs(x)), f(f.theta, f.inputs(x)), **tolerance())  # a direction


# parameters


def three_layers() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    model[2].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, {"0.weight", "0.bias", "4.weight", "4.bias"}),
        ("*.weight", {"0.weight", "4.weight"}),
        (["0.*", "4.bias"], {"0.weight", "0.bias", "4.bias"}),
        (lambda name: name.endswith("bias"), {"0.bias", "4.bias"}),
    ],
    ids=["all", "glob", "globs", "predicate"],
)
def test_parameters_are_chosen_by_name(params: Any, expected: set[str]) -> None:
    model = three_layers()
    f = functional(model, params=params)
    assert set(f.theta) == expected
    everything = dict(model.named_parameters())
    assert set(f.fixed) == set(everything) - expected
    assert f.n_parameters == sum(everything[name].numel() for name in expected)
    x = normal(4, 2)
    torch.testing.assert_close(f(f.theta, f.inputs(x)), model.double()(x.double()).detach(), **tolerance())


def test_a_choice_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match=r"params='conv\*' matches no trainable parameter; near: "):
        functional(three_layers(), params="conv*")
    with pytest.raises(BadInput, match="matches no trainable parameter"):
        functional(three_layers(), params="2.*")  # frozen
    with pytest.raises(BadInput, match="matches no trainable parameter"):
        functional(three_layers(), params=lambda name: False)


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(BadInput, match="no trainable parameters"):
        functional(nn.ReLU())


def test_all_parameters_of_a_frozen_model_count_and_it_says_so() -> None:
    frozen = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).requires_grad_(False)
    f = functional(frozen)
    assert set(f.theta) == {name for name, _ in frozen.named_parameters()}
    assert "requires_grad is False for all parameters" in f.notes[0]
    assert set(functional(frozen, params="0.*").theta) == {"0.weight", "0.bias"}
    assert functional(frozen.requires_grad_(True)).notes == ()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("layer", [0, 2], ids=["trainable", "frozen"])
def test_damaged_weights_are_named(bad: float, layer: int) -> None:
    model = three_layers()
    with torch.no_grad():
        model[layer].weight[0, 0] = bad
    with pytest.raises(BadInput, match=rf"parameter '{layer}\.weight' holds NaN or infinite values"):
        functional(model)


def test_devices_agree(device: str) -> None:
    for case in zoo():
        here, there = functional(case.model), functional(case.model, device=device)
        assert there.device.type == device
        out = there(there.theta, there.inputs(case.inputs))
        assert out.device.type == device
        torch.testing.assert_close(out.cpu(), here(here.theta, here.inputs(case.inputs)), **tolerance(scale=10))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_parameters_are_chosen_by_the_names_that_a_wrapped_model_shows() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    for wrapped, prefix in ((nn.DataParallel(net), "module."), (torch.compile(net, backend="eager"), "_orig_mod.")):
        assert list(functional(wrapped, params=f"{prefix}0.*").theta) == ["0.weight", "0.bias"]
        assert list(functional(wrapped, params=["1.bias"]).theta) == ["1.bias"]
    with pytest.raises(BadInput, match="matches no trainable parameter"):
        functional(net, params="module.0.*")


def test_factors_of_another_precision_leave_that_of_the_network() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    f = functional(net, dtype=torch.float32)
    scaled = f.scaled({"0.weight": torch.rand(4, 3, dtype=torch.float64) + 0.5, "2.bias": 2.0})
    x = f.inputs(torch.ones(2, 3))
    assert {value.dtype for value in scaled.theta.values()} == {torch.float32}
    torch.testing.assert_close(scaled(scaled.theta, x), f(f.theta, x))
    torch.testing.assert_close(scaled.unscaled().theta, f.theta)


def test_borrowed_weights_are_the_models_own_where_they_are_of_its_type() -> None:
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)).double()
    net[1].weight = net[0].weight
    held = functional(net)
    tokens = torch.tensor([[1], [4]])
    borrowed = held.borrowing(net, tokens)
    assert borrowed.theta.keys() == held.theta.keys()
    assert borrowed.theta["0.weight"].data_ptr() == net[0].weight.data_ptr()
    assert torch.equal(borrowed(borrowed.theta, tokens), held(held.theta, tokens))
    narrow = functional(net, dtype=torch.float32).borrowing(net, tokens)
    assert narrow.theta["0.weight"].data_ptr() != net[0].weight.data_ptr()


class Clipped(nn.Linear):
    """Keeps its weights small, in place, whenever it is called."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


def test_weights_that_the_model_changes_itself_are_not_borrowed() -> None:
    net = Clipped(3, 2).double()
    before = net.weight.detach().clone()
    f = functional(net).borrowing(net, torch.ones(4, 3))
    f(f.theta, f.inputs(torch.ones(4, 3)))
    assert f.theta["weight"].data_ptr() != net.weight.data_ptr()
    assert torch.equal(net.weight, before)
    assert float(f.theta["weight"].abs().max()) <= 0.1 < float(before.abs().max())
