"""Extraction end to end: against activations by the definition, and every kind of bad input."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.testing import assert_close

from geomfeat.activations import ExtractOptions, extract, reduce
from geomfeat.errors import BadInput, LayerDidNotFire, LayerNotFound
from geomfeat.models.functional import output_matrix
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.numerics import tolerance
from tests.activations.zoo import ZOO, conv_bn_residual, gru_cell_loop, lstm, mlp, transformer_encoder_masked
from tests.option_groups import grouped
from tests.reference.activations import one_sample_at_a_time

CLOSE = tolerance(torch.float32)


@pytest.mark.parametrize("name", ZOO)
@settings(deadline=None, max_examples=6)
@given(batch_size=st.integers(1, 7))
def test_every_layer_of_the_zoo_is_what_one_sample_at_a_time_gives(name: str, batch_size: int) -> None:
    model, inputs = ZOO[name]()
    expected = one_sample_at_a_time(model, inputs)
    reps = extract(
        model,
        inputs,
        labels=torch.arange(6) % 2,
        progress=False,
        options=ExtractOptions(batch_size=batch_size, with_outputs=True),
    )
    for module, tensors in expected.items():
        if module == "":
            continue
        keys = [key for key in reps if key.split("[")[0] == module]
        assert len(keys) == len(tensors), module
        for key, calls in zip(keys, tensors, strict=True):
            without = reduce(calls[-1].reshape(6, *reps[key].meta["shape"]), mask=valid_tokens(inputs))
            assert_close(reps[key].x, without, **CLOSE)
            assert reps[key].layer == key
            assert_close(reps[key].outputs, expected[""][0][-1], **CLOSE)
            assert reps[key].labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert {key.split("[")[0] for key in reps} == {module for module in expected if module}


@pytest.mark.parametrize("name", ["gru_cell_loop", "shared_weights"])
def test_every_call_is_what_one_sample_at_a_time_gives(name: str) -> None:
    model, inputs = ZOO[name]()
    reps = extract(model, inputs, progress=False, options=ExtractOptions(calls="all", batch_size=4))
    for module, tensors in one_sample_at_a_time(model, inputs).items():
        for call, expected in enumerate(tensors[0]):
            if module:
                assert_close(reps[f"{module}@{call}"].x, expected, **CLOSE)


def test_final_states_of_an_lstm_have_the_samples_as_rows_although_they_come_second() -> None:
    model, x = lstm(2)  # as many samples as layers: shapes alone cannot tell the axes apart
    final = extract(model, x, layers="rnn", progress=False)["rnn[1][0]"]
    alone = [model.rnn(x[i : i + 1])[1][0].flatten() for i in range(2)]
    assert final.meta["shape"] == (2, 4)
    assert_close(final.x, torch.stack(alone).detach(), **CLOSE)


def test_sequence_first_modules_have_the_samples_as_rows() -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x.transpose(0, 1))[0][-1]

    model, x = TimeFirst(), torch.randn(5, 5, 3, generator=torch.Generator().manual_seed(0))
    reps = extract(model, x, layers="rnn[0]", reduce="last", progress=False)
    assert_close(reps["rnn[0]"].x, model(x).detach(), **CLOSE)


@pytest.mark.parametrize("as_tuple", [False, True])
def test_transformer_with_padding_takes_dict_and_tuple_and_reduces_by_the_mask(as_tuple: bool) -> None:
    model, inputs = transformer_encoder_masked(as_tuple=as_tuple)
    padding = inputs[1] if as_tuple else inputs["src_key_padding_mask"]
    mask = ~padding if as_tuple else None
    reps = extract(
        model,
        inputs,
        layers="encoder",
        reduce="token_mean",
        progress=False,
        options=ExtractOptions(mask=mask, batch_size=4, with_outputs=True),
    )
    by_hand = model.head(reps["encoder"].x)
    assert_close(by_hand.detach(), reps["encoder"].outputs, **CLOSE)
    hidden = extract(model, inputs, layers="encoder", progress=False)["encoder"].x.reshape(6, 5, 8)
    lengths = (~padding).sum(1)
    for how, expected in {
        "cls": hidden[:, 0],
        "last": hidden[torch.arange(6), lengths - 1],
        "token_all": torch.cat([hidden[i, :length] for i, length in enumerate(lengths)]),
    }.items():
        rep = extract(
            model,
            inputs,
            layers="encoder",
            labels=torch.arange(6),
            reduce=how,
            progress=False,
            options=ExtractOptions(mask=mask, batch_size=4),
        )
        assert_close(rep["encoder"].x, expected, **CLOSE)
        assert rep["encoder"].meta["reduce"] == how
    assert rep["encoder"].labels.tolist() == torch.arange(6).repeat_interleave(lengths).tolist()
    assert rep["encoder"].meta["tokens_per_sample"] == lengths.tolist()


def test_an_attention_mask_of_the_inputs_is_used() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 3)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.table(input_ids).sum(1)

    inputs = {"input_ids": torch.arange(6).reshape(2, 3), "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    model = Tokens()
    rep = extract(model, inputs, reduce="last", progress=False)["table"]
    assert torch.equal(rep.x, model.table.weight[[1, 5]].detach())


def test_inputs_of_layers() -> None:
    model, x = mlp()
    reps = extract(model, x, layers=["0", "3"], progress=False, options=ExtractOptions(io="input"))
    assert torch.equal(reps["0"].x, x)
    assert reps["3"].meta["io"] == "input"
    assert_close(reps["3"].x, extract(model, x, layers="2", progress=False)["2"].x)


def test_the_root_can_be_asked_for_by_its_empty_name() -> None:
    model, x = mlp()
    assert_close(extract(model, x, layers=[""], progress=False)[""].x, model.eval()(x).detach())


def test_meta_tells_how_the_features_were_made() -> None:
    model, x = conv_bn_residual()
    rep = extract(model, x, layers="layer1", reduce="adaptive(2)", project=9, seed=5, progress=False)["layer1"]
    assert rep.meta == {
        "reduce": "adaptive(2)", "shape": (4, 5, 5), "project": 9, "seed": 5, "io": "output", "calls": "last",
    }  # fmt: skip
    assert (rep.n, rep.d) == (6, 9)


def test_numpy_inputs_and_double_precision_inputs_are_taken() -> None:
    model, x = mlp()
    plain = extract(model, x, progress=False)["3"].x
    assert_close(extract(model, x.double().numpy(), progress=False)["3"].x, plain)


def test_half_precision_models_are_run_as_they_are_and_widened() -> None:
    model, x = mlp()
    half = extract(model.to(torch.bfloat16), x, progress=False)["3"].x
    assert half.dtype == torch.float32
    assert torch.equal(half, half.bfloat16().float())
    mixed = extract(model, x, project=3, progress=False)["3"]
    assert mixed.meta["precision"] == "bfloat16"
    assert mixed.precision == torch.bfloat16
    assert model[0].weight.dtype == torch.bfloat16


def test_double_precision_is_kept() -> None:
    model, x = mlp()
    assert extract(model.double(), x, progress=False)["3"].x.dtype == torch.float64


def test_a_model_stays_where_it_is_and_a_device_is_worked_on_by_copy(device: str) -> None:
    model, x = mlp()
    parameters = [id(p) for p in model.parameters()]
    reps = extract(model, x, device=device, progress=False)
    assert_close(reps["3"].x, extract(model, x, progress=False)["3"].x, **CLOSE)
    assert reps["3"].x.device.type == "cpu"
    assert [id(p) for p in model.parameters()] == parameters
    moved = mlp()[0].to(device)
    assert_close(extract(moved, x, progress=False)["3"].x, reps["3"].x, **CLOSE)
    assert next(moved.parameters()).device.type == device


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells of a missing CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        extract(*mlp(), device="cuda", progress=False)


def test_patterns_reach_extract() -> None:
    model, x = conv_bn_residual()
    assert list(extract(model, x, layers="block", progress=False)) == ["layer1.0", "layer1.1", "layer2.0"]
    assert list(extract(model, x, layers="weights", progress=False))[-1] == "layer2.0.conv2"
    assert "head" not in extract(model, x, layers="weights", progress=False)
    assert list(extract(model, x, layers=lambda _, m: isinstance(m, nn.Linear), progress=False)) == ["head"]
    assert list(extract(lstm()[0], lstm()[1], layers="weights", progress=False)) == ["rnn[0]"]


def test_the_star_leaves_out_what_does_not_fire_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = transformer_encoder_masked()
    with caplog.at_level(logging.INFO, logger="geomfeat"):
        reps = extract(model, inputs, progress=False)
    assert not any("out_proj" in key for key in reps)
    assert "'encoder.layers.0.self_attn.out_proj' is not called" in caplog.text


def test_a_named_layer_that_never_fires_is_an_error_with_likely_causes() -> None:
    model, inputs = transformer_encoder_masked()
    with pytest.raises(LayerDidNotFire, match=r"layers\.1\.self_attn\.out_proj.*fused attention.*--list"):
        extract(model, inputs, layers="encoder.layers.1.self_attn.out_proj", progress=False)
    with pytest.raises(LayerDidNotFire, match="cell@4"):
        extract(*gru_cell_loop(), layers="cell@4", progress=False)
    with pytest.raises(LayerDidNotFire, match=r"rnn\[7\]"):
        extract(*lstm(), layers="rnn[7]", progress=False)


@pytest.mark.parametrize(
    "pattern",
    [
        "encoder.layers.1.self_attn*",
        "re:layers.1.self_attn",
        lambda name, _: name.startswith("encoder.layers.1.self_attn"),
    ],
)
def test_a_pattern_leaves_out_what_is_not_called_and_says_so(pattern: Any, caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = transformer_encoder_masked()
    with caplog.at_level(logging.INFO, logger="geomfeat"):
        assert list(extract(model, inputs, layers=pattern, progress=False)) == ["encoder.layers.1.self_attn"]
    assert "'encoder.layers.1.self_attn.out_proj' is not called in a forward pass: left out" in caplog.text


def test_a_pattern_whose_matches_are_all_silent_is_an_error() -> None:
    model, inputs = transformer_encoder_masked()
    with pytest.raises(LayerDidNotFire, match=r"'\*out_proj' matches 2 layers .*calls none of them"):
        extract(model, inputs, layers="*out_proj", progress=False)
    with pytest.raises(LayerDidNotFire, match="type:NonDynamicallyQuantizableLinear"):
        extract(model, inputs, layers=["head", "type:NonDynamicallyQuantizableLinear"], progress=False)


def test_the_third_argument_is_labels_as_everywhere() -> None:
    model, x = mlp()
    assert extract(model, x, torch.arange(6) % 3, progress=False)["3"].labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert extract(model, x, ["b", "a", "b", "a", "c", "a"], progress=False)["3"].labels.tolist() == [1, 0, 1, 0, 2, 0]


def test_patterns_given_third_are_taken_as_layers_where_they_can_be_nothing_else() -> None:
    model, x = mlp()
    for third in ("0", ["0"], ["0", "type:Tanh"], lambda name, _: name == "0"):
        found = extract(model, x, third, progress=False)
        assert found["0"].labels is None
        assert set(found) <= {"0", "4"}
    with pytest.raises(BadInput, match="6 names, as many as there are samples, that are also layers: say labels= or"):
        extract(model, x, ["0", "1", "2", "3", "4", "5"], progress=False)
    with pytest.raises(LayerNotFound, match=r"'cat'.*labels=, one for each sample"):
        extract(model, x, ["cat", "dog"], progress=False)
    names = extract(model, x, ["0", "1", "2", "3", "4", "5"], layers="0", progress=False)["0"]
    assert names.classes == ("0", "1", "2", "3", "4", "5")


class Branching(nn.Module):
    """Calls `sometimes` only while the sum of a batch is small."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.always, self.sometimes, self.limit = nn.Linear(2, 2), nn.Linear(2, 2), limit

    def forward(self, x: Tensor) -> Tensor:
        y = self.always(x)
        return self.sometimes(y) if float(x.max()) < self.limit else y


