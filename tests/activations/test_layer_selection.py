"""Choosing layers: every kind of pattern, in module order, with errors that help."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from geomfeat.activations import extract, fired_layers, module_name, recording, select_layers, split_key
from geomfeat.errors import BadInput, LayerNotFound
from tests.activations.zoo import conv_bn_residual, lstm, mlp, shared_weights, transformer_encoder_masked

RESNET = conv_bn_residual()[0]
CONVS = [name for name, module in RESNET.named_modules() if isinstance(module, nn.Conv2d)]
BLOCKS = ["layer1.0", "layer1.1", "layer2.0"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("stem", ["stem"]),
        ("layer2.*", [n for n, _ in RESNET.named_modules() if n.startswith("layer2.")]),
        ("layer[12]", ["layer1", "layer2"]),
        ("*.conv?", [n for n in CONVS if n != "stem"]),
        ("re:conv1$", ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"]),
        ("type:Conv2d", CONVS),
        ("type:_ConvNd", CONVS),
        ("block", BLOCKS),
        ("weights", [*CONVS, "head"]),
        ("leaf", [n for n, m in RESNET.named_modules() if not list(m.children())]),
        ("*", [n for n, _ in RESNET.named_modules() if n]),
        (lambda name, module: isinstance(module, nn.Linear) and name == "head", ["head"]),
        (["head", "stem", "re:^stem$"], ["stem", "head"]),
        ("", [""]),
    ],
)
def test_patterns_select_in_module_order_each_once(pattern: object, expected: list[str]) -> None:
    assert select_layers(RESNET, pattern) == expected


@pytest.mark.parametrize("pattern", ["layer9.*", "type:LSTM", "re:^x", "stemm", lambda _n, _m: False])
def test_a_pattern_that_matches_nothing_names_itself_near_names_and_the_list(pattern: object) -> None:
    with pytest.raises(LayerNotFound) as error:
        select_layers(RESNET, ["head", pattern])
    assert "geomfeat extract --list" in str(error.value)
    assert f"All {len(select_layers(RESNET, '*'))} layers" in str(error.value)
    if isinstance(pattern, str):
        assert repr(pattern) in str(error.value)
    else:
        assert "lambda" in str(error.value)


def test_near_names_are_suggested() -> None:
    with pytest.raises(LayerNotFound, match=r"near: .*layer1\.0\.conv1"):
        select_layers(RESNET, "layer1.0.conv")


@pytest.mark.parametrize("pattern", ["re:(", 3, [None]])
def test_what_is_no_pattern_is_refused(pattern: object) -> None:
    with pytest.raises(BadInput, match="pattern"):
        select_layers(RESNET, pattern)


def test_kinds_keep_only_what_fires_and_named_layers_are_kept() -> None:
    model, inputs = transformer_encoder_masked()
    fired = fired_layers(model, inputs)
    out = "encoder.layers.0.self_attn.out_proj"
    assert out in select_layers(model, "leaf")
    assert out not in select_layers(model, "leaf", fired=fired)
    assert out in select_layers(model, ["leaf", out], fired=fired)
    assert "encoder.layers" not in select_layers(model, "encoder.l*")  # a ModuleList is never called


def test_transformer_layers_are_blocks() -> None:
    assert select_layers(transformer_encoder_masked()[0], "block") == ["encoder.layers.0", "encoder.layers.1"]


def _conv_norm() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU())


class _Inverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv_norm(), _conv_norm(), nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Sequential(nn.Linear(1, 1), nn.ReLU()), None),
        (nn.Sequential(_conv_norm(), _conv_norm(), nn.Flatten()), ["0", "1"]),
        # a preprocessing wrapper is looked into, and so are stages
        (nn.Sequential(nn.Identity(), conv_bn_residual()[0]), ["1.layer1.0", "1.layer1.1", "1.layer2.0"]),
        (nn.Sequential(_conv_norm(), nn.Sequential(_Inverted(), _Inverted())), ["0", "1.0", "1.1"]),
        (nn.ModuleList([_Inverted(), _Inverted()]), ["0", "1"]),
    ],
)
def test_blocks_are_the_repeated_units(model: nn.Module, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(LayerNotFound):
            select_layers(model, "block")
    else:
        assert select_layers(model, "block") == expected


def test_embedding_tables_are_no_weight_layers_and_recurrent_ones_are() -> None:
    assert select_layers(nn.Sequential(nn.Embedding(5, 3), nn.LSTM(3, 2)), "weights") == ["1"]
    assert select_layers(lstm()[0], "weights") == ["rnn", "head"]
    parametrized = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), nn.ReLU())
    assert select_layers(parametrized, "weights") == ["0"]


def test_a_shared_module_goes_by_its_first_name() -> None:
    assert select_layers(shared_weights()[0], "*") == ["first", "tied", "head"]


def test_a_path_or_call_selects_one_tensor_of_a_module() -> None:
    model, _ = lstm()
    assert select_layers(model, ["rnn[1][0]", "rnn@0", "head"]) == ["rnn@0", "rnn[1][0]", "head"]
    with pytest.raises(LayerNotFound, match=r"rnm\[0\]"):
        select_layers(model, "rnm[0]")


def test_keys_are_split_into_module_call_and_path() -> None:
    assert split_key("a.0@12[x][1]") == ("a.0", 12, "[x][1]")
    assert split_key("a.0") == ("a.0", None, "")
    assert module_name("@2") == ""


def test_order_does_not_depend_on_the_order_of_patterns() -> None:
    model, _ = mlp()
    assert select_layers(model, ["5", "0", "3"]) == select_layers(model, ["type:Linear"]) == ["0", "3", "5"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_layers_are_chosen_by_the_names_that_a_wrapped_model_shows() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    for wrapped, prefix in ((nn.DataParallel(net), "module."), (torch.compile(net, backend="eager"), "_orig_mod.")):
        assert select_layers(wrapped, f"{prefix}*") == ["0", "1", "2"]
        assert list(extract(wrapped, torch.ones(4, 2), layers=[f"{prefix}0", "2"], progress=False)) == ["0", "2"]
    with pytest.raises(LayerNotFound):
        select_layers(net, "module.0")


def test_a_part_of_the_network_that_is_called_module_keeps_its_name() -> None:
    net = nn.Sequential(OrderedDict(module=nn.Sequential(nn.Linear(2, 3))))
    assert select_layers(nn.DataParallel(net), "module.0") == ["module.0"]
    assert select_layers(nn.DataParallel(net), "module.module.0") == ["module.0"]


WRAPPED = {
    "data parallel": (lambda net: nn.DataParallel(net), "module"),
    "compiled": (lambda net: torch.compile(net, backend="eager"), "_orig_mod"),
    "both": (lambda net: nn.DataParallel(torch.compile(net, backend="eager")), "module._orig_mod"),
    "as in a file": (lambda net: net, "model"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_names_with_the_part_of_a_wrapper_choose_what_is_inside(name: str) -> None:
    wrap, start = WRAPPED[name]
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 1)))
    model = wrap(net)
    for pattern, chosen in (
        (f"{start}.0", ["0"]),
        (f"{start}.2.*", ["2.0"]),
        (rf"re:^{start}\.[01]$", ["0", "1"]),
        (r"re:^[01]$", ["0", "1"]),
    ):
        assert select_layers(model, pattern) == chosen
        with recording(model, pattern) as seen:
            net(torch.ones(4, 2))
        assert list(seen) == chosen
    with pytest.raises(LayerNotFound):
        select_layers(model, f"{start}.7")
    with pytest.raises(LayerNotFound):
        select_layers(model, rf"re:^{start}\.7$")
