"""The same sequences with more padding, on either side: the same location, features, kernel and measures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.activations import ExtractOptions
from tests.models.readouts.networks import moved, padded

transformers = pytest.importorskip("transformers")
CLOSE = {"rel": 1e-9, "abs": 1e-9}
SMALL = {"vocab_size": 12, "pad_token_id": 0}
N = 15  # samples of a study


def gpt2(head: str, layers: int = 2) -> nn.Module:
    """A tiny GPT-2 in float64."""
    config = transformers.GPT2Config(
        n_layer=layers, n_head=2, n_embd=8, n_positions=14, use_cache=False, num_labels=3, bos_token_id=None,
        eos_token_id=None, **SMALL,
    )  # fmt: skip
    torch.manual_seed(0)
    return getattr(transformers, f"GPT2{head}")(config).double().eval()


def bert(head: str, layers: int = 2) -> nn.Module:
    """A tiny BERT in float64."""
    config = transformers.BertConfig(
        num_hidden_layers=layers, num_attention_heads=2, hidden_size=8, intermediate_size=16, num_labels=3,
        max_position_embeddings=14, **SMALL,
    )  # fmt: skip
    torch.manual_seed(0)
    return getattr(transformers, f"Bert{head}")(config).double().eval()


def sequences(tokens: int, left: bool, n: int = 8) -> dict[str, Tensor]:
    """The same sequences, padded to so many tokens; on the left with their positions without it."""
    inputs = padded(tokens, left, n, SMALL["vocab_size"])
    place = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    return {**inputs, "position_ids": place} if left else inputs


CASES = [
    (gpt2, "LMHeadModel", False, "last token, logits less their mean"),
    (gpt2, "LMHeadModel", True, "last token, logits less their mean"),
    (gpt2, "Model", True, "mean over tokens, last hidden state"),
    (bert, "ForSequenceClassification", False, "logits less their mean"),
    (bert, "ForTokenClassification", False, "all tokens but padding, logits less their mean"),
    (bert, "ForMaskedLM", False, "mean over tokens, logits less their mean"),
]
IDS = [f"{head}-{'left' if left else 'right'}" for _, head, left, _ in CASES]


@pytest.mark.parametrize(("family", "head", "left", "said"), CASES, ids=IDS)
def test_features_and_kernels_do_not_see_padding(family: Any, head: str, left: bool, said: str) -> None:
    net = family(head)
    kernels = [gf.ntk(net, sequences(tokens, left)) for tokens in (6, 14)]
    torch.testing.assert_close(kernels[0].gram, kernels[1].gram, rtol=1e-9, atol=1e-9)
    assert kernels[0].meta["readout"] == said
    options = ExtractOptions(batch_size=3, with_outputs=True)
    short, long = (
        gf.extract(net, sequences(tokens, left), layers="weights", progress=False, options=options)
        for tokens in (6, 14)
    )
    assert list(short) == list(long)
    for name, rep in short.items():
        torch.testing.assert_close(long[name].x, rep.x, rtol=1e-9, atol=1e-9)
        assert rep.outputs is not None


@pytest.mark.parametrize(
    ("family", "head", "left"),
    [(gpt2, "Model", True), (bert, "ForTokenClassification", False)],
)
def test_a_location_does_not_see_padding(family: Any, head: str, left: bool) -> None:
    start = family(head, 1)
    end = moved(start, 0.05)
    short, long = (
        gf.locate(end, sequences(tokens, left, 5), initial=start, progress=False,
                  options=gf.LocateOptions(n_bootstrap=2, share_left=0.05))
        for tokens in (6, 14)
    )  # fmt: skip
    assert long.details["n_outputs"] == short.details["n_outputs"]
    for quantity in ("richness", "low", "high", "movement", "excess", "kernel_demand", "kernel_change"):
        assert getattr(long, quantity) == pytest.approx(getattr(short, quantity), **CLOSE), quantity
    torch.testing.assert_close(
        torch.tensor(long.layers[["richness", "movement"]].to_numpy()),
        torch.tensor(short.layers[["richness", "movement"]].to_numpy()), rtol=1e-9, atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize(("left", "lazy"), [(True, False), (False, True)])
def test_no_measure_of_a_study_sees_padding(left: bool, lazy: bool) -> None:
    start = gpt2("ForSequenceClassification")
    end, labels = moved(start, 0.05), torch.arange(N) % 3
    studies = []
    for tokens in (6, 14):
        inputs: Any = sequences(tokens, left, N)
        if lazy:
            inputs = torch.utils.data.DataLoader(
                [{name: t[i] for name, t in inputs.items()} for i in range(N)], batch_size=5
            )
        studies.append(
            gf.analyze(
                end, inputs, labels, initial=start, layers=["transformer.h.0.mlp.c_fc", "transformer.h.1.attn.c_attn"],
                location=False, progress=False, options=gf.StudyOptions(umap=False),
                extraction=ExtractOptions(project=50),
            )
        )  # fmt: skip
    assert studies[0].settings["readout"] == "logits less their mean"
    short, long = (study.table for study in studies)
    assert short["ok"].sum() > 100
    assert short["ok"].tolist() == long["ok"].tolist()
    torch.testing.assert_close(
        torch.tensor(long["value"].to_numpy(float)), torch.tensor(short["value"].to_numpy(float)),
        rtol=1e-6, atol=1e-6, equal_nan=True,
    )  # fmt: skip
