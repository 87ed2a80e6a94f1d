"""Sampled tokens as samples: the beginnings of sequences, against the whole ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import geomfeat as gf
from geomfeat.activations import ExtractOptions
from geomfeat.errors import BadInput
from geomfeat.models.readouts.prefixes import sampled
from tests.models.readouts.networks import VOCABULARY, TinyCausalLMOutput, moved, padded, tiny


def test_outputs_and_features_are_those_of_the_whole_sequence_at_valid_tokens() -> None:
    net, inputs, labels = tiny(), padded(9), torch.arange(8) % 2
    _, beginnings, rows = sampled(net, "tokens:2", inputs)
    assert rows is not None
    assert rows.tolist() == torch.arange(8).repeat_interleave(2).tolist()
    at = beginnings["attention_mask"].sum(1) - 1
    assert all(a < b for a, b in at.reshape(8, 2).tolist())
    assert (at < inputs["attention_mask"].sum(1)[rows]).all()
    whole = net(**inputs).logits.detach()[rows, at]
    options = ExtractOptions(readout="tokens:2", with_outputs=True)
    found = gf.extract(net, inputs, labels, layers="mix", reduce="last", progress=False, options=options)["mix"]
    torch.testing.assert_close(found.outputs, whole - whole.mean(1, keepdim=True))
    torch.testing.assert_close(found.x, net.mix(net.embed(inputs["input_ids"])).detach()[rows, at])
    assert found.labels.tolist() == labels[rows].tolist()
    assert found.groups.tolist() == rows.tolist()


def test_tokens_do_not_depend_on_padding_and_follow_the_seed() -> None:
    net = tiny()
    found = [sampled(net, "tokens:2", padded(t, left), seed)[1] for t, left, seed in
             ((6, False, 0), (9, False, 0), (9, True, 0), (6, False, 1))]  # fmt: skip
    counts = [part["attention_mask"].sum(1).tolist() for part in found]
    assert counts[0] == counts[1] == counts[2] != counts[3]


def test_kernels_count_tokens_as_samples_and_locations_group_them_by_sequence() -> None:
    net, inputs = tiny(), padded(6)
    kernel = gf.ntk(net, inputs, readout="tokens:2", outputs="full")
    assert kernel.gram.shape == (16 * VOCABULARY, 16 * VOCABULARY)
    options = gf.LocateOptions(n_bootstrap=2)
    found = [
        gf.locate(moved(net), padded(t), initial=net, readout="tokens:2", options=options, progress=False)
        for t in (6, 9)
    ]
    assert found[0].readout == "2 sampled tokens of each sequence, logits less their mean"
    assert (found[0].details["n_probes"], found[0].details["n_groups"]) == (16, 8)
    assert found[0].richness == pytest.approx(found[1].richness, abs=1e-9)
    assert found[0].movement == pytest.approx(found[1].movement, abs=1e-9)


def test_a_study_repeats_labels_and_holds_samples_out_by_sequence() -> None:
    net = tiny()
    found = gf.analyze(
        moved(net), padded(6), ["a", "b"] * 4, initial=net, measures=["participation_ratio"], location=False,
        progress=False, extraction=ExtractOptions(readout="tokens:2"), options=gf.StudyOptions(umap=False),
    )  # fmt: skip
    assert (found.settings["n"], found.settings["groups"]) == (16, 8)
    assert found.settings["readout"] == "2 sampled tokens of each sequence, logits less their mean"
    assert set(found.table["n"]) == {16}


@pytest.mark.parametrize(
    ("net", "inputs", "readout", "said"),
    [
        (tiny(causal=False), padded(6), "tokens:2", "depends on later ones: use 'masked' or 'mean'"),
        (tiny(), {"input_ids": padded(6)["input_ids"]}, "tokens:2", "needs the attention mask"),
        (tiny(), padded(6), "tokens:3", r"tokens:3': sample\(s\) \[.*\] have fewer valid tokens: take a smaller"),
        (tiny(returns=lambda logits: TinyCausalLMOutput(logits[:, 0])), padded(6), "tokens:2", "samples tokens, but"),
    ],
)
def test_where_tokens_can_be_no_samples_they_are_refused(net: Any, inputs: Any, readout: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        gf.ntk(net, inputs, readout=readout)
