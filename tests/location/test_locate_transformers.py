"""Locating transformers that nobody here wrote: the ways that large networks take agree with those of small ones."""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.location import LocateOptions, Location, demand, kernel_place, locate
from geomfeat.location.kernel_forms import compact_kernel
from geomfeat.location.planning import effort

LAYERS = ["transformer.h.0", "transformer.h.1"]


def last(output: Any, inputs: Any) -> Tensor:
    return output.logits[:, -1]


@cache
def trained_and_start() -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """GPT-2 in small with tied embeddings, before and after some steps on tokens that repeat themselves."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("needs the package transformers (extra [models])")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=24, n_positions=8, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    start = GPT2LMHeadModel(config).eval()
    model = copy.deepcopy(start)
    tokens = torch.randint(0, 24, (12, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        logits = model(input_ids=tokens).logits[:, -1]
        nn.functional.cross_entropy(logits, tokens[:, 0]).backward()
        optimizer.step()
    return model, start, {"input_ids": tokens}


def located(**options: Any) -> Location:
    model, start, inputs = trained_and_start()
    return locate(
        model, inputs, initial=start, readout=last, layers=LAYERS, progress=False,
        options=LocateOptions(n_bootstrap=2, share_left=0.01, **options),
    )  # fmt: skip


def test_factors_give_the_demand_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = located(projections=4)
    monkeypatch.setattr(demand, "FACTORED", 0)
    through_factors = located(projections=4)
    assert through_factors.richness == pytest.approx(usual.richness, abs=1e-9)
    for name, layer in through_factors.layers.set_index("layer").iterrows():
        assert layer["richness"] == pytest.approx(usual.layers.set_index("layer").loc[name, "richness"], abs=1e-9)
    assert through_factors.by_probes["richness"].tolist() == pytest.approx(
        usual.by_probes["richness"].tolist(), abs=1e-6
    )
    assert (through_factors.low, through_factors.high) == pytest.approx((usual.low, usual.high), abs=1e-6)


def test_a_sketch_gives_the_place_by_the_formed_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    formed = located()
    compact = lambda f, part, outputs, start, seed: compact_kernel(f, part, seed)  # noqa: E731
    monkeypatch.setattr(kernel_place, "formed_kernel", compact)
    sketched = located()
    assert sketched.richness == formed.richness
    assert sketched.kernel_demand == pytest.approx(formed.kernel_demand, abs=0.15)
    assert sketched.kernel_change == pytest.approx(formed.kernel_change, rel=0.15)
    assert sketched.kernel_excess == pytest.approx(formed.kernel_excess, abs=0.15)
    assert sketched.linearisation_gap == formed.linearisation_gap
    shares, truth = (found.layers.set_index("layer")["kernel_share"] for found in (sketched, formed))
    assert (shares - truth).abs().max() < 0.1


def test_very_many_outputs_take_the_effort_of_a_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare call on a small language model finishes: its Jacobian has more entries than that of a large network."""
    monkeypatch.setattr(effort, "ENTRIES", 1e5)
    model, start, inputs = trained_and_start()
    found = locate(model, inputs, initial=start, progress=False)
    assert (found.details["method"], found.details["projections"]) == ("guided products", 4)
    assert "leading directions" not in str(found.flags)
    options = LocateOptions(projections=4, n_bootstrap=2, share_left=0.01)
    asked = locate(model, inputs, initial=start, progress=False, options=options)
    assert "4 leading directions of the change among 24 outputs" in str(asked.flags)