def test_a_named_layer_must_fire_in_every_batch_and_others_are_left_out() -> None:
    x = torch.arange(20.0).reshape(10, 2)
    model = Branching(limit=9)
    with pytest.raises(LayerDidNotFire, match=r"'sometimes' was not called for samples 4 to 8"):
        extract(model, x, layers="sometimes", progress=False, options=ExtractOptions(batch_size=4))
    assert list(extract(model, x, progress=False, options=ExtractOptions(batch_size=4))) == ["always"]
    assert list(extract(model, x, layers="always", progress=False, options=ExtractOptions(batch_size=4))) == ["always"]


def test_a_loop_of_varying_length_is_refused_rather_than_cut() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(1 + int(x.max() > 9)):
                x = self.step(x)
            return x

    x = torch.arange(20.0).reshape(10, 2)
    with pytest.raises(BadInput, match=r"'step' is called more often for some samples.*calls='last'"):
        extract(Loop(), x, progress=False, options=ExtractOptions(calls="all", batch_size=4))
    assert extract(Loop(), x, progress=False, options=ExtractOptions(calls=0, batch_size=4))["step@0"].n == 10


class Constant(nn.Module):
    """One output does not depend on the samples, one folds windows into the batch, one is (n, n)."""

    def __init__(self) -> None:
        super().__init__()
        self.position, self.window, self.pairs, self.fc = (nn.Identity() for _ in range(4))
        self.table = nn.Parameter(torch.ones(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.window(x.reshape(-1, 2))
        self.pairs(x @ x.T)
        return self.fc(x + self.position(self.table))


@pytest.mark.parametrize("name", ["position", "window", "pairs"])
def test_tensors_without_a_sample_axis_are_left_out_or_refused_by_name(name: str) -> None:
    x = torch.ones(7, 4)
    assert list(extract(Constant(), x, progress=False)) == ["fc"]
    with pytest.raises(BadInput, match=f"layer '{name}'.*no dimension is that of the samples"):
        extract(Constant(), x, layers=name, progress=False)


def test_sizes_that_depend_on_the_batch_are_refused_with_the_remedy() -> None:
    class Trimmed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Identity()

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.cut(x[:, : int(lengths.max())]).sum(1)

    x, lengths = torch.ones(6, 5, 2), torch.tensor([3, 3, 3, 3, 5, 5])
    with pytest.raises(BadInput, match=r"layer 'cut'.*depends on the batch"):
        extract(Trimmed(), (x, lengths), layers="cut", progress=False, options=ExtractOptions(batch_size=2))
    assert (
        extract(
            Trimmed(),
            (x, lengths),
            layers="cut",
            reduce="token_mean",
            progress=False,
            options=ExtractOptions(batch_size=2),
        )["cut"].d
        == 2
    )


def test_a_reduction_that_fits_some_layers_only() -> None:
    model, x = conv_bn_residual()
    assert "head" in extract(model, x, reduce="adaptive(2)", progress=False)
    inputs = {"src": torch.ones(4, 5, 8), "src_key_padding_mask": None}
    encoder = transformer_encoder_masked()[0]
    with pytest.raises(BadInput, match="layer 'encoder': mask has shape"):
        extract(
            encoder,
            inputs,
            layers="encoder",
            reduce="last",
            progress=False,
            options=ExtractOptions(mask=torch.ones(4, 7)),
        )
    assert list(
        extract(encoder, inputs, reduce="last", progress=False, options=ExtractOptions(mask=torch.ones(4, 7)))
    ) == ["head"]


@pytest.mark.parametrize("where", [0, 9])
def test_nan_names_the_layer_wherever_it_comes_first(where: int) -> None:
    model, _ = mlp()
    x = torch.ones(10, 5)
    x[where] = float("nan")
    with pytest.raises(BadInput, match=r"layer '0' holds 8 NaN|layer '0' holds 32 NaN"):
        extract(model, x, progress=False, options=ExtractOptions(batch_size=3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": torch.zeros(5)}, "labels has 5 entries, but there are 6 samples"),
        ({"labels": torch.eye(6)}, r"argmax"),
        ({"labels": ["a", float("nan")] * 3}, "3 of 6 labels are missing"),
        ({"groups": np.arange(5)}, "groups has 5 entries, but there are 6 samples"),
        ({"labels": torch.full((6,), 0.5)}, "fractions"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"project": 0}, "project=0"),
        ({"reduce": "average"}, "reduce='average'"),
        ({"mask": torch.ones(5, 2)}, r"mask must be \(6, tokens\)"),
        ({"mask": torch.zeros(6, 2), "reduce": "last"}, r"no valid token in sample\(s\) \[0, 1, 2, 3, 4\]"),
        ({"io": "both"}, "io='both'"),
        ({"calls": "some"}, "calls='some'"),
        ({"layers": []}, "layers is empty"),
        ({"layers": 3}, "layers must be"),
    ],
)
def test_bad_arguments_are_named_with_the_remedy(arguments: dict[str, Any], said: str) -> None:
    model, x = mlp()
    with pytest.raises(BadInput, match=said):
        extract(model, x, progress=False, **grouped(extract, arguments))


def test_unknown_layers_and_inputs_without_samples() -> None:
    model, x = mlp()
    with pytest.raises(LayerNotFound, match="'conv1'"):
        extract(model, x, layers="conv1", progress=False)
    with pytest.raises(BadInput, match="number of samples"):
        extract(model, (x, x[:3]), progress=False)
    with pytest.raises(BadInput, match="number of samples"):
        extract(model, x[:0], progress=False)
    with pytest.raises(BadInput, match=r"torch\.nn\.Module"):
        extract(lambda x: x, x, progress=False)


def test_outputs_go_through_the_readout() -> None:
    model, x = mlp()
    rep = extract(
        model,
        x,
        layers="3",
        progress=False,
        options=ExtractOptions(with_outputs=True, readout=lambda out, given: out[:, :1] + given[:, :1]),
    )
    assert_close(rep["3"].outputs, model.eval()(x)[:, :1].detach() + x[:, :1], **CLOSE)
    assert extract(model, x, layers="3", progress=False)["3"].outputs is None
    assert output_matrix(model(x)).shape == (6, 3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_samples_are_enough(n: int) -> None:
    for build in ZOO.values():
        model, inputs = build(n)
        reps = extract(model, inputs, progress=False)
        assert {rep.n for rep in reps.values()} == {n}


def test_a_model_that_squeezes_single_samples_is_run_on_two() -> None:
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).mean(1)

    assert extract(Squeezing(), torch.ones(1, 3), progress=False)["fc"].x.shape == (1, 4)


def test_progress_is_shown_unless_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = mlp()
    extract(model, x, progress=False)
    assert capsys.readouterr() == ("", "")
    extract(model, x)
    out, err = capsys.readouterr()
    assert out == ""
    assert "6/6" in err


def test_inputs_are_not_changed_by_a_model_that_works_in_place() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 2))
    x = -torch.ones(4, 2)
    extract(net, x, progress=False)
    assert (x == -1).all()
    extract(net, x.numpy(), progress=False)
    assert (x == -1).all()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_layers_that_return_nested_tensors_are_padded_and_know_their_lengths() -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = Cut()

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return torch.stack([part.mean(0) for part in self.cut(x, lengths).unbind()])

    class Cut(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return torch.nested.nested_tensor([row[: int(k)] for row, k in zip(x, lengths, strict=True)])

    x, lengths = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 1, 2, 5, 5, 4])
    rows = [row[:k] for row, k in zip(x, lengths.tolist(), strict=True)]
    for how, expected in {
        "token_mean": torch.stack([row.mean(0) for row in rows]),
        "last": torch.stack([row[-1] for row in rows]),
        "token_all": torch.cat(rows),
    }.items():
        rep = extract(
            Ragged(),
            (x, lengths),
            layers="cut",
            labels=torch.arange(6),
            reduce=how,
            progress=False,
            options=ExtractOptions(batch_size=4),
        )["cut"]
        assert_close(rep.x, expected)
    assert rep.labels.tolist() == torch.arange(6).repeat_interleave(lengths).tolist()
    with pytest.raises(BadInput, match="depends on the batch"):
        extract(Ragged(), (x, lengths), layers="cut", progress=False, options=ExtractOptions(batch_size=3))


