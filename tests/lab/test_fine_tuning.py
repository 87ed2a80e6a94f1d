"""Fine-tuning: the order of the variants, the spaces they are measured in, and the parts of the experiment."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from geomfeat.lab.result import Findings
from geomfeat.lab.tuning.adapters import ALPHA, adapted, merged
from geomfeat.lab.tuning.language import HIDDEN, LENGTH, TOPICS, WORDS, Language, language
from geomfeat.lab.tuning.starts import starts
from geomfeat.lab.tuning.variants import HEAD, LAST, MATRICES, NEW_HEAD, PROMPTED, SCRATCH, lora
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("fine-tuning")


def row(found: Findings, variant: str) -> dict[str, float]:
    return found.table[found.table["variant"] == variant].iloc[0].to_dict()


@pytest.mark.slow
def test_all_checks_hold_and_the_kernel_demand_falls_with_what_the_start_knows(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 8
    knows = [row(found, name) for name in (SCRATCH, NEW_HEAD, PROMPTED)]
    for quantity in ("first loss", "kappa", "kernel change", "gap"):
        values = [one[quantity] for one in knows]
        assert quantity == "first loss" or values == sorted(values, reverse=True), quantity
    assert knows[2]["first loss"] < min(knows[0]["first loss"], knows[1]["first loss"])


@pytest.mark.slow
def test_each_variant_is_measured_in_what_it_trained(found: Findings) -> None:
    assert row(found, HEAD)["trained"] == 34
    assert row(found, HEAD)["regime"] == "frozen"
    assert row(found, LAST)["R of block 1"] == -math.inf
    assert math.isfinite(row(found, MATRICES)["R of block 1"])
    for name in (HEAD, LAST, MATRICES, lora(1), lora(64), SCRATCH):
        assert row(found, name)["space"].startswith(f"{round(row(found, name)['trained']):,} of ")


@pytest.mark.slow
def test_adapters_of_a_larger_rank_demand_less_and_come_nearer_to_their_matrices(found: Findings) -> None:
    few, many, matrices = (row(found, name)["R"] for name in (lora(1), lora(64), MATRICES))
    assert few > many
    assert abs(many - matrices) < abs(few - matrices)


def test_an_adapter_adds_its_scaled_product_and_merging_keeps_the_function() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    one = adapted(net, ["0.weight"], 2, seed=0)
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(one(x), net(x))
    low = one[0].parametrizations.weight[0]
    with torch.no_grad():
        low.up.fill_(0.1)
    whole = merged(one)
    assert torch.allclose(whole[0].weight, net[0].weight + ALPHA / 2 * low.up @ low.down)
    assert torch.allclose(whole(x), one(x))
    assert not torch.equal(low.down, adapted(net, ["0.weight"], 2, seed=1)[0].parametrizations.weight[0].down)


def test_sequences_hide_their_last_word_and_label_words_speak_for_a_class() -> None:
    lang = language(0)
    tokens, hidden, classes = lang.sequences(50, 0, "test")
    assert tokens.shape == (50, LENGTH)
    assert (tokens[:, -1] == HIDDEN).all()
    assert (tokens[:, :-1] < WORDS).all()
    assert set(classes.tolist()) == {0, 1}
    assert not torch.equal(hidden, lang.sequences(50, 1, "test")[1])
    rows = torch.full((TOPICS, WORDS), 1e-3)
    rows[0::2, 4], rows[1::2, 7] = 1.0, 1.0
    assert Language(rows / rows.sum(1, keepdim=True)).label_words == [4, 7]


def test_a_prompted_start_reads_the_logits_of_the_label_words() -> None:
    lang = language(0)
    found, again = (starts(lang, 8, 1, 3, seed=0) for _ in range(2))
    tokens = lang.sequences(5, 0, "test")[0]
    assert np.array_equal(found.prompted(tokens).detach().numpy(), again.prompted(tokens).detach().numpy())
    bodies = [{n: p for n, p in m.named_parameters() if "head" not in n} for m in (found.prompted, found.new_head)]
    assert all(torch.equal(bodies[0][name], bodies[1][name]) for name in bodies[0])
    assert not torch.equal(found.scratch(tokens), found.new_head(tokens))
