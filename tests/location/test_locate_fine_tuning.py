"""Locating what was fine-tuned: in the parameters that were trained, adapters apart or merged, under a new head."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.lab.tuning.adapters import LowRank, adapted, merged
from geomfeat.lab.tuning.starts import matrices, only
from geomfeat.location import LocateOptions, Location, locate
from geomfeat.models.sources._load_model import source_of
from geomfeat.models.transformer import transformer
from geomfeat.numerics import stream
from tests.reference.demand import demand_in, jacobian_in

VOCABULARY, LENGTH, BLOCKS = 9, 5, ["encoder.layers.0", "encoder.layers.1"]
FIRST = BLOCKS[:1]
SHARE = 0.01
FAST = LocateOptions(n_bootstrap=2, share_left=SHARE)
WAYS = {"adapters": ["named"], "head": ["named"], "last block": ["groups"], "biases": []}  # besides by values


@cache
def tokens(n: int = 8) -> Tensor:
    return torch.randint(0, VOCABULARY, (n, LENGTH), generator=stream(0, "fine-tuned tokens"))


def base(depth: int = 2) -> nn.Module:
    return transformer(vocabulary=VOCABULARY, width=8, depth=depth, steps=LENGTH, outputs=2, seed=0).double()


def start_of(kind: str) -> nn.Module:
    if kind == "adapters":
        return adapted(base(1), matrices(base(1)), 2, seed=0)
    if kind == "biases":
        biases = base(1).requires_grad_(False)
        for name, p in biases.named_parameters():
            p.requires_grad_("bias" in name)
        return biases
    return only(base(), {"head": ["head"], "last block": ["encoder.layers.1"]}[kind])


def descend(start: nn.Module, steps: int = 15, rate: float = 0.3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network after some steps of descent on a small task, and the optimizer: only what requires a gradient."""
    end = copy.deepcopy(start)
    optimizer = torch.optim.SGD([p for p in end.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(end(tokens()), tokens()[:, 0] % 2).backward()
        optimizer.step()
    return end, optimizer


@cache
def tuned(kind: str) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    start = start_of(kind)
    return start, *descend(start)


def blocks_of(model: nn.Module) -> list[str]:
    return [name for name in BLOCKS if name in dict(model.named_modules())]


def place(end: nn.Module, start: nn.Module, layers: Any = None, inputs: Any = None, **how: Any) -> Location:
    inputs = tokens() if inputs is None else inputs
    layers = layers or blocks_of(start)
    return locate(end, inputs, initial=start, layers=layers, options=FAST, progress=False, **how)


@cache
def place_of(kind: str) -> Location:
    start, end, _ = tuned(kind)
    return place(end, start)


def names_in(kind: str) -> list[str]:
    return [name for name, p in tuned(kind)[0].named_parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", WAYS)
def test_the_parameters_that_moved_were_named_or_have_a_rate_give_one_location(kind: str) -> None:
    start, end, optimizer = tuned(kind)
    moved = place_of(kind)
    trained = sum(p.numel() for p in start.parameters() if p.requires_grad)
    every = sum(p.numel() for p in start.parameters())
    assert moved.tangent == f"{trained:,} of {every:,} parameters" + " (adapters)" * (kind == "adapters")
    groups = torch.optim.SGD(
        [{"params": [p for p in end.parameters() if not p.requires_grad], "lr": 0.0}, *optimizer.param_groups], lr=1.0
    )
    others = {"named": {"params": names_in(kind)}, "groups": {"optimizer": groups}}
    for what in WAYS[kind]:
        found = place(end, copy.deepcopy(start).requires_grad_(True), **others[what])
        assert found.tangent == moved.tangent, what
        for name in ("richness", "kernel_demand", "kernel_change", "linearisation_gap", "movement"):
            assert getattr(found, name) == pytest.approx(getattr(moved, name), rel=1e-6, abs=1e-6), (what, name)
    frozen = {"head": BLOCKS, "last block": FIRST}.get(kind, [])
    assert moved.layers.loc[moved.layers["regime"] == "frozen", "layer"].tolist() == frozen


@pytest.mark.parametrize("kind", ["adapters", "last block", "biases"])
def test_location_in_what_was_trained_equals_that_from_its_explicit_jacobian(kind: str) -> None:
    start, end, _ = tuned(kind)
    found = place_of(kind)
    by_hand = demand_in(start, end, tokens(), names_in(kind), blocks_of(start)[-1], shares=[SHARE])
    assert found.layers["richness"].iloc[-1] == pytest.approx(by_hand, abs=1e-3)
    before, after = (kernel_by_hand(model, names_in(kind)) for model in (start, end))
    assert found.kernel_change == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-6)


def kernel_by_hand(model: nn.Module, names: list[str]) -> Tensor:
    model = copy.deepcopy(model).requires_grad_(True)
    j = jacobian_in(model, model(tokens()), names)
    return j @ j.T


def test_the_head_alone_is_frozen_and_its_kernel_cannot_change() -> None:
    found = place_of("head")
    assert found.regime == "frozen"
    assert found.movement == found.kernel_demand == -math.inf
    assert found.kernel_change == pytest.approx(0, abs=1e-12)
    assert found.linearisation_gap == pytest.approx(0, abs=1e-12)


def test_adapters_and_the_weights_they_are_merged_into_are_two_spaces_of_one_movement() -> None:
    start, end, _ = tuned("adapters")
    apart, within = place_of("adapters"), place(merged(end), merged(start))
    assert torch.allclose(merged(end)(tokens()), end(tokens()))
    count = sum(p.numel() for name, p in base(1).named_parameters() if name in matrices(base(1)))
    assert within.tangent == f"{count:,} of {sum(p.numel() for p in base(1).parameters()):,} parameters"
    assert apart.layers["movement"].tolist() == pytest.approx(within.layers["movement"].tolist(), abs=1e-9)
    assert abs(apart.richness - within.richness) > 0.005
    for found, ends in ((apart, (start, end)), (within, (merged(start), merged(end)))):
        names = [n for n, p in ends[0].named_parameters() if n in matrices(base(1)) or n.endswith((".up", ".down"))]
        by_hand = demand_in(*ends, tokens(), names, BLOCKS[0], shares=[SHARE])
        assert found.layers["richness"][0] == pytest.approx(by_hand, abs=1e-3)


def test_adapters_of_full_rank_with_orthogonal_rows_demand_what_the_weights_do() -> None:
    """K = s^2 sum_l <G_l down' down, G_l'> is s^2 times the kernel of the weights where down' down is the identity."""
    start = adapted(base(1), matrices(base(1)), 1, seed=0)
    for path, module in start.named_modules():
        if isinstance(module, LowRank):
            inputs = module.down.shape[1]
            q = torch.linalg.qr(torch.randn(inputs, inputs, generator=stream(0, path), dtype=torch.float64)).Q
            module.down, module.up = nn.Parameter(q), nn.Parameter(torch.zeros(len(module.up), inputs).double())
    end, _ = descend(start, rate=0.01)
    apart, within = place(end, start, FIRST), place(merged(end), merged(start), FIRST)
    assert apart.layers["richness"].tolist() == pytest.approx(within.layers["richness"].tolist(), abs=1e-4)


class Dropping(nn.Module):
    """A network with dropout, in the mode that it is in."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.net = base(1)
        for layer in self.net.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = share

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_dropout_is_off_whatever_the_mode() -> None:
    start, end = Dropping(0.0).eval(), Dropping(0.0).eval()
    end.net = descend(base(1))[0]
    layers = [f"net.{name}" for name in FIRST]
    plain = place(end, start, layers)
    dropping = [Dropping(0.5).train() for _ in range(2)]
    for model, weights in zip(dropping, (start, end), strict=True):
        model.load_state_dict(weights.state_dict())
    found = place(dropping[1], dropping[0], layers)
    assert found.to_json() == plain.to_json()
    assert all(module.training for module in dropping[0].modules())


def last_token(model: nn.Module, inputs: Any) -> Tensor:
    logits = model(**inputs).logits[:, -1]
    return logits - logits.mean(1, keepdim=True)


def language_models() -> tuple[nn.Module, dict[str, Tensor]]:
    tiny = pytest.importorskip("tests.models.sources.tiny")
    config = tiny.gpt_config(n_layer=1, n_embd=6, vocab_size=7, resid_pdrop=0.1, attn_pdrop=0.1, embd_pdrop=0.1)
    ids = torch.randint(0, 7, (4, 4), generator=stream(0, "tied"))
    return tiny.made("GPT2LMHeadModel", config).double(), {"input_ids": ids}


def descended(start: nn.Module, inputs: dict[str, Tensor], steps: int = 8) -> nn.Module:
    end = copy.deepcopy(start)
    optimizer = torch.optim.SGD([p for p in end.parameters() if p.requires_grad], lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(end(**inputs).logits[:, -1], inputs["input_ids"][:, 0]).backward()
        optimizer.step()
    return end


def test_tied_weights_are_one_parameter_that_acts_twice() -> None:
    start, inputs = language_models()
    end = descended(start, inputs)
    layer, tied = "transformer.h.0", ["transformer.wte.weight"]
    assert "lm_head.weight" not in dict(start.named_parameters())
    by_hand = demand_in(start, end, inputs, tied, layer, last_token, [SHARE])
    assert place(end, start, [layer], inputs, params=tied).layers["richness"][0] == pytest.approx(by_hand, abs=1e-3)


def test_adapters_of_peft_are_measured_where_their_term_is_added() -> None:
    tiny = pytest.importorskip("tests.models.sources.tiny")
    plain, inputs = language_models()
    start = tiny.lora(plain, seed=1)
    for name, p in start.named_parameters():
        if "lora_B" in name:
            nn.init.zeros_(p)
    end = descended(start, inputs)
    apart = place(end, start, "*", inputs)
    whole = [copy.deepcopy(model).merge_and_unload() for model in (start, end)]  # pyright: ignore[reportCallIssue]
    within = place(whole[1], whole[0], "*", inputs)
    names = [name.removeprefix("base_model.model.") for name in apart.layers["layer"]]
    assert names == within.layers["layer"].tolist()
    assert "transformer.h.0.attn.c_attn" in names
    assert apart.layers["movement"].tolist() == pytest.approx(within.layers["movement"].tolist(), abs=1e-6)
    moved = [name for name, p in start.named_parameters() if p.requires_grad]
    layer = apart.layers["layer"][0]
    by_hand = demand_in(start, end, inputs, moved, layer, last_token, [SHARE])
    assert apart.layers["richness"][0] == pytest.approx(by_hand, abs=1e-3)
    counts = [sum(p.numel() for p in model.parameters()) for model in (start, whole[0])]
    assert apart.tangent == f"48 of {counts[0]:,} parameters (adapters)"
    assert within.tangent == f"108 of {counts[1]:,} parameters"


def with_head(seed: int) -> nn.Module:
    """A body of width 128, and a head as drawn for a fine-tuning."""
    model = transformer(vocabulary=VOCABULARY, width=128, heads=2, depth=1, steps=LENGTH, outputs=2, seed=0)
    nn.init.normal_(model.head.weight, std=0.02, generator=stream(seed, "a head"))
    nn.init.zeros_(model.head.bias)
    return model


def test_another_draw_of_a_new_head_gives_the_location_of_the_one_that_was_trained() -> None:
    end, _ = descend(with_head(0), steps=40, rate=0.05)
    true, other = (place(end, with_head(seed), FIRST).richness for seed in (0, 1))
    assert other == pytest.approx(true, abs=0.05)
    assert other != true


def test_a_head_that_was_drawn_for_the_start_is_flagged(tmp_path: Path) -> None:
    tiny = pytest.importorskip("tests.models.sources.tiny")
    config = tiny.bert_config(num_hidden_layers=1, num_labels=2)
    end = tiny.made("BertForSequenceClassification", config, seed=1)
    tiny.saved(tiny.made("BertForSequenceClassification", config), tmp_path / "saved_start")
    tiny.saved(tiny.made("BertModel", config), tmp_path / "body")
    source = source_of(f"hf:{tiny.saved(end, tmp_path / 'tuned')}")
    inputs = {"input_ids": tiny.tokens(6)}

    def said(start: nn.Module) -> list[str]:
        found = place(end, copy.deepcopy(start), ["bert.encoder.layer.0"], inputs, optimizer={"*": 0.1})
        return [flag for flag in found.flags if flag.startswith("Fresh draw in the start")]

    (flag,) = said(source.start(tmp_path / "body"))
    assert "lack classifier.weight, classifier.bias, so" in flag
    assert said(source.start(tmp_path / "saved_start")) == []


class WithHead(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def test_a_pretrained_body_alone_is_refused_with_what_to_do() -> None:
    body = base()
    model = WithHead(copy.deepcopy(body)).double()
    with pytest.raises(BadInput, match=r"the part 'body' of the model alone.*start\.body\.load_state_dict\(initial"):
        place(model, body, "block")
    start = copy.deepcopy(model)
    start.body.load_state_dict(body.state_dict())
    start.head.reset_parameters()
    assert place(model, start, "block").movement == -math.inf