@pytest.mark.parametrize("stored", [False, True])
def test_names_and_groups_go_with_the_samples_and_their_tokens(stored: bool, tmp_path: Path) -> None:
    model, x = mlp()
    names, groups = ["b", "a", "c"] * 2, [10, 20, 30, 30, 20, 10]
    store = tmp_path if stored else None
    rep = extract(model, x, layers="0", labels=names, groups=groups, store=store, progress=False)["0"]
    assert rep.classes == ("a", "b", "c")
    assert rep.labels.tolist() == [1, 0, 2] * 2
    assert rep.groups.tolist() == groups
    tokens = torch.randn(6, 4, 5)
    rows = extract(
        nn.Sequential(nn.Linear(5, 3)), tokens, labels=names, groups=groups, reduce="token_all", progress=False
    )
    rep = next(iter(rows.values()))
    assert rep.classes == ("a", "b", "c")
    assert rep.groups.tolist() == torch.tensor(groups).repeat_interleave(4).tolist()


class _Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(tokens)) * attention_mask[..., None])


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("layers", ["*", "type:Linear", "first"])
def test_a_reduction_that_fits_no_layer_is_refused_with_its_reason(how: str, layers: str) -> None:
    x = {"tokens": torch.ones(6, 5, 8), "attention_mask": torch.ones(6, 5, dtype=torch.int64)}
    with pytest.raises(BadInput, match="'token_mean'"):
        extract(_Masked(), x, layers=layers, reduce=how, progress=False)  # type: ignore[arg-type]
